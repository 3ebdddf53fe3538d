/* Adagrad as torch.optim.Adagrad of PyTorch 2.x. */
#include "optim/optimizer.h"

typedef struct adagrad_config {
    lks_optimizer_common common;
    double lr_decay, initial_accumulator_value, eps;
} adagrad_config;

static const lks_option options[] = {
    LKS_OPTIMIZER_LR_OPTION("1e-2"),
    {.key = "lr_decay",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(adagrad_config, lr_decay),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "The learning rate is divided by 1 + (step - 1) * lr_decay."},
    LKS_OPTIMIZER_WEIGHT_DECAY_OPTION("0", LKS_OPTIMIZER_L2_HELP),
    {.key = "initial_accumulator_value",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(adagrad_config, initial_accumulator_value),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "What the sum of squared gradients starts with."},
    LKS_OPTIMIZER_EPS_OPTION(adagrad_config, "1e-10"),
    LKS_OPTIMIZER_MAXIMIZE_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "adagrad",
    .help = "Adagrad (torch.optim.Adagrad).",
    .struct_bytes = sizeof(adagrad_config),
    .options = options,
};

/* The array: sum. */
static bool needs_state(const void *config, int index) {
    (void)config;
    (void)index;
    return true;
}

static double initial_state(const void *config, int index) {
    (void)index;
    return ((const adagrad_config *)config)->initial_accumulator_value;
}

static lks_status update(lks_device *device, lks_stream *stream, const lks_update *update,
                         const void *config, float *const *states) {
    const adagrad_config *adagrad = config;
    const lks_adagrad_update own = {
        .lr_decay = adagrad->lr_decay,
        .eps = adagrad->eps,
        .sum = states[0],
    };
    return lks_device_adagrad(device, stream, update, &own);
}

const lks_optimizer_kind lks_optimizer_adagrad = {
    .options = &table,
    .state_names = {"sum"},
    .needs_state = needs_state,
    .initial_state = initial_state,
    .update = update,
};
