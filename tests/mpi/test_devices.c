/* A run on a GPU is the run on the CPU, up to rounding; it repeats itself to the last bit; and its
 * checkpoints are those of any device. Skipped where there is no GPU, real or emulated, unless the
 * program is called with the argument "cuda": then there must be one. */
#include <string.h>
#include <unistd.h>

#include "mpi/train_case.h"
#include "train/trainer.h"

static bool close_to(double a, double b, double relative) {
    return fabs(a - b) <= relative * fmax(fabs(a), fabs(b));
}

static bool is_gpu_required; /* set once, from the program's arguments */

/* The same on every rank. */
static void skip_without_gpu(void) {
    const lks_context_config config = {.device = "cuda", .threads = 1};
    lks_context *context = NULL;
    const lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &context);
    lks_context_destroy(context);
    if (status == LKS_EUNSUPPORTED && !is_gpu_required) skip();
    REQUIRE_OK(status);
}

static lks_train_config device_config(void) {
    lks_train_config config = case_config();
    config.epochs = 2;
    config.batch_size = 60;
    return config;
}

static lks_status open_on(train_case *run, const char *device, const lks_train_config *config) {
    return case_open_on(run, MPI_COMM_WORLD, device, case_layers, config);
}

/* 1e-4: float32 sums in another order, over two epochs (measured on the emulated GPU: 2e-8). */
static void test_a_gpu_trains_like_the_cpu(void **state) {
    (void)state;
    skip_without_gpu();
    static train_case gpu, cpu;
    const lks_train_config config = device_config();
    REQUIRE_OK(open_on(&gpu, "cuda", &config));
    REQUIRE_OK(open_on(&cpu, "cpu", &config));
    MPI_CHECK(case_same_params(gpu.trainer, cpu.trainer)); /* initial weights: the same bits */
    REQUIRE_OK(lks_fit(gpu.trainer));
    REQUIRE_OK(lks_fit(cpu.trainer));

    int64_t count_a, count_b;
    const lks_epoch_result *a = lks_trainer_history(gpu.trainer, &count_a);
    const lks_epoch_result *b = lks_trainer_history(cpu.trainer, &count_b);
    MPI_REQUIRE(count_a == config.epochs && count_b == config.epochs);
    for (int64_t e = 0; e < count_a; e++) {
        MPI_CHECK(close_to(a[e].train_loss, b[e].train_loss, 1e-4));
        MPI_CHECK(close_to(a[e].val_loss, b[e].val_loss, 1e-4));
    }
    MPI_CHECK(!case_same_params(gpu.trainer, cpu.trainer)); /* they were two devices */
    case_close(&gpu);
    case_close(&cpu);
    mpi_verdict();
}

static void save_and_restore(lks_trainer *from, lks_trainer *to) {
    char path[64];
    snprintf(path, sizeof path, "devices-%d.h5", mpi_check_size());
    REQUIRE_OK(lks_trainer_save(from, path));
    REQUIRE_OK(lks_trainer_restore(to, path));
    MPI_CHECK(case_same_params(from, to));
    if (mpi_check_rank() == 0) unlink(path);
}

/* In bfloat16 the two devices round the same numbers at the same places, but for sums so close to
 * the middle between two bfloat16 that their order decides: single roundings of 2^-8, of many
 * thousands, over one epoch of 3 steps. */
static void test_a_gpu_trains_in_bf16_like_the_cpu(void **state) {
    (void)state;
    skip_without_gpu();
    static const char *const devices[] = {"cuda", "cpu"};
    static train_case runs[2];
    lks_epoch_result results[2];
    const lks_train_config config = device_config();
    for (int d = 0; d < 2; d++) {
        const lks_context_config context = {
            .device = devices[d], .threads = 1, .precision = "bf16"};
        REQUIRE_OK(case_open_in(&runs[d], MPI_COMM_WORLD, &context));
        REQUIRE_OK(lks_trainer_create(runs[d].context, case_layers, &case_input, runs[d].train,
                                      runs[d].validation, &config, &runs[d].trainer));
        REQUIRE_OK(lks_epoch(runs[d].trainer, &results[d]));
    }
    MPI_CHECK(close_to(results[0].train_loss, results[1].train_loss, 1e-3));
    MPI_CHECK(close_to(results[0].val_loss, results[1].val_loss, 1e-3));
    save_and_restore(runs[0].trainer, runs[1].trainer);
    for (int d = 0; d < 2; d++)
        case_close(&runs[d]);
    mpi_verdict();
}

/* Parameters, optimizer state, running statistics and the rest pass through the CPU unchanged: what
 * comes back goes on as if it had stayed. */
static void test_checkpoints_pass_between_devices(void **state) {
    (void)state;
    skip_without_gpu();
    static train_case stayed, visited, returned;
    const lks_train_config config = device_config();
    REQUIRE_OK(open_on(&stayed, "cuda", &config));
    REQUIRE_OK(open_on(&visited, "cpu", &config));
    REQUIRE_OK(open_on(&returned, "cuda", &config));
    REQUIRE_OK(lks_epoch(stayed.trainer, NULL));
    save_and_restore(stayed.trainer, visited.trainer);
    save_and_restore(visited.trainer, returned.trainer);
    REQUIRE_OK(lks_epoch(stayed.trainer, NULL));
    REQUIRE_OK(lks_epoch(returned.trainer, NULL));
    MPI_CHECK(case_same_params(stayed.trainer, returned.trainer));
    case_close(&stayed);
    case_close(&visited);
    case_close(&returned);
    mpi_verdict();
}

/* Rank 0's device stands for all in the start-up table, unless the others' are of another kind. */
static void ranks_on_unlike_devices_are_told(void **state) {
    (void)state;
    skip_without_gpu();
    static train_case run;
    char text[4096] = "";
    const lks_train_config config = device_config();
    const lks_bucket_trial none = {0};
    for (int mixed = 0; mixed < 2; mixed++) {
        REQUIRE_OK(open_on(&run, mixed && mpi_check_rank() > 0 ? "cpu" : "cuda", &config));
        FILE *log = tmpfile();
        MPI_REQUIRE(log != NULL);
        run.context->logger.also = log;
        REQUIRE_OK(lks_trainer_log_startup(run.trainer, &none));
        run.context->logger.also = NULL;
        rewind(log);
        text[fread(text, 1, sizeof text - 1, log)] = '\0';
        fclose(log);
        const bool told = strstr(text, "rank 0 on the device cuda, rank 1 on cpu") != NULL;
        MPI_CHECK(mpi_check_rank() > 0 || told == (mixed && mpi_check_size() > 1));
        case_close(&run);
    }
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_gpu_trains_like_the_cpu),
        cmocka_unit_test(test_a_gpu_trains_in_bf16_like_the_cpu),
        cmocka_unit_test(test_checkpoints_pass_between_devices),
        cmocka_unit_test(ranks_on_unlike_devices_are_told),
    };
    is_gpu_required = argc > 1 && strcmp(argv[1], "cuda") == 0;
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
