/* A small training run for the tests of src/train: a classification problem with every source of
 * state that a run can have (batch norm, dropout, momentum, a schedule), on arrays in memory. */
#ifndef LKS_TESTS_TRAIN_CASE_H
#define LKS_TESTS_TRAIN_CASE_H

#include <lockstep/lockstep.h>
#include <math.h>

#include "base/base.h"
#include "mpi/mpi_check.h"

/* Ends the test on every rank, with what the library said, unless the call succeeds. Collective. */
static inline void require_ok(lks_status status, const char *file, int line) {
    char text[MPI_CHECK_NOTE_BYTES / 2];
    snprintf(text, sizeof text, "%s: %.180s", lks_status_text(status), lks_last_error());
    mpi_check(status == LKS_OK, file, line, text);
    mpi_verdict();
}
#define REQUIRE_OK(call) require_ok((call), __FILE__, __LINE__)

enum { CASE_SAMPLES = 203, CASE_CHANNELS = 2, CASE_SIDE = 6, CASE_CLASSES = 5 };
enum { CASE_INPUT = CASE_CHANNELS * CASE_SIDE * CASE_SIDE };

static const lks_shape case_input = {3, {CASE_CHANNELS, CASE_SIDE, CASE_SIDE}};

static const lks_layer_spec case_layers[] = {
    {.type = "conv2d", .name = "conv1", .options = "out_channels=6 kernel_size=3 padding=1"},
    {.type = "batch_norm", .name = "norm1"},
    {.type = "relu"},
    {.type = "max_pool2d", .options = "kernel_size=2"},
    {.type = "flatten"},
    {.type = "dropout", .options = "p=0.2"},
    {.type = "linear", .name = "fc", .options = "out_features=5"},
    {0},
};

enum { CASE_STAGES = 3 }; /* of sharding */

/* Layers for networks of the tests' own, with more in them than a small bucket holds. */
#define CASE_WIDE                                       \
    {.type = "linear", .options = "out_features=23"}, { \
        .type = "silu"                                  \
    }
#define CASE_NORMAL \
    { .type = "batch_norm", .options = "synchronize=true" }

/* Linear layers of one width, enough of them for many buckets. */
static inline const lks_layer_spec *case_deep_layers(void) {
    static const lks_layer_spec layers[] = {
        {.type = "flatten"},
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        CASE_WIDE,
        {.type = "linear", .options = "out_features=5"},
        {0},
    };
    return layers;
}

/* A run with all its handles; the arrays belong to it. */
typedef struct train_case {
    lks_context *context;
    lks_dataset *train, *validation;
    lks_trainer *trainer;
    float inputs[CASE_SAMPLES * CASE_INPUT];
    int64_t labels[CASE_SAMPLES];
} train_case;

/* Inputs whose class shows in a noisy bright patch: learnable, not at once. */
static inline void case_fill(train_case *run) {
    const lks_philox_key key = lks_philox_key_make(99, LKS_RANDOM_INIT, 7);
    for (int i = 0; i < CASE_SAMPLES; i++) {
        run->labels[i] = i % CASE_CLASSES;
        for (int e = 0; e < CASE_INPUT; e++) {
            lks_philox_block block = lks_philox(key, (uint64_t)(i * CASE_INPUT + e), 0);
            float noise = lks_philox_uniform(block.word[0]) - 0.5f;
            bool patch = e % CASE_SIDE == i % CASE_CLASSES;
            run->inputs[i * CASE_INPUT + e] = noise + (patch ? 0.4f : 0.0f);
        }
    }
}

static inline lks_train_config case_config(void) {
    lks_train_config config = LKS_TRAIN_CONFIG_DEFAULT;
    config.seed = 5;
    config.epochs = 4;
    config.batch_size = 30; /* 163 = 5 * 30 + 13: the last batch is partial */
    config.optimizer =
        (lks_spec){.type = "sgd", .options = "lr=0.05 momentum=0.9 weight_decay=1e-3"};
    config.schedule = (lks_spec){.type = "step", .options = "step_size=2 gamma=0.5"};
    config.bucket_bytes = 2048; /* several buckets */
    config.first_bucket_bytes = 1024;
    config.progress_seconds = 0;
    return config;
}

