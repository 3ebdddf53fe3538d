#include "engine/layers/layers.h"

typedef enum gelu_approximation { GELU_EXACT, GELU_TANH } gelu_approximation;

static const char *const approximations[] = {
    [GELU_EXACT] = "none",
    [GELU_TANH] = "tanh",
    NULL,
};

typedef struct gelu_config {
    int approximate;
} gelu_config;

static const lks_option gelu_options[] = {
    {.key = "approximate",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(gelu_config, approximate),
     .text = "none",
     .choices = approximations,
     .help = "none: with the error function; tanh: the usual approximation by tanh."},
    {0},
};

static const lks_option_table gelu_table = {
    .name = "gelu",
    .help = "y = x Phi(x), Phi the normal distribution's function (torch.nn.GELU).",
    .struct_bytes = sizeof(gelu_config),
    .options = gelu_options,
};

static lks_status plan_gelu(const void *options, const lks_layer_input *input,
                            lks_layer_plan *plan) {
    const gelu_config *config = options;
    lks_activation activation =
        config->approximate == GELU_TANH ? LKS_ACTIVATION_GELU_TANH : LKS_ACTIVATION_GELU;
    return lks_layer_plan_activation(input, activation, 0, plan);
}

const lks_layer_kind lks_layer_gelu = {
    .options = &gelu_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_gelu,
};
