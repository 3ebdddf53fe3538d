/* Training on several GPUs, whose memory goes from one to the other by NCCL: as on the CPU, at
 * every stage of sharding. Skipped where there are not as many GPUs as ranks, real or emulated. */
#include <unistd.h>

#include "device/backend.h"
#include "mpi/train_case.h"
#include "train/trainer.h"

enum { STAGES = 3 };

/* Synchronised statistics make collectives within forward and backward; the layers behind the first
 * are long enough for a window of gradients to slide. */
#define WIDE                                            \
    {.type = "linear", .options = "out_features=23"}, { \
        .type = "silu"                                  \
    }
#define NORMAL \
    { .type = "batch_norm", .options = "synchronize=true" }
static const lks_layer_spec layers[] = {
    {.type = "flatten"},
    WIDE,
    NORMAL,
    WIDE,
    WIDE,
    {.type = "dropout", .options = "p=0.2"},
    WIDE,
    NORMAL,
    WIDE,
    {.type = "linear", .options = "out_features=5"},
    {0},
};

static lks_train_config config_of(int stage, int64_t micro_batch_size) {
    lks_train_config config = case_config();
    config.zero_stage = stage;
    config.micro_batch_size = micro_batch_size;
    config.epochs = 1;
    config.batch_size = 60;
    config.bucket_bytes = 512;
    config.first_bucket_bytes = 256;
    config.gradients = "clip_norm=0.5";
    return config;
}

static lks_status open_on(train_case *run, MPI_Comm ranks, const char *device,
                          const lks_train_config *config) {
    return case_open_on(run, ranks, device, layers, config);
}

/* Unless `test_gpus cuda nccl` says that they are there. The same answer on every rank. */
static bool are_required;

static void skip_without_gpus(void) {
    const lks_context_config config = {.device = "cuda", .threads = 1};
    lks_context *context = NULL;
    bool good = lks_context_create(MPI_COMM_WORLD, &config, &context) == LKS_OK &&
                strncmp(lks_comm_device_path(context->comm), "NCCL", 4) == 0;
    lks_context_destroy(context);
    if (!good && !are_required) skip();
    MPI_REQUIRE(good);
}

/* |a - b| relative to |a|, over all parameters. */
static double distance(lks_trainer *one, lks_trainer *other) {
    int64_t count = 0;
    float *a = case_params(one, &count), *b = case_params(other, &count);
    MPI_REQUIRE(a != NULL && b != NULL);
    double difference = 0, length = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)a[i] * a[i];
    }
    free(a);
    free(b);
    return sqrt(difference / length);
}

/* 1e-5: float32 sums in another order, over three steps of some 20 layers (measured on the emulated
 * GPUs: 3e-7). */
static const double tolerance = 1e-5;

static void check_stages(int64_t micro_batch_size) {
    static train_case cpu, gpus;
    const lks_train_config reference = config_of(0, micro_batch_size);
    REQUIRE_OK(open_on(&cpu, MPI_COMM_WORLD, "cpu", &reference));
    REQUIRE_OK(lks_epoch(cpu.trainer, NULL));
    for (int stage = 0; stage < STAGES; stage++) {
        const lks_train_config config = config_of(stage, micro_batch_size);
        REQUIRE_OK(open_on(&gpus, MPI_COMM_WORLD, "cuda", &config));
        REQUIRE_OK(lks_epoch(gpus.trainer, NULL));
        MPI_CHECK(distance(cpu.trainer, gpus.trainer) < tolerance);
        case_close(&gpus);
    }
    case_close(&cpu);
    mpi_verdict();
}

static void gpus_train_like_cpus_at_every_stage(void **state) {
    (void)state;
    skip_without_gpus();
    check_stages(0);
}

/* As many rows at a time as leave no micro-batch with one sample, whose variance would be zero. */
static void micro_batches_too(void **state) {
    (void)state;
    skip_without_gpus();
    check_stages(6);
}

