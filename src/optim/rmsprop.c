/* RMSprop as torch.optim.RMSprop of PyTorch 2.x; grad_avg moves as since 2.1, which differs from
 * before in rounding alone. */
#include "optim/optimizer.h"

typedef struct rmsprop_config {
    lks_optimizer_common common;
    double alpha, eps, momentum;
    bool centered;
} rmsprop_config;

static const lks_option options[] = {
    LKS_OPTIMIZER_LR_OPTION("1e-2"),
    {.key = "alpha",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(rmsprop_config, alpha),
     .text = "0.99",
     .high = 1,
     .high_open = true,
     .help = "Decay of the running mean of the squared gradient."},
    LKS_OPTIMIZER_EPS_OPTION(rmsprop_config, "1e-8"),
    LKS_OPTIMIZER_WEIGHT_DECAY_OPTION("0", LKS_OPTIMIZER_L2_HELP),
    {.key = "momentum",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(rmsprop_config, momentum),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "Momentum factor; 0 keeps no buffer."},
    {.key = "centered",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(rmsprop_config, centered),
     .text = "false",
     .help = "Divide by the gradient's standard deviation instead of its root mean square."},
    LKS_OPTIMIZER_MAXIMIZE_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "rmsprop",
    .help = "RMSprop, plain and centered, with momentum (torch.optim.RMSprop).",
    .struct_bytes = sizeof(rmsprop_config),
    .options = options,
};

enum { SQUARE_AVG, MOMENTUM_BUFFER, GRAD_AVG };

static bool needs_state(const void *config, int index) {
    const rmsprop_config *rmsprop = config;
    if (index == MOMENTUM_BUFFER) return rmsprop->momentum != 0;
    if (index == GRAD_AVG) return rmsprop->centered;
    return true;
}

static double *momentum(void *config) {
    rmsprop_config *rmsprop = config;
    return rmsprop->momentum != 0 ? &rmsprop->momentum : NULL;
}

static lks_status update(lks_device *device, lks_stream *stream, const lks_update *update,
                         const void *config, float *const *states) {
    const rmsprop_config *rmsprop = config;
    const lks_rmsprop_update own = {
        .alpha = rmsprop->alpha,
        .eps = rmsprop->eps,
        .momentum = rmsprop->momentum,
        .square_avg = states[SQUARE_AVG],
        .grad_avg = rmsprop->centered ? states[GRAD_AVG] : NULL,
        .momentum_buffer = rmsprop->momentum != 0 ? states[MOMENTUM_BUFFER] : NULL,
    };
    return lks_device_rmsprop(device, stream, update, &own);
}

const lks_optimizer_kind lks_optimizer_rmsprop = {
    .options = &table,
    .state_names = {"square_avg", "momentum_buffer", "grad_avg"},
    .needs_state = needs_state,
    .momentum = momentum,
    .momentum_limit = INFINITY,
    .update = update,
};
