#include <float.h>

#include "engine/layers/layers.h"

typedef struct leaky_relu_config {
    double negative_slope;
} leaky_relu_config;

static const lks_option leaky_relu_options[] = {
    {.key = "negative_slope",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(leaky_relu_config, negative_slope),
     .text = "0.01",
     .low = -FLT_MAX,
     .high = FLT_MAX,
     .help = "Slope for negative inputs."},
    {0},
};

static const lks_option_table leaky_relu_table = {
    .name = "leaky_relu",
    .help = "y = x for x > 0, negative_slope x otherwise (torch.nn.LeakyReLU).",
    .struct_bytes = sizeof(leaky_relu_config),
    .options = leaky_relu_options,
};

static lks_status plan_leaky_relu(const void *options, const lks_layer_input *input,
                                  lks_layer_plan *plan) {
    const leaky_relu_config *config = options;
    return lks_layer_plan_activation(input, LKS_ACTIVATION_LEAKY_RELU, config->negative_slope,
                                     plan);
}

const lks_layer_kind lks_layer_leaky_relu = {
    .options = &leaky_relu_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_leaky_relu,
};
