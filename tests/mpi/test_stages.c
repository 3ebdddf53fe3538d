/* The stages of sharding in training: the same numbers, less memory, and a rank whose device fails.
 */
#include "device/backend.h"
#include "mpi/train_case.h"
#include "train/trainer.h"

static const lks_layer_spec deep_layers[] = {
    {.type = "flatten"},
    CASE_WIDE,
    CASE_NORMAL,
    CASE_WIDE,
    CASE_WIDE,
    {.type = "residual",
     .block = (const lks_layer_spec[]){CASE_WIDE, CASE_WIDE, CASE_NORMAL, CASE_WIDE, {0}}},
    CASE_WIDE,
    CASE_WIDE,
    CASE_NORMAL,
    CASE_WIDE,
    CASE_WIDE,
    {.type = "linear", .options = "out_features=5"},
    {0},
};

static lks_train_config stage_config(int stage) {
    lks_train_config config = case_config();
    config.zero_stage = stage;
    config.epochs = 2;
    config.bucket_bytes = 512;
    config.first_bucket_bytes = 256;
    config.gradients = "clip_norm=0.5 clip_value=0.1";
    return config;
}

static bool slides(const lks_trainer *trainer) {
    const size_t element = lks_dtype_bytes(lks_device_dtype(trainer->context->device));
    return lks_exchange_grad_bytes(trainer->exchange) <
           (size_t)trainer->plan->padded_count * element;
}

static void check_stages(const char *precision) {
    static train_case runs[CASE_STAGES];
    for (int stage = 0; stage < CASE_STAGES; stage++) {
        const lks_train_config config = stage_config(stage);
        REQUIRE_OK(
            case_open_precision(&runs[stage], MPI_COMM_WORLD, precision, deep_layers, &config));
        MPI_CHECK(slides(runs[stage].trainer) == (stage == 2 && mpi_check_size() > 1));
        REQUIRE_OK(lks_fit(runs[stage].trainer));
        MPI_CHECK(case_same_params(runs[stage].trainer, runs[0].trainer));
    }
    for (int stage = 0; stage < CASE_STAGES; stage++)
        case_close(&runs[stage]);
    mpi_verdict();
}

static void test_stages_give_the_same_bits(void **state) {
    (void)state;
    check_stages("fp32");
    check_stages("bf16");
}

/* Of the parameters of two runs, relative to their length. */
static double distance(lks_trainer *x, lks_trainer *y) {
    int64_t count = 0;
    float *a = case_params(x, &count), *b = case_params(y, &count);
    double difference = 0, length = 0;
    MPI_CHECK(a != NULL && b != NULL);
    for (int64_t i = 0; a != NULL && b != NULL && i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)a[i] * a[i];
    }
    free(a);
    free(b);
    return sqrt(difference / length);
}

/* Where a window slides, micro-batches are added up after the ranks instead of before: other
 * roundings, here over two epochs. Without batch norm, whose statistics are of the micro-batch, one
 * of which may have a single sample. */
static void check_micro_batches(const char *precision, double bound) {
    static train_case runs[2];
    for (int r = 0; r < 2; r++) {
        lks_train_config config = stage_config(2 * r);
        config.micro_batch_size = 3;
        REQUIRE_OK(
            case_open_precision(&runs[r], MPI_COMM_WORLD, precision, case_deep_layers(), &config));
        MPI_CHECK(slides(runs[r].trainer) == (r == 1 && mpi_check_size() > 1));
        REQUIRE_OK(lks_fit(runs[r].trainer));
    }
    MPI_CHECK(distance(runs[0].trainer, runs[1].trainer) < bound);
    case_close(&runs[0]);
    case_close(&runs[1]);
    mpi_verdict();
}

/* In float32 test_exchange has the bound of the roundings. In bfloat16 a gradient is off by some
 * (ranks + micro-batches) 2^-9 of itself, 3 % here; a step of norm 0.5 / 2 at most (clip_norm, lr /
 * (1 - momentum) = 0.5), 14 of them, move the parameters, whose length is about 10, by a third of
 * it at most: 1 %. */
static void test_micro_batches_of_stage_2(void **state) {
    (void)state;
    check_micro_batches("fp32", 1e-5);
    check_micro_batches("bf16", 1e-2);
}

/* The optimizer's state is this rank's equal part of the trainable parameters and at most one unit
 * of alignment for each bucket. */
