/* What a run needs of memory, asked before it is built, is what it takes. */
#include "mpi/train_case.h"

#include <sys/stat.h>

#include "train/trainer.h"

/* The case's trainer, on its device, which measures then. */
static lks_status measure(train_case *run, const lks_layer_spec *layers,
                          const lks_train_config *config, lks_trainer_needs *out) {
    lks_device_measure(run->context->device);
    lks_status status = lks_trainer_create(run->context, layers, &case_input, run->train,
                                           run->validation, config, &run->trainer);
    return status ? status : lks_trainer_get_needs(run->trainer, out);
}

static void test_needs_are_taken(void **state) {
    (void)state;
    for (int stage = 0; stage <= 2; stage++) {
        static train_case measured, real;
        lks_trainer_needs needs;
        int64_t kinds[LKS_MEMORY_KINDS];
        lks_train_config config = case_config();
        config.zero_stage = stage;
        REQUIRE_OK(case_open_data(&measured, MPI_COMM_WORLD, "cpu"));
        REQUIRE_OK(measure(&measured, case_layers, &config, &needs));
        REQUIRE_OK(case_open(&real, MPI_COMM_WORLD, &config));
        lks_trainer_device_bytes(real.trainer, kinds);
        MPI_CHECK(memcmp(kinds, needs.kinds, sizeof kinds) == 0);
        MPI_CHECK(needs.device == (int64_t)lks_device_allocated_bytes(real.context->device));
        MPI_CHECK(needs.device > kinds[0] + kinds[1] + kinds[2] + kinds[3]);
        MPI_CHECK(needs.copy == 0);
        case_close(&measured);
        case_close(&real);
        mpi_verdict();
    }
}

/* The outline of a trainer that is one of `size` ranks, from the trainer's own plan. */
static void check_outline(const lks_trainer *t, const lks_outline *outline, int size) {
    int64_t bytes = 0;
    const int64_t most = t->config.micro_batch_size;
    MPI_CHECK(outline->run_steps == 4 * 6); /* 163 samples are 6 batches */
    MPI_CHECK(outline->batch == 30);
    MPI_CHECK(outline->rows == (30 - 1) / size + 1);
    MPI_CHECK(outline->micro_batches == (most > 0 ? (outline->rows - 1) / most + 1 : 1));
    MPI_CHECK(outline->overlap == t->config.overlap);
    MPI_CHECK(outline->gathers_ahead == t->config.overlap);
    MPI_CHECK(outline->updated == t->plan->state_count);
    MPI_CHECK(outline->layer_count == 7 && outline->synchronized_count == 1);
    MPI_CHECK(outline->bucket_count == t->plan->bucket_count && outline->bucket_count >= 2);
    for (int b = 0; b < outline->bucket_count; b++) {
        bytes += outline->buckets[b].grad_bytes;
        MPI_CHECK(b == 0 || outline->buckets[b].layer <= outline->buckets[b - 1].layer);
    }
    MPI_CHECK(bytes == t->plan->padded_count * (int64_t)sizeof(float));
    MPI_CHECK(outline->buckets[0].layer == 6);                         /* fc: complete first */
    MPI_CHECK(outline->buckets[outline->bucket_count - 1].layer == 0); /* conv1 */
}

/* One process alone learns what the first of all ranks has. */
static void test_imagined_ranks(void **state) {
    (void)state;
    const int size = mpi_check_size();
    for (int stage = 0; stage <= 2; stage++) {
        static train_case imagined, real;
        lks_trainer_needs needs;
        lks_outline outlines[2] = {{0}};
        int64_t kinds[LKS_MEMORY_KINDS];
        lks_train_config config = case_config();
        config.zero_stage = stage;
        config.micro_batch_size = stage == 1 ? 4 : 0;
        config.overlap = stage != 2;
        REQUIRE_OK(case_open_data(&imagined, MPI_COMM_SELF, "cpu"));
        lks_comm_imagine(imagined.context->comm, size);
        REQUIRE_OK(measure(&imagined, case_layers, &config, &needs));
        REQUIRE_OK(case_open(&real, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_trainer_get_outline(imagined.trainer, &outlines[0]));
        REQUIRE_OK(lks_trainer_get_outline(real.trainer, &outlines[1]));
        lks_trainer_device_bytes(real.trainer, kinds);
        if (mpi_check_rank() == 0) {
            MPI_CHECK(memcmp(kinds, needs.kinds, sizeof kinds) == 0);
            MPI_CHECK((needs.sums > 0) == (size > 1));
            check_outline(imagined.trainer, &outlines[0], size);
            check_outline(real.trainer, &outlines[1], size);
        }
        for (int i = 0; i < 2; i++)
            lks_outline_free(&outlines[i]);
        case_close(&imagined);
        case_close(&real);
        mpi_verdict();
    }
}

static const char path[] = "/tmp/lockstep-test-needs.h5";

/* The ranks' parts are together what stands in a file, whose rest is small. */
static void test_checkpoint_bytes(void **state) {
    (void)state;
    enum { REST = 64 << 10 };
    static train_case measured, real;
    lks_trainer_needs needs;
    lks_train_config config = case_config();
    config.checkpoint = "async=true";
    REQUIRE_OK(case_open_data(&measured, MPI_COMM_WORLD, "cpu"));
    REQUIRE_OK(measure(&measured, case_layers, &config, &needs));
    REQUIRE_OK(case_open(&real, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_save(real.trainer, path));
    int64_t bytes = needs.checkpoint;
    REQUIRE_OK(lks_comm_all_reduce(real.context->comm, &bytes, 1, LKS_I64, LKS_REDUCE_SUM));
    struct stat info = {0};
    MPI_CHECK(stat(path, &info) == 0);
    MPI_CHECK(info.st_size >= bytes && info.st_size < bytes + REST);
    MPI_CHECK(needs.copy == needs.checkpoint && needs.copy > 0);
    case_close(&measured);
    case_close(&real);
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) remove(path);
    mpi_verdict();
}

/* More than any machine has: 2^40 weights. */
static void test_more_than_there_is(void **state) {
    (void)state;
    static const lks_layer_spec layers[] = {
        {.type = "flatten"},
        {.type = "linear", .options = "out_features=1048576"},
        {.type = "linear", .options = "out_features=1048576"},
        {.type = "linear", .options = "out_features=5"},
        {0},
    };
    static train_case measured;
    lks_trainer_needs needs;
    lks_train_config config = case_config();
    config.bucket_bytes = (int64_t)1 << 40; /* few buckets */
    REQUIRE_OK(case_open_data(&measured, MPI_COMM_WORLD, "cpu"));
    REQUIRE_OK(measure(&measured, layers, &config, &needs));
    MPI_CHECK(needs.kinds[LKS_MEMORY_PARAMETERS] > (int64_t)4 << 40);
    MPI_CHECK(needs.kinds[LKS_MEMORY_GRADIENTS] > (int64_t)4 << 40);
    case_close(&measured);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needs_are_taken),
        cmocka_unit_test(test_imagined_ranks),
        cmocka_unit_test(test_checkpoint_bytes),
        cmocka_unit_test(test_more_than_there_is),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
