/* The exchange of gradients by itself: where they stand, that every stage gives the same sums, and
 * that a rank whose device fails keeps nobody waiting. */
#include <math.h>

#include "base/base.h"
#include "comm/backend.h"
#include "comm/mpi/mpi.h"
#include "device/backend.h"
#include "mpi/mpi_check.h"
#include "train/exchange.h"

enum { INPUTS = 20, WIDTH = 21, LAYERS = 8, BATCH = 6, STAGES = 3 };

#define WIDE                                            \
    {.type = "linear", .options = "out_features=21"}, { \
        .type = "silu"                                  \
    }
static const lks_layer_spec layers[] = {WIDE, WIDE, WIDE, WIDE, WIDE, WIDE, WIDE, WIDE, {0}};

static lks_device *device;
static lks_comm *comm;
/* Of the parties that are opened: */
static lks_dtype sum_type = LKS_F32;
static bool overlap = true;

/* A model with its exchange, without the rest of a trainer. An update makes the parameters the
 * negative of the gradients' sums where they were zero: lr, scale and divisor are 1. */
typedef struct party {
    lks_graph *graph;
    lks_shard_plan *plan;
    lks_optimizer *optimizer;
    lks_exchange *exchange;
    lks_param_store params;
    lks_failure failure;
} party;

static lks_status make_graph(lks_graph **out) {
    const lks_spec loss = {.type = "mse"};
    const lks_shape input = {1, {INPUTS}};
    const lks_graph_config config = {.seed = 3,
                                     .max_batch = BATCH,
                                     .trainable_multiple =
                                         (int64_t)mpi_check_size() * LKS_SHARD_ALIGN};
    return lks_graph_create(device, layers, &input, &loss, &config, out);
}

static lks_status open_party(party *p, int stage, int64_t bucket_bytes) {
    const lks_optimizer_groups groups = {.spec = {"sgd", "lr=1", NULL}, .group_count = 1};
    const int size = mpi_check_size();
    *p = (party){0};
    lks_status status = make_graph(&p->graph);
    if (!status)
        status = lks_shard_plan_create(lks_graph_trainable_count(p->graph), bucket_bytes, 256,
                                       stage, mpi_check_rank(), size, &p->plan);
    if (!status) status = lks_param_store_create(device, p->plan, p->graph, &p->params);
    if (!status) status = lks_optimizer_create(device, &groups, p->plan, &p->optimizer);
    if (!status)
        status = lks_exchange_create(&(lks_exchange_parts){.comm = comm,
                                                           .device = device,
                                                           .plan = p->plan,
                                                           .optimizer = p->optimizer,
                                                           .graph = p->graph,
                                                           .params = &p->params,
                                                           .sum_type = sum_type,
                                                           .overlap = overlap,
                                                           .failure = &p->failure},
                                     &p->exchange);
    return status;
}

static void close_party(party *p) {
    lks_exchange_destroy(p->exchange);
    lks_optimizer_destroy(p->optimizer);
    lks_shard_plan_destroy(p->plan);
    lks_graph_destroy(p->graph);
    lks_param_store_destroy(&p->params);
}

/* A micro-batch of its own on every rank, through forward and the loss. */
static lks_status load(lks_graph *graph, int micro_batch, lks_batch_info *info) {
    const lks_philox_key key = lks_philox_key_make(7, LKS_RANDOM_INIT, 0);
    const uint64_t first = (uint64_t)(micro_batch * mpi_check_size() + mpi_check_rank()) * 1000;
    float *input = lks_graph_input(graph), *targets = lks_graph_targets(graph);
    double sums[LKS_LOSS_SUM_COUNT] = {0};
    for (uint64_t i = 0; i < BATCH * INPUTS; i++)
        input[i] = 4 * lks_philox_uniform(lks_philox(key, first + i, 0).word[0]) - 2;
    for (uint64_t i = 0; i < BATCH * WIDTH; i++)
        targets[i] = 4 * lks_philox_uniform(lks_philox(key, first + i, 1).word[0]) - 2;
    lks_status status = lks_graph_forward(graph, info);
    return status ? status : lks_graph_loss(graph, info, sums);
}

