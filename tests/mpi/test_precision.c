/* Training in bfloat16: sharded in every way with the same bits, resumed with the same bits, in the
 * memory that its formula gives, and close to float32. */
#include <stdio.h>
#include <unistd.h>

#include "mpi/train_case.h"
#include "train/trainer.h"

static lks_train_config adam_config(int stage) {
    lks_train_config config = case_config();
    config.zero_stage = stage;
    config.optimizer = (lks_spec){.type = "adam", .options = "lr=0.01"};
    return config;
}

static lks_status open_run(train_case *run, const char *precision, const lks_layer_spec *layers,
                           const lks_train_config *config) {
    return case_open_precision(run, MPI_COMM_WORLD, precision, layers, config);
}

/* The parameters that are computed with, and this rank's masters. */
static bool same_state(const lks_trainer *a, const lks_trainer *b) {
    return memcmp(a->params.flat, b->params.flat, a->params.flat_bytes) == 0 &&
           (a->plan->zero_stage != b->plan->zero_stage ||
            memcmp(a->params.masters, b->params.masters, a->params.master_bytes) == 0);
}

/* At every stage; the case has one micro-batch a step. */
static void stages_give_the_same_bits(void **state) {
    (void)state;
    static const struct {
        const char *precision;
        lks_grad_reduce reduce;
    } kinds[] = {{"bf16", LKS_GRAD_REDUCE_AUTO},
                 {"bf16", LKS_GRAD_REDUCE_FP32},
                 {"fp32", LKS_GRAD_REDUCE_BF16}};
    static train_case runs[CASE_STAGES];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (int stage = 0; stage < CASE_STAGES; stage++) {
            lks_train_config config = adam_config(stage);
            config.grad_reduce_dtype = kinds[k].reduce;
            REQUIRE_OK(open_run(&runs[stage], kinds[k].precision, case_layers, &config));
            REQUIRE_OK(lks_fit(runs[stage].trainer));
            MPI_CHECK(same_state(runs[stage].trainer, runs[0].trainer));
        }
        for (int stage = 0; stage < CASE_STAGES; stage++)
            case_close(&runs[stage]);
    }
    mpi_verdict();
}

/* What a rank has of parameters, gradients and the optimizer's state. */
static size_t state_bytes(const lks_trainer *t) {
    return t->params.flat_bytes + t->params.master_bytes + lks_exchange_grad_bytes(t->exchange) +
           lks_optimizer_state_bytes(t->optimizer);
}

/* With P parameters, padding included, and N ranks: 2 P for those computed with, 2 P for gradients,
 * and 12 P / N for masters and Adam's two states; 12 P where every rank updates all. Stage 2 keeps
 * 2 P / N of the gradients and the window that they go through, of two buckets and a layer: in all
 * 16 P, 4 P + 12 P / N and 2 P + 14 P / N. Gradients that are not rounded take twice as much. */
static void memory_is_that_of_the_formula(void **state) {
    (void)state;
    for (int stage = 0; stage < CASE_STAGES; stage++) {
        for (int reduce = LKS_GRAD_REDUCE_AUTO; reduce <= LKS_GRAD_REDUCE_BF16; reduce++) {
            static train_case run;
            lks_train_config config = adam_config(stage);
            config.bucket_bytes = 512;
            config.first_bucket_bytes = 256;
            config.grad_reduce_dtype = reduce;
            REQUIRE_OK(open_run(&run, "bf16", case_deep_layers(), &config));
            const lks_trainer *t = run.trainer;
            const size_t n = (size_t)mpi_check_size(), all = (size_t)t->plan->padded_count;
            const size_t grad = reduce == LKS_GRAD_REDUCE_FP32 ? 4 : 2;
            const size_t window =
                (size_t)(2 * t->plan->buckets[1].count + lks_graph_largest_place(t->graph));
            size_t expected = (2 + grad + 12) * all;
            if (stage == 1) expected = (2 + grad) * all + 12 * all / n;
            if (stage == 2 && n > 1) expected = 2 * all + (grad + 12) * all / n + grad * window;
            MPI_CHECK(state_bytes(t) == expected);
            case_close(&run);
        }
    }
    mpi_verdict();
}

/* Sums in bfloat16 of gradients in float32: a copy to send, on top. */
static void copies_to_send_take_half_as_much_again(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = adam_config(1);
    config.grad_reduce_dtype = LKS_GRAD_REDUCE_BF16;
    REQUIRE_OK(open_run(&run, "fp32", case_layers, &config));
    const lks_trainer *t = run.trainer;
    const size_t element = mpi_check_size() > 1 ? 6 : 4;
    MPI_CHECK(lks_exchange_grad_bytes(t->exchange) == element * (size_t)t->plan->padded_count);
    case_close(&run);
    mpi_verdict();
}

