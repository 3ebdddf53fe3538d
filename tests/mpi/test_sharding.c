/* Sharded equals unsharded: any zero_stage on any number of ranks gives one rank's parameters, to
 * the last bit. */
#include <math.h>

#include "comm/comm.h"
#include "mpi_check.h"
#include "optim/optim.h"

enum { STEPS = 50, MAX_GROUPS = 3, BUCKET_BYTES = 3000, FIRST_BUCKET_BYTES = 700 };

static lks_device *device;

/* The same on every rank: no communication decides the gradients here. */
static float pseudo_random(uint32_t a, uint32_t b) {
    lks_philox_block block = lks_philox((lks_philox_key){{17, a}}, b, 0);
    return 2 * lks_philox_uniform(block.word[0]) - 1;
}

typedef struct sharding_case {
    const char *type, *options;
    int groups;
    const char *overrides[MAX_GROUPS];
    double lr_scale[MAX_GROUPS];
} sharding_case;

static const sharding_case cases[] = {
    {"sgd", "lr=0.05", 1, {0}, {1}},
    {"sgd", "lr=0.05 momentum=0.9 nesterov=true weight_decay=0.05", 1, {0}, {1}},
    {"adam", "lr=0.05 weight_decay=0.1", 1, {0}, {1}},
    {"adamw", "lr=0.05 amsgrad=true weight_decay=0.1", 1, {0}, {1}},
    {"rmsprop", "lr=0.005 momentum=0.9 centered=true weight_decay=0.1", 1, {0}, {1}},
    {"adagrad", "lr=0.05 lr_decay=0.1 initial_accumulator_value=0.5", 1, {0}, {1}},
    {"sgd", "lr=0.05", 3, {NULL, "momentum=0.9", "weight_decay=0.1"}, {1, 1, 0.5}},
    {"adam", "lr=0.05", 3, {NULL, "betas=[0.5,0.9]", "amsgrad=true"}, {1, 2, 1}},
    {"adamw", "lr=0.05", 3, {NULL, "weight_decay=0", "lr=0.01"}, {1, 1, 1}},
    {"rmsprop", "lr=0.005", 3, {NULL, "centered=true", "momentum=0.8"}, {1, 0.5, 1}},
    {"adagrad", "lr=0.05", 3, {NULL, "initial_accumulator_value=2", "eps=0.1"}, {1, 1, 3}},
};

/* Flat parameters that are updated by `optimizer` as `plan` says. */
typedef struct model {
    lks_shard_plan *plan;
    lks_optimizer *optimizer;
    float *params, *grads;
    int64_t count;
} model;

static bool model_open(model *m, const sharding_case *c, int64_t count, int stage, int rank,
                       int size) {
    void *params, *grads;
    const lks_group_range ranges[] = {{count / 7, count / 5, 1}, {count / 2, count / 3, 2}};
    const lks_optimizer_groups groups = {.spec = {c->type, c->options, NULL},
                                         .group_count = c->groups,
                                         .overrides = c->overrides,
                                         .lr_scale = c->lr_scale,
                                         .ranges = ranges,
                                         .range_count = c->groups > 1 ? 2 : 0};
    *m = (model){.count = count};
    if (lks_shard_plan_create(count, BUCKET_BYTES, FIRST_BUCKET_BYTES, stage, rank, size,
                              &m->plan) ||
        lks_optimizer_create(device, &groups, m->plan, &m->optimizer))
        return false;
    size_t bytes = (size_t)m->plan->padded_count * sizeof(float);
    if (lks_device_alloc(device, bytes, &params) || lks_device_alloc(device, bytes, &grads))
        return false;
    m->params = memset(params, 0, bytes);
    m->grads = memset(grads, 0, bytes);
    for (int64_t i = 0; i < count; i++)
        m->params[i] = pseudo_random(0, (uint32_t)i);
    return true;
}