/* Forward and backward of a step; local failures are noted, as a trainer does. */
static lks_status run_backward(party *p, int micro_batches) {
    lks_status status = LKS_OK;
    for (int m = 0; m < micro_batches && !status; m++) {
        lks_batch_info info = {.batch = BATCH, .training = true};
        status = load(p->graph, m, &info);
        if (!status)
            status =
                lks_exchange_begin(p->exchange, m == 0, m == micro_batches - 1, &info.accumulate);
        if (!status)
            status = lks_graph_backward(p->graph, &info, lks_exchange_grads_ready, p->exchange);
        if (status && status != LKS_ECOMM) {
            lks_failure_note(&p->failure, status);
            status = LKS_OK;
        }
    }
    return status;
}

/* What the ranks agree on after their gradients. */
static lks_status reduce(party *p, lks_norm_kind kind, double *out_norm) {
    double parts[2] = {0, p->failure.status != LKS_OK};
    lks_status status = lks_exchange_reduce(p->exchange, kind, parts);
    if (!status) *out_norm = parts[0];
    return !status && parts[1] > 0 ? lks_comm_agree(comm, lks_failure_tell(&p->failure)) : status;
}

static lks_status start_update(party *p) {
    const double divisor = 1, rates[] = {1, NAN};
    const lks_update_control control = {.step = 1, .grad_scale = 1};
    const lks_grad_scale scale = {.divisor = &divisor, .control = &control, .rates = rates};
    memset(p->params.flat, 0, (size_t)p->plan->padded_count * sizeof(float));
    return lks_exchange_update(p->exchange, &scale);
}

static lks_status update(party *p) {
    lks_status status = start_update(p);
    return status ? status : lks_exchange_settle(p->exchange);
}

/* Bytes of gradient memory for each of `count` elements: what is kept, and what is sent. */
static size_t grad_bytes(const party *p, int64_t count) {
    const bool sends_copies = p->plan->size > 1 && sum_type != LKS_F32;
    return (size_t)count * (sizeof(float) + (sends_copies ? lks_dtype_bytes(sum_type) : 0));
}

/* ---- the same sums ---- */

/* What the sums should be: of all ranks' and micro-batches' gradients, in float64, and of their
 * magnitudes. sums, magnitudes: [padded count]. */