/* A run that is saved after two of four epochs, restored into another trainer and gone on with. */
static void resumes_with_the_same_bits(void **state) {
    (void)state;
    static train_case whole, first, second;
    char path[64];
    int parent = (int)getppid(); /* the ranks of a host have one */
    MPI_Bcast(&parent, 1, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(path, sizeof path, "/tmp/lockstep-precision-%d.h5", parent);
    const lks_train_config config = adam_config(1);
    REQUIRE_OK(open_run(&whole, "bf16", case_layers, &config));
    REQUIRE_OK(lks_fit(whole.trainer));
    REQUIRE_OK(open_run(&first, "bf16", case_layers, &config));
    for (int epoch = 0; epoch < 2; epoch++)
        REQUIRE_OK(lks_epoch(first.trainer, NULL));
    REQUIRE_OK(lks_trainer_save(first.trainer, path));
    REQUIRE_OK(open_run(&second, "bf16", case_layers, &config));
    REQUIRE_OK(lks_trainer_restore(second.trainer, path));
    MPI_CHECK(same_state(first.trainer, second.trainer));
    REQUIRE_OK(lks_fit(second.trainer));
    MPI_CHECK(same_state(whole.trainer, second.trainer));
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) unlink(path);
    case_close(&whole);
    case_close(&first);
    case_close(&second);
    mpi_verdict();
}

/* A rounding to bfloat16 is wrong by 2^-9 of a number on average at most. It happens a handful of
 * times on the way of a sample through two layers and back, and independently for each, so that a
 * mean over all samples differs by some units of 2^-9 at most: 0.02, with losses near 1. */
static void losses_are_close_to_float32(void **state) {
    (void)state;
    static const struct {
        const char *precision;
        lks_grad_reduce reduce;
        bool differs; /* with several ranks */
    } kinds[] = {{"fp32", LKS_GRAD_REDUCE_AUTO, false},
                 {"fp32", LKS_GRAD_REDUCE_FP32, false},
                 {"fp32", LKS_GRAD_REDUCE_BF16, true},
                 {"bf16", LKS_GRAD_REDUCE_AUTO, true},
                 {"bf16", LKS_GRAD_REDUCE_FP32, true}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    lks_epoch_result results[KINDS];
    for (int k = 0; k < KINDS; k++) {
        static train_case run;
        lks_train_config config = adam_config(1);
        config.grad_reduce_dtype = kinds[k].reduce;
        REQUIRE_OK(open_run(&run, kinds[k].precision, case_layers, &config));
        REQUIRE_OK(lks_epoch(run.trainer, &results[k]));
        case_close(&run);
        const double difference = results[k].train_loss - results[0].train_loss;
        const bool differs = kinds[k].differs && (mpi_check_size() > 1 || k > 2);
        MPI_CHECK(fabs(difference) < 0.02);
        MPI_CHECK((difference != 0) == differs);
    }
    MPI_CHECK(results[3].train_loss != results[4].train_loss);
    mpi_verdict();
}

/* Any number of ranks rounds the same activations; their gradients are rounded on each rank and
 * again in sums over ranks, by 2^-9 on average at most each time and independently. As above: some
 * units of 2^-9 of a loss near 1. */
static void ranks_train_as_one(void **state) {
    (void)state;
    static train_case together, alone;
    lks_epoch_result result, expected;
    lks_train_config config = adam_config(1);
    static const lks_layer_spec layers[] = {
        {.type = "conv2d", .options = "out_channels=6 kernel_size=3 padding=1"},
        {.type = "batch_norm", .options = "synchronize=true"},
        {.type = "relu"},
        {.type = "max_pool2d", .options = "kernel_size=2"},
        {.type = "flatten"},
        {.type = "dropout", .options = "p=0.2"},
        {.type = "linear", .options = "out_features=5"},
        {0},
    };
    REQUIRE_OK(case_open_precision(&together, MPI_COMM_WORLD, "bf16", layers, &config));
    REQUIRE_OK(case_open_precision(&alone, MPI_COMM_SELF, "bf16", layers, &config));
    for (int epoch = 0; epoch < 2; epoch++) {
        REQUIRE_OK(lks_epoch(together.trainer, &result));
        REQUIRE_OK(lks_epoch(alone.trainer, &expected));
        MPI_CHECK(fabs(result.train_loss - expected.train_loss) < 0.01);
        MPI_CHECK(fabs(result.val_loss - expected.val_loss) < 0.01);
    }
    case_close(&together);
    case_close(&alone);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_give_the_same_bits),
        cmocka_unit_test(memory_is_that_of_the_formula),
        cmocka_unit_test(copies_to_send_take_half_as_much_again),
        cmocka_unit_test(resumes_with_the_same_bits),
        cmocka_unit_test(losses_are_close_to_float32),
        cmocka_unit_test(ranks_train_as_one),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