/* Every rank goes on alone from the checkpoint of all, and all of them together. */
static void a_checkpoint_goes_on_with_another_number_of_gpus(void **state) {
    (void)state;
    skip_without_gpus();
    static train_case all, alone;
    char path[64];
    snprintf(path, sizeof path, "gpus-%d.h5", mpi_check_size());
    lks_train_config config = config_of(2, 0);
    config.epochs = 2;
    REQUIRE_OK(open_on(&all, MPI_COMM_WORLD, "cuda", &config));
    REQUIRE_OK(lks_epoch(all.trainer, NULL));
    REQUIRE_OK(lks_trainer_save(all.trainer, path));
    REQUIRE_OK(open_on(&alone, MPI_COMM_SELF, "cuda", &config));
    REQUIRE_OK(lks_trainer_restore(alone.trainer, path));
    REQUIRE_OK(lks_epoch(alone.trainer, NULL));
    REQUIRE_OK(lks_epoch(all.trainer, NULL));
    MPI_CHECK(distance(all.trainer, alone.trainer) < tolerance);
    case_close(&alone);
    case_close(&all);
    if (mpi_check_rank() == 0) unlink(path);
    mpi_verdict();
}

/* ---- with waits left out ---- */

static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
    const lks_device_backend *good;
    lks_stream_name without; /* the stream that does not wait */
} hasty;

static lks_status wait_or_not(lks_stream *stream, lks_event *event) {
    if (stream == lks_device_stream(stream->device, hasty.without)) return LKS_OK;
    return hasty.good->streams->stream_wait(stream, event);
}

/* Trains with a device on which one of the streams never waits for the other. The emulator ends the
 * program where memory is read that nothing wrote; else the numbers are wrong. */
static void train_hastily(void **state) {
    static train_case cpu, gpus;
    hasty.without = **(lks_stream_name **)state;
    skip_without_gpus();
    for (int stage = 1; stage < STAGES; stage++) {
        const lks_train_config config = config_of(stage, 0);
        REQUIRE_OK(open_on(&cpu, MPI_COMM_WORLD, "cpu", &config));
        REQUIRE_OK(lks_epoch(cpu.trainer, NULL));
        REQUIRE_OK(open_on(&gpus, MPI_COMM_WORLD, "cuda", &config));
        lks_device *device = gpus.context->device;
        hasty.good = device->backend;
        hasty.backend = *hasty.good;
        hasty.streams = *hasty.good->streams;
        hasty.streams.stream_wait = wait_or_not;
        hasty.backend.streams = &hasty.streams;
        device->backend = &hasty.backend;
        REQUIRE_OK(lks_epoch(gpus.trainer, NULL));
        MPI_CHECK(distance(cpu.trainer, gpus.trainer) < tolerance);
        device->backend = hasty.good;
        case_close(&gpus);
        case_close(&cpu);
        mpi_verdict();
    }
}

/* `test_gpus cuda nccl compute` and `... communication` must fail: these streams do not wait. */
int main(int argc, char **argv) {
    static lks_stream_name compute = LKS_STREAM_COMPUTE, communication = LKS_STREAM_COMM,
                           none = LKS_STREAM_COPY;
    lks_stream_name *without = argc < 4                          ? &none
                               : strcmp(argv[3], "compute") == 0 ? &compute
                                                                 : &communication;
    are_required = argc > 2 && strcmp(argv[2], "nccl") == 0;
    const struct CMUnitTest hastily[] = {{"train_hastily", train_hastily, NULL, NULL, without}};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_train_like_cpus_at_every_stage),
        cmocka_unit_test(micro_batches_too),
        cmocka_unit_test(a_checkpoint_goes_on_with_another_number_of_gpus),
        {"no wait is left out", train_hastily, NULL, NULL, &none},
    };
    return argc < 4 ? MPI_CHECK_RUN(&argc, &argv, tests) : MPI_CHECK_RUN(&argc, &argv, hastily);
}