static void add_up_exactly(party *p, int micro_batches, double *sums, double *magnitudes) {
    const int64_t count = p->plan->padded_count;
    lks_graph *graph = NULL;
    float *params = calloc((size_t)count, sizeof *params);
    float *grads = calloc((size_t)count, sizeof *grads);
    MPI_REQUIRE(params && grads);
    MPI_REQUIRE(make_graph(&graph) == LKS_OK);
    MPI_REQUIRE(lks_graph_bind(graph, params, grads) == LKS_OK);
    for (int m = 0; m < micro_batches; m++) {
        lks_batch_info info = {.batch = BATCH, .training = true};
        MPI_CHECK(load(graph, m, &info) == LKS_OK);
        MPI_CHECK(lks_graph_backward(graph, &info, NULL, NULL) == LKS_OK);
        for (int64_t i = 0; i < count; i++) {
            sums[i] += (double)grads[i];
            magnitudes[i] += fabs((double)grads[i]);
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, magnitudes, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    lks_graph_destroy(graph);
    free(params);
    free(grads);
}

/* Every gradient of a rank and a micro-batch passes through at most (ranks - 1) + (micro-batches -
 * 1) additions of float32, whatever the order, each wrong by 2^-24 of its result at most; so the
 * sum is wrong by that many times 2^-24 of the sum of magnitudes (the square of that is less than
 * the half that is added). A gradient itself has the same bits in both, but where backward adds to
 * it: one rounding more for each micro-batch.
 *
 * Summed in bfloat16, a rank's gradient is rounded before and the sum once behind it, each wrong by
 * less than 2^-8 of the sum of magnitudes. */
static void check_sums(party *p, int micro_batches) {
    const int64_t count = p->plan->padded_count;
    const double u = 0x1p-24;
    const double additions = p->plan->size - 1 + 2 * (micro_batches - 1) + 0.5;
    const double sent = sum_type == LKS_F32 ? 0 : 2 * 0x1p-8;
    double *sums = calloc((size_t)count, sizeof *sums);
    double *magnitudes = calloc((size_t)count, sizeof *magnitudes);
    MPI_REQUIRE(sums && magnitudes);
    add_up_exactly(p, micro_batches, sums, magnitudes);
    int64_t nonzero = 0;
    for (int64_t i = 0; i < count; i++) {
        MPI_CHECK(fabs((double)p->params.masters[i] + sums[i]) <=
                  (sent + additions * u) * magnitudes[i]);
        nonzero += sums[i] != 0;
    }
    MPI_CHECK(nonzero >= LAYERS * WIDTH * WIDTH - WIDTH);
    free(sums);
    free(magnitudes);
}

/* With one micro-batch the sums and their norm have the same bits in every stage, with overlap and
 * without; with several, where a window slides, the micro-batches are added up after the ranks and
 * not before. Two steps: the second one starts from what the first one left. */
static void compare_stages(int micro_batches, int64_t bucket_bytes) {
    enum { PARTIES = 2 * STAGES };
    party parties[PARTIES];
    double norms[PARTIES];
    for (int s = 0; s < PARTIES; s++) {
        party *p = &parties[s];
        overlap = s < STAGES;
        MPI_REQUIRE(open_party(p, s % STAGES, bucket_bytes) == LKS_OK);
        for (int step = 0; step < 2; step++) {
            MPI_REQUIRE(run_backward(p, micro_batches) == LKS_OK);
            MPI_REQUIRE(reduce(p, LKS_NORM_2, &norms[s]) == LKS_OK);
        }
        MPI_REQUIRE(update(p) == LKS_OK);
        check_sums(p, micro_batches);
        const size_t bytes = (size_t)p->plan->padded_count * sizeof(float);
        const bool same =
            memcmp(p->params.flat, parties[0].params.flat, bytes) == 0 && norms[s] == norms[0];
        const bool whole =
            lks_exchange_grad_bytes(p->exchange) == grad_bytes(p, p->plan->padded_count);
        MPI_CHECK(norms[s] > 0 && (same || (micro_batches > 1 && !whole)));
    }
    for (int s = 0; s < PARTIES; s++)
        close_party(&parties[s]);
}

static void every_stage_gives_the_same_sums(void **state) {
    (void)state;
    static const int64_t bucket_bytes[] = {256, 2048, 1 << 20};
    for (size_t b = 0; b < sizeof bucket_bytes / sizeof *bucket_bytes; b++) {
        compare_stages(1, bucket_bytes[b]);
        compare_stages(3, bucket_bytes[b]);
    }
    mpi_verdict();
}

static void every_stage_gives_the_same_sums_of_bfloat16(void **state) {
    sum_type = LKS_BF16;
    every_stage_gives_the_same_sums(state);
}

/* What is under way when backward ends, and after the update. */
static void overlap_decides_what_is_under_way(void **state) {
    (void)state;
    for (int stage = 0; stage < 2; stage++) {
        for (int with = 0; with < 2; with++) {
            party p;
            double norm = 0;
            overlap = with;
            MPI_REQUIRE(open_party(&p, stage, 256) == LKS_OK);
            MPI_REQUIRE(run_backward(&p, 2) == LKS_OK);
            MPI_CHECK((comm->active != NULL) == (overlap && mpi_check_size() > 1));
            MPI_REQUIRE(reduce(&p, LKS_NORM_2, &norm) == LKS_OK);
            MPI_CHECK(comm->active == NULL && norm > 0);
            MPI_REQUIRE(start_update(&p) == LKS_OK);
            MPI_CHECK((comm->active != NULL) == (overlap && stage > 0 && mpi_check_size() > 1));
            MPI_REQUIRE(lks_exchange_settle(p.exchange) == LKS_OK);
            close_party(&p);
        }
    }
    mpi_verdict();
}

/* What one rank has is not sent, and so not rounded; what several have is. */
static void gradients_are_rounded_for_others_alone(void **state) {
    (void)state;
    party fine, coarse;
    double norm;
    MPI_REQUIRE(open_party(&fine, 1, 256) == LKS_OK);
    sum_type = LKS_BF16;
    MPI_REQUIRE(open_party(&coarse, 1, 256) == LKS_OK);
    party *const parties[] = {&fine, &coarse};
    for (int i = 0; i < 2; i++) {
        MPI_REQUIRE(run_backward(parties[i], 1) == LKS_OK);
        MPI_REQUIRE(reduce(parties[i], LKS_NORM_2, &norm) == LKS_OK);
        MPI_REQUIRE(update(parties[i]) == LKS_OK);
    }
    int64_t equal = 0, rounded = 0;
    for (int64_t i = 0; i < fine.plan->padded_count; i++) {
        const float sum = coarse.params.masters[i];
        equal += sum == fine.params.masters[i];
        rounded += sum == lks_bf16_to_float(lks_bf16_of_float(sum));
    }
    const bool sends = mpi_check_size() > 1;
    MPI_CHECK((equal == fine.plan->padded_count) == !sends);
    MPI_CHECK((rounded == fine.plan->padded_count) == sends);
    close_party(&coarse);
    close_party(&fine);
    mpi_verdict();
}

/* ---- what forward waits for ---- */

/* What is not waited for still has its old value, zero. */
static void forward_waits_for_gathered_parameters(void **state) {
    (void)state;
    for (int stage = 0; stage < STAGES; stage++) {
        party p[2];
        double norm;
        float *outputs[2];
        for (int late = 0; late < 2; late++) {
            lks_batch_info info = {.batch = BATCH};
            MPI_REQUIRE(open_party(&p[late], stage, 2048) == LKS_OK);
            MPI_REQUIRE(run_backward(&p[late], 1) == LKS_OK);
            MPI_REQUIRE(reduce(&p[late], LKS_NORM_2, &norm) == LKS_OK);
            MPI_REQUIRE(start_update(&p[late]) == LKS_OK);
            if (!late) MPI_REQUIRE(lks_exchange_settle(p[late].exchange) == LKS_OK);
            MPI_REQUIRE(load(p[late].graph, 0, &info) == LKS_OK);
            outputs[late] = (float *)lks_graph_output(p[late].graph);
        }
        MPI_CHECK(memcmp(outputs[0], outputs[1], BATCH * WIDTH * sizeof(float)) == 0);
        MPI_CHECK(outputs[0][0] != 0);
        close_party(&p[0]);
        close_party(&p[1]);
    }
    mpi_verdict();
}

/* ---- memory ---- */

static void stage_2_keeps_a_window_and_its_shards(void **state) {
    (void)state;
    static const int64_t bucket_bytes[] = {256, 700, 1 << 20};
    for (size_t b = 0; b < sizeof bucket_bytes / sizeof *bucket_bytes; b++) {
        for (int stage = 0; stage < STAGES; stage++) {
            party p;
            MPI_REQUIRE(open_party(&p, stage, bucket_bytes[b]) == LKS_OK);
            const int64_t all = p.plan->padded_count;
            int64_t bucket = 0;
            for (int i = 0; i < p.plan->bucket_count; i++)
                bucket = p.plan->buckets[i].count > bucket ? p.plan->buckets[i].count : bucket;
            /* weight [21, 21] and bias [21], each aligned to 16; the padding may come on top */
            const int64_t layer = lks_graph_largest_place(p.graph);
            MPI_CHECK(layer >= 448 + 32 && layer < 448 + 32 + p.plan->size * LKS_SHARD_ALIGN);
            const int64_t sliding = 2 * bucket + layer + p.plan->state_count;
            const bool slides = stage == 2 && p.plan->size > 1 && sliding < all;
            const int64_t shards = slides ? p.plan->state_count : 0;
            MPI_CHECK(lks_exchange_grad_bytes(p.exchange) ==
                      grad_bytes(&p, slides ? sliding - shards : all) +
                          (size_t)shards * sizeof(float));
            MPI_CHECK(slides == (stage == 2 && p.plan->size > 1 && b < 2));
            close_party(&p);
        }
    }
    mpi_verdict();
}

/* ---- a device that fails on one rank ---- */

static struct {
    lks_device_backend backend;
    lks_memory_ops memory;
    lks_math_ops math;
    const lks_device_backend *good;
    bool fails;
} broken;

static lks_status broken_copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                              size_t bytes, lks_copy_kind kind) {
    if (broken.fails && kind == LKS_COPY_ON_DEVICE) return lks_fail(LKS_EDEVICE, "the copy broke");
    return broken.good->memory->copy(device, stream, to, from, bytes, kind);
}

static lks_status broken_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind,
                              int64_t count, lks_dtype type, const void *x, double *norm) {
    if (broken.fails) return lks_fail(LKS_EDEVICE, "the norm broke");
    return broken.good->math->norm(device, stream, kind, count, type, x, norm);
}