static void test_memory_of_a_rank(void **state) {
    (void)state;
    for (int stage = 0; stage < CASE_STAGES; stage++) {
        static train_case run;
        lks_train_config config = stage_config(stage);
        config.optimizer = (lks_spec){.type = "adam", .options = "amsgrad=true"};
        REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, deep_layers, &config));
        const lks_trainer *t = run.trainer;
        const lks_shard_plan *plan = t->plan;
        int64_t total = 0;
        for (int i = 0; i < lks_graph_param_count(t->graph); i++) {
            const lks_param *param = lks_graph_param(t->graph, i);
            const int64_t end = param->offset + param->count;
            total = end > total ? end : total;
        }
        const size_t arrays = 3, element = sizeof(float); /* exp_avg, exp_avg_sq, max_exp_avg_sq */
        const size_t measured = lks_optimizer_state_bytes(t->optimizer);
        const size_t part = (size_t)(stage == 0 ? total : total / plan->size);
        const size_t units = (size_t)plan->bucket_count * LKS_SHARD_ALIGN;
        MPI_CHECK(measured == arrays * (size_t)plan->state_count * element);
        MPI_CHECK(measured >= arrays * part * element);
        MPI_CHECK(measured <=
                  arrays * (part + (stage == 0 ? units * (size_t)plan->size : units)) * element);
        const size_t whole = (size_t)plan->padded_count * element;
        const size_t window =
            (size_t)(2 * plan->buckets[1].count + lks_graph_largest_place(t->graph)) * element;
        const size_t shards = (size_t)plan->state_count * element;
        MPI_CHECK(lks_exchange_grad_bytes(t->exchange) ==
                  (stage < 2 || plan->size == 1 ? whole : shards + window));
        MPI_CHECK(t->params.flat_bytes == (size_t)lks_graph_flat_count(t->graph) * element);
        case_close(&run);
    }
    mpi_verdict();
}

/* ---- a device that fails on one rank ---- */

static struct {
    lks_device_backend backend;
    lks_math_ops math;
    const lks_device_backend *good;
    const lks_trainer *trainer;
    int calls_left; /* until one fails; -1: none does */
} broken;

static bool breaks(void) {
    return broken.calls_left >= 0 && broken.calls_left-- == 0;
}

static lks_status broken_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                              int64_t batch, const float *logits, const void *targets,
                              float *dlogits, double *sums) {
    if (breaks()) return lks_fail(LKS_EDEVICE, "the device broke");
    return broken.good->math->loss(device, stream, desc, batch, logits, targets, dlogits, sums);
}

static lks_status broken_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind,
                              int64_t count, lks_dtype type, const void *x, double *norm) {
    if (breaks()) return lks_fail(LKS_EDEVICE, "the device broke");
    return broken.good->math->norm(device, stream, kind, count, type, x, norm);
}

static lks_status broken_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                             const lks_sgd_update *sgd) {
    if (breaks()) return lks_fail(LKS_EDEVICE, "the device broke");
    return broken.good->math->sgd(device, stream, update, sgd);
}

/* The update of the last step of an epoch. */
static lks_status broken_last_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                                  const lks_sgd_update *sgd) {
    const bool last = broken.trainer->position.step == 5 && broken.calls_left >= 0;
    if (last) return lks_fail(LKS_EDEVICE, "the device broke");
    return broken.good->math->sgd(device, stream, update, sgd);
}

/* One call of one function fails on the last rank, the rest goes well. */
static void break_device(lks_device *device, const lks_math_ops *math, int calls) {
    broken.good = device->backend;
    broken.backend = *broken.good;
    broken.math = *broken.good->math;
    if (math->loss) broken.math.loss = math->loss;
    if (math->norm) broken.math.norm = math->norm;
    if (math->sgd) broken.math.sgd = math->sgd;
    broken.backend.math = &broken.math;
    broken.calls_left = mpi_check_rank() == mpi_check_size() - 1 ? calls : -1;
    device->backend = &broken.backend;
}

/* An epoch has 6 steps of a batch each, with 1 loss. Failures in the update of
 * the last step are told when the epoch ends. */
static void test_a_failure_ends_the_run_of_every_rank(void **state) {
    (void)state;
    static const struct {
        lks_math_ops math;
        int calls;
        bool last_step;
    } cases[] = {
        {{.loss = broken_loss}, 2, false},
        {{.norm = broken_norm}, 7, false},
        {{.sgd = broken_sgd}, 3, false},
        {{.sgd = broken_last_sgd}, 0, true},
    };
    for (int stage = 1; stage < CASE_STAGES; stage++)
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            static train_case run;
            const lks_train_config config = stage_config(stage);
            REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, deep_layers, &config));
            lks_device *device = run.context->device;
            broken.trainer = run.trainer;
            break_device(device, &cases[c].math, cases[c].calls);
            MPI_CHECK(lks_fit(run.trainer) == LKS_EDEVICE);
            MPI_CHECK(strstr(lks_last_error(), "the device broke") != NULL);
            MPI_CHECK(lks_trainer_epochs_done(run.trainer) == 0);
            MPI_CHECK((run.trainer->position.step == 6) == cases[c].last_step);
            device->backend = broken.good;
            case_close(&run);
        }
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages_give_the_same_bits),
        cmocka_unit_test(test_micro_batches_of_stage_2),
        cmocka_unit_test(test_memory_of_a_rank),
        cmocka_unit_test(test_a_failure_ends_the_run_of_every_rank),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