static void model_close(model *m) {
    lks_device_free(device, m->grads);
    lks_device_free(device, m->params);
    lks_optimizer_destroy(m->optimizer);
    lks_shard_plan_destroy(m->plan);
}

/* One step of all buckets, with rates that fall, and gradients of which one in a hundred is
 * clamped. */
static lks_status model_step(model *m, int step) {
    const double divisor = 8;
    lks_group_rates rates[MAX_GROUPS];
    for (int g = 0; g < lks_optimizer_group_count(m->optimizer); g++)
        rates[g] = (lks_group_rates){
            .lr = lks_optimizer_base_lr(m->optimizer, g) * pow(0.97, step),
            .momentum = lks_optimizer_momentum(m->optimizer, g) * pow(0.99, step), /* NAN stays */
        };
    for (int64_t i = 0; i < m->count; i++)
        m->grads[i] = pseudo_random((uint32_t)step + 1, (uint32_t)i);
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 0.5, .clip_value = 0.99 / 16};
    return lks_optimizer_step(m->optimizer, rates, m->params, m->grads, &scale);
}

static lks_status model_gather(model *m, lks_comm *comm) {
    lks_status status = LKS_OK;
    for (int b = 0; !status && m->plan->zero_stage > 0 && b < m->plan->bucket_count; b++) {
        int64_t counts[8];
        for (int r = 0; r < m->plan->size; r++)
            counts[r] = m->plan->buckets[b].count / m->plan->size;
        status = lks_comm_all_gather(comm, m->params + m->plan->buckets[b].offset, counts, LKS_F32);
    }
    return status;
}

/* Sharding is a choice of range, so the numbers are the same to the last bit. Gradients do not
 * depend on parameters here, so that gathering once, at the end, is enough. */
static void compare_with_one_rank(lks_comm *comm, const sharding_case *c, int64_t count,
                                  int stage) {
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    model sharded, alone;
    MPI_REQUIRE(model_open(&sharded, c, count, stage, rank, size));
    MPI_REQUIRE(model_open(&alone, c, count, 0, 0, 1));
    for (int step = 0; step < STEPS; step++) {
        MPI_CHECK(model_step(&sharded, step) == LKS_OK);
        MPI_CHECK(model_step(&alone, step) == LKS_OK);
    }
    MPI_CHECK(model_gather(&sharded, comm) == LKS_OK);
    MPI_CHECK(count == 0 ||
              memcmp(sharded.params, alone.params, (size_t)count * sizeof(float)) == 0);
    for (int64_t i = count; i < sharded.plan->padded_count; i++)
        MPI_CHECK(sharded.params[i] == 0); /* padding stays zero */
    for (int64_t i = 0; i < count; i++)
        MPI_CHECK(sharded.params[i] != pseudo_random(0, (uint32_t)i)); /* something happened */

    /* At most a rank's part and one unit of alignment for each bucket. */
    size_t arrays = (size_t)lks_optimizer_state_array_count(sharded.optimizer);
    size_t parts = stage > 0 ? (size_t)size : 1, units = (size_t)sharded.plan->bucket_count;
    size_t most = (size_t)count / parts + units * LKS_SHARD_ALIGN * (size_t)size / parts;
    MPI_CHECK(lks_optimizer_state_bytes(sharded.optimizer) <= arrays * most * sizeof(float));
    model_close(&alone);
    model_close(&sharded);
}

static void every_optimizer_any_size_any_stage(void **state) {
    (void)state;
    static const int64_t counts[] = {0, 1, 17, 751, 2053};
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_device_create(&config, &device) == LKS_OK);
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, device, NULL, &comm) == LKS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            for (int stage = 0; stage <= 2; stage++)
                compare_with_one_rank(comm, &cases[i], counts[c], stage);
        }
    }
    lks_comm_destroy(comm);
    lks_device_destroy(device);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_optimizer_any_size_any_stage)};
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