static lks_status broken_sgd(lks_device *device, lks_stream *stream, const lks_update *u,
                             const lks_sgd_update *sgd) {
    if (broken.fails) return lks_fail(LKS_EDEVICE, "the update broke");
    return broken.good->math->sgd(device, stream, u, sgd);
}

/* The last rank's device fails from now on in one kind of work. */
static void break_device(const char *work) {
    broken.good = device->backend;
    broken.backend = *broken.good;
    broken.memory = *broken.good->memory;
    broken.math = *broken.good->math;
    broken.backend.memory = &broken.memory;
    broken.backend.math = &broken.math;
    broken.fails = mpi_check_rank() == mpi_check_size() - 1;
    if (strcmp(work, "copy") == 0) broken.memory.copy = broken_copy;
    if (strcmp(work, "norm") == 0) broken.math.norm = broken_norm;
    if (strcmp(work, "update") == 0) broken.math.sgd = broken_sgd;
    device->backend = &broken.backend;
}

static void check_told(lks_status status, const char *work) {
    MPI_CHECK(status == LKS_EDEVICE);
    MPI_CHECK(strstr(lks_last_error(), work) != NULL);
}

static void a_failure_reaches_every_rank(void **state) {
    (void)state;
    static const char *const works[] = {"copy", "norm", "update"};
    for (size_t w = 0; w < sizeof works / sizeof *works; w++) {
        for (int stage = 0; stage < STAGES; stage++) {
            party p;
            double norm;
            char what[32];
            MPI_REQUIRE(open_party(&p, stage, 256) == LKS_OK);
            const bool slides =
                lks_exchange_grad_bytes(p.exchange) != (size_t)p.plan->padded_count * sizeof(float);
            break_device(works[w]);
            snprintf(what, sizeof what, "the %s broke", works[w]);
            MPI_REQUIRE(run_backward(&p, 2) == LKS_OK);
            lks_status status = reduce(&p, LKS_NORM_INF, &norm);
            if (w == 2) {
                MPI_CHECK(status == LKS_OK && update(&p) == LKS_OK);
                MPI_CHECK((p.failure.status != LKS_OK) == broken.fails);
                MPI_REQUIRE(run_backward(&p, 1) == LKS_OK);
                status = reduce(&p, LKS_NORM_2, &norm);
            }
            if (w > 0 || slides)
                check_told(status, what);
            else
                MPI_CHECK(status == LKS_OK);
            device->backend = broken.good;
            close_party(&p);
        }
    }
    mpi_verdict();
}

