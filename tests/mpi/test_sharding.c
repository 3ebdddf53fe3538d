/* Sharded equals unsharded: zero_stage 0 and 1 on any number of ranks give one rank's parameters.
 */
#include <math.h>

#include "comm/comm.h"
#include "mpi_check.h"
#include "optim/optim.h"

enum { STEPS = 50, BUCKET_BYTES = 3000, FIRST_BUCKET_BYTES = 700 };

static lks_device *device;

/* The same on every rank: no communication decides the gradients here. */
static float pseudo_random(uint32_t a, uint32_t b) {
    lks_philox_block block = lks_philox((lks_philox_key){{17, a}}, b, 0);
    return 2 * lks_philox_uniform(block.word[0]) - 1;
}

/* Flat parameters that are updated by `optimizer` as `plan` says. */
typedef struct model {
    lks_shard_plan *plan;
    lks_optimizer *optimizer;
    float *params, *grads;
    int64_t count;
} model;

static bool model_open(model *m, const lks_spec *spec, int64_t count, int stage, int rank,
                       int size) {
    void *params, *grads;
    const lks_optimizer_groups groups = {.spec = *spec, .group_count = 1};
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

/* One step bucket by bucket, each gathered as soon as it is updated. comm NULL: one rank. */
static lks_status model_step(model *m, lks_comm *comm, int step, double lr) {
    const double divisor = 8;
    for (int64_t i = 0; i < m->count; i++)
        m->grads[i] = pseudo_random((uint32_t)step + 1, (uint32_t)i);
    const lks_group_rates rates = {.lr = lr, .momentum = NAN};
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 1};
    lks_status status = lks_optimizer_begin_step(m->optimizer, &rates);
    for (int b = 0; !status && b < m->plan->bucket_count; b++) {
        status = lks_optimizer_step_bucket(m->optimizer, b, m->params, m->grads, &scale);
        if (status || !comm || m->plan->zero_stage == 0) continue;
        int64_t counts[8];
        for (int r = 0; r < m->plan->size; r++)
            counts[r] = m->plan->buckets[b].count / m->plan->size;
        status = lks_comm_all_gather(comm, m->params + m->plan->buckets[b].offset, counts, LKS_F32);
    }
    return status;
}

/* Sharding is a choice of range, so the numbers are the same to the last bit. */
static void compare_with_one_rank(lks_comm *comm, const lks_spec *spec, int64_t count, int stage) {
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    model sharded, alone;
    MPI_REQUIRE(model_open(&sharded, spec, count, stage, rank, size));
    MPI_REQUIRE(model_open(&alone, spec, count, 0, 0, 1));
    for (int step = 0; step < STEPS; step++) {
        double lr = 0.05 * pow(0.97, step);
        MPI_CHECK(model_step(&sharded, comm, step, lr) == LKS_OK);
        MPI_CHECK(model_step(&alone, NULL, step, lr) == LKS_OK);
    }
    MPI_CHECK(count == 0 ||
              memcmp(sharded.params, alone.params, (size_t)count * sizeof(float)) == 0);
    for (int64_t i = count; i < sharded.plan->padded_count; i++)
        MPI_CHECK(sharded.params[i] == 0); /* padding stays zero */
    for (int64_t i = 0; i < count; i++)
        MPI_CHECK(sharded.params[i] != pseudo_random(0, (uint32_t)i)); /* something happened */

    /* At most a rank's part and one unit of alignment for each bucket. */
    size_t arrays = (size_t)lks_optimizer_state_array_count(sharded.optimizer);
    size_t most = (size_t)count;
    if (stage == 1) most = most / (size_t)size;
    most += (size_t)sharded.plan->bucket_count * LKS_SHARD_ALIGN * (stage == 1 ? 1 : (size_t)size);
    MPI_CHECK(lks_optimizer_state_bytes(sharded.optimizer) <= arrays * most * sizeof(float));
    model_close(&alone);
    model_close(&sharded);
}

static void every_optimizer_any_size_any_stage(void **state) {
    (void)state;
    static const lks_spec specs[] = {
        {.type = "sgd"},
        {.type = "sgd", .options = "momentum=0.9 nesterov=true weight_decay=0.05"},
        {.type = "adam", .options = "weight_decay=0.1"},
        {.type = "adamw", .options = "amsgrad=true weight_decay=0.1"},
    };
    static const int64_t counts[] = {0, 1, 17, 751, 4099};
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_device_create(&config, &device) == LKS_OK);
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, device, NULL, &comm) == LKS_OK);
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            for (int stage = 0; stage <= 1; stage++)
                compare_with_one_rank(comm, &specs[s], counts[c], stage);
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
