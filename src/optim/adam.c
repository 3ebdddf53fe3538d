/* Adam with coupled (adam) and decoupled (adamw) weight decay, as torch.optim.Adam and
 * torch.optim.AdamW of PyTorch 2.x. */
#include "optim/optimizer.h"

typedef struct adam_config {
    lks_optimizer_common common;
    double betas[2], eps;
    bool amsgrad;
} adam_config;

/* The rows that both tables share. */
#define BETAS_OPTION                                                                           \
    {                                                                                          \
        .key = "betas", .type = LKS_OPTION_FLOAT_PAIR, .offset = offsetof(adam_config, betas), \
        .text = "[0.9, 0.999]", .high = 1, .high_open = true,                                  \
        .help = "Decay of the running means of the gradient and of its square."                \
    }
#define AMSGRAD_OPTION                                                                       \
    {                                                                                        \
        .key = "amsgrad", .type = LKS_OPTION_BOOL, .offset = offsetof(adam_config, amsgrad), \
        .text = "false",                                                                     \
        .help = "Divide by the largest running mean of the squared gradient so far."         \
    }

static const lks_option adam_options[] = {
    LKS_OPTIMIZER_LR_OPTION("1e-3"),
    BETAS_OPTION,
    LKS_OPTIMIZER_EPS_OPTION(adam_config, "1e-8"),
    LKS_OPTIMIZER_WEIGHT_DECAY_OPTION("0", LKS_OPTIMIZER_L2_HELP),
    AMSGRAD_OPTION,
    LKS_OPTIMIZER_MAXIMIZE_OPTION,
    {0},
};

static const lks_option adamw_options[] = {
    LKS_OPTIMIZER_LR_OPTION("1e-3"),
    BETAS_OPTION,
    LKS_OPTIMIZER_EPS_OPTION(adam_config, "1e-8"),
    LKS_OPTIMIZER_WEIGHT_DECAY_OPTION(
        "0.01", "Decoupled decay: parameters shrink by lr * weight_decay in every step."),
    AMSGRAD_OPTION,
    LKS_OPTIMIZER_MAXIMIZE_OPTION,
    {0},
};

static const lks_option_table adam_table = {
    .name = "adam",
    .help = "Adam, weight decay as an L2 penalty (torch.optim.Adam).",
    .struct_bytes = sizeof(adam_config),
    .options = adam_options,
};

static const lks_option_table adamw_table = {
    .name = "adamw",
    .help = "Adam with decoupled weight decay (torch.optim.AdamW).",
    .struct_bytes = sizeof(adam_config),
    .options = adamw_options,
};

/* The arrays: exp_avg, exp_avg_sq, max_exp_avg_sq. */
static bool needs_state(const void *config, int index) {
    return index < 2 || ((const adam_config *)config)->amsgrad;
}

static double *momentum(void *config) {
    return &((adam_config *)config)->betas[0];
}

static lks_status update_any(lks_device *device, lks_stream *stream, const lks_update *update,
                             const adam_config *adam, bool decoupled, float *const *states) {
    lks_adam_update own = {
        .beta1 = adam->betas[0],
        .beta2 = adam->betas[1],
        .eps = adam->eps,
        .decoupled = decoupled,
        .exp_avg = states[0],
        .exp_avg_sq = states[1],
        .max_exp_avg_sq = adam->amsgrad ? states[2] : NULL,
    };
    return lks_device_adam(device, stream, update, &own);
}

static lks_status update_adam(lks_device *device, lks_stream *stream, const lks_update *update,
                              const void *config, float *const *states) {
    return update_any(device, stream, update, config, false, states);
}

static lks_status update_adamw(lks_device *device, lks_stream *stream, const lks_update *update,
                               const void *config, float *const *states) {
    return update_any(device, stream, update, config, true, states);
}

const lks_optimizer_kind lks_optimizer_adam = {
    .options = &adam_table,
    .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    .needs_state = needs_state,
    .momentum = momentum,
    .momentum_limit = 1,
    .update = update_adam,
};

const lks_optimizer_kind lks_optimizer_adamw = {
    .options = &adamw_table,
    .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    .needs_state = needs_state,
    .momentum = momentum,
    .momentum_limit = 1,
    .update = update_adamw,
};