/* The buckets that are under way when a step breaks off, or was the last. */
static void destroy_waits_for_what_was_started(void **state) {
    (void)state;
    for (int stage = 0; stage < STAGES; stage++) {
        party p;
        double norm;
        MPI_REQUIRE(open_party(&p, stage, 256) == LKS_OK);
        MPI_REQUIRE(run_backward(&p, 1) == LKS_OK);
        close_party(&p);
        MPI_REQUIRE(open_party(&p, stage, 256) == LKS_OK);
        MPI_REQUIRE(run_backward(&p, 1) == LKS_OK);
        MPI_REQUIRE(reduce(&p, LKS_NORM_2, &norm) == LKS_OK);
        MPI_REQUIRE(start_update(&p) == LKS_OK);
        close_party(&p);
    }
    mpi_verdict();
}

static int open_world(void **state) {
    (void)state;
    sum_type = LKS_F32;
    overlap = true;
    const lks_device_config config = {.kind = "cpu", .threads = 1, .local_size = 1};
    return lks_device_create(&config, &device) ||
           lks_comm_create(MPI_COMM_WORLD, device, NULL, &comm);
}

/* As between hosts: there a reduce-scatter uses the other ranks' parts as it likes. */
static int open_world_over_mpi(void **state) {
    return open_world(state) ||
           (lks_comm_size(comm) > 1 && lks_comm_select(comm, &lks_comm_mpi_ops));
}

static int close_world(void **state) {
    (void)state;
    lks_comm_destroy(comm);
    lks_device_destroy(device);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_stage_gives_the_same_sums, open_world, close_world),
        {"every_stage_gives_the_same_sums over MPI", every_stage_gives_the_same_sums,
         open_world_over_mpi, close_world, NULL},
        cmocka_unit_test_setup_teardown(every_stage_gives_the_same_sums_of_bfloat16, open_world,
                                        close_world),
        {"every_stage_gives_the_same_sums_of_bfloat16 over MPI",
         every_stage_gives_the_same_sums_of_bfloat16, open_world_over_mpi, close_world, NULL},
        cmocka_unit_test_setup_teardown(overlap_decides_what_is_under_way, open_world, close_world),
        cmocka_unit_test_setup_teardown(gradients_are_rounded_for_others_alone, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(forward_waits_for_gathered_parameters, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(stage_2_keeps_a_window_and_its_shards, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(a_failure_reaches_every_rank, open_world, close_world),
        cmocka_unit_test_setup_teardown(destroy_waits_for_what_was_started, open_world,
                                        close_world),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
