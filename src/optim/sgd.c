/* Stochastic gradient descent as torch.optim.SGD of PyTorch 2.x. lr's default is that of 2.2 and
 * later; before, it had none. */
#include "optim/optimizer.h"

typedef struct sgd_config {
    lks_optimizer_common common;
    double momentum, dampening;
    bool nesterov;
} sgd_config;

static const lks_option options[] = {
    LKS_OPTIMIZER_LR_OPTION("1e-3"),
    {.key = "momentum",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(sgd_config, momentum),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "Momentum factor; 0 keeps no state."},
    {.key = "dampening",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(sgd_config, dampening),
     .text = "0",
     .low = -INFINITY,
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "What the gradient loses when it enters the momentum: it is scaled by 1 - dampening."},
    LKS_OPTIMIZER_WEIGHT_DECAY_OPTION("0", LKS_OPTIMIZER_L2_HELP),
    {.key = "nesterov",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(sgd_config, nesterov),
     .text = "false",
     .help = "Nesterov momentum; needs momentum > 0 and dampening 0."},
    LKS_OPTIMIZER_MAXIMIZE_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "sgd",
    .help = "Stochastic gradient descent with momentum (torch.optim.SGD).",
    .struct_bytes = sizeof(sgd_config),
    .options = options,
};

/* The array: momentum_buffer. */
static bool needs_state(const void *config, int index) {
    (void)index;
    return ((const sgd_config *)config)->momentum != 0;
}

static double *momentum(void *config) {
    sgd_config *sgd = config;
    return sgd->momentum != 0 ? &sgd->momentum : NULL;
}

static lks_status check(const void *config) {
    const sgd_config *sgd = config;
    if (sgd->nesterov && (sgd->momentum <= 0 || sgd->dampening != 0)) {
        return lks_fail(LKS_ECONFIG,
                        "nesterov: true needs momentum > 0 and dampening 0, but momentum is %g "
                        "and dampening is %g",
                        sgd->momentum, sgd->dampening);
    }
    return LKS_OK;
}

static lks_status update(lks_device *device, lks_stream *stream, const lks_update *update,
                         const void *config, float *const *states) {
    const sgd_config *sgd = config;
    lks_sgd_update own = {
        .momentum = sgd->momentum,
        .dampening = sgd->dampening,
        .nesterov = sgd->nesterov,
        .momentum_buffer = sgd->momentum != 0 ? states[0] : NULL,
    };
    return lks_device_sgd(device, stream, update, &own);
}

const lks_optimizer_kind lks_optimizer_sgd = {
    .options = &table,
    .state_names = {"momentum_buffer"},
    .needs_state = needs_state,
    .check = check,
    .momentum = momentum,
    .momentum_limit = INFINITY,
    .update = update,
};