/* All but the trainer. */
static inline lks_status case_open_in(train_case *run, MPI_Comm comm,
                                      const lks_context_config *context) {
    memset(run, 0, sizeof(*run));
    case_fill(run);
    lks_status status = lks_context_create(comm, context, &run->context);
    if (status == LKS_OK)
        status = lks_dataset_from_arrays(CASE_SAMPLES - 40, &case_input, run->inputs, run->labels,
                                         NULL, NULL, &run->train);
    if (status == LKS_OK)
        status =
            lks_dataset_from_arrays(40, &case_input, run->inputs + (CASE_SAMPLES - 40) * CASE_INPUT,
                                    run->labels + CASE_SAMPLES - 40, NULL, NULL, &run->validation);
    return status;
}

static inline lks_status case_open_data(train_case *run, MPI_Comm comm, const char *device) {
    const lks_context_config context = {.device = device, .threads = 1, .verbosity = 0};
    return case_open_in(run, comm, &context);
}

static inline lks_status case_open_trainer(train_case *run, const lks_layer_spec *layers,
                                           const lks_train_config *config) {
    return lks_trainer_create(run->context, layers, &case_input, run->train, run->validation,
                              config, &run->trainer);
}

static inline lks_status case_open_on(train_case *run, MPI_Comm comm, const char *device,
                                      const lks_layer_spec *layers,
                                      const lks_train_config *config) {
    lks_status status = case_open_data(run, comm, device);
    return status ? status : case_open_trainer(run, layers, config);
}

/* On the CPU, "fp32" or "bf16". */
static inline lks_status case_open_precision(train_case *run, MPI_Comm comm, const char *precision,
                                             const lks_layer_spec *layers,
                                             const lks_train_config *config) {
    const lks_context_config context = {.device = "cpu", .threads = 1, .precision = precision};
    lks_status status = case_open_in(run, comm, &context);
    return status ? status : case_open_trainer(run, layers, config);
}

static inline lks_status case_open_layers(train_case *run, MPI_Comm comm,
                                          const lks_layer_spec *layers,
                                          const lks_train_config *config) {
    return case_open_on(run, comm, "cpu", layers, config);
}

static inline lks_status case_open(train_case *run, MPI_Comm comm, const lks_train_config *config) {
    return case_open_layers(run, comm, case_layers, config);
}

static inline void case_close(train_case *run) {
    lks_trainer_destroy(run->trainer);
    lks_dataset_destroy(run->train);
    lks_dataset_destroy(run->validation);
    lks_context_destroy(run->context);
}

/* All parameters one after the other; malloc'ed, the caller frees them. */
static inline float *case_params(lks_trainer *trainer, int64_t *out_count) {
    int64_t total = 0, capacity = 1 << 16;
    float *values = malloc((size_t)capacity * sizeof(float));
    for (int i = 0; values != NULL && i < lks_trainer_param_count(trainer); i++) {
        lks_shape shape;
        int64_t count;
        const char *name = lks_trainer_param_name(trainer, i);
        if (lks_trainer_get_param(trainer, name, &shape, NULL) != LKS_OK ||
            lks_shape_count(&shape, &count) != LKS_OK || total + count > capacity ||
            lks_trainer_get_param(trainer, name, NULL, values + total) != LKS_OK) {
            free(values);
            return NULL;
        }
        total += count;
    }
    *out_count = total;
    return values;
}

/* Are all parameters of two trainers the same bits? */
static inline bool case_same_params(lks_trainer *a, lks_trainer *b) {
    int64_t count_a = 0, count_b = 0;
    float *params_a = case_params(a, &count_a), *params_b = case_params(b, &count_b);
    bool same = params_a != NULL && params_b != NULL && count_a == count_b && count_a > 0 &&
                memcmp(params_a, params_b, (size_t)count_a * sizeof(float)) == 0;
    free(params_a);
    free(params_b);
    return same;
}

#endif
