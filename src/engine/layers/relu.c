#include "engine/layers/layers.h"

static const lks_option relu_options[] = {{0}};

static const lks_option_table relu_table = {
    .name = "relu",
    .help = "y = max(x, 0) (torch.nn.ReLU).",
    .options = relu_options,
};

static lks_status plan_relu(const void *options, const lks_layer_input *input,
                            lks_layer_plan *plan) {
    (void)options;
    return lks_layer_plan_activation(input, LKS_ACTIVATION_RELU, 0, plan);
}

const lks_layer_kind lks_layer_relu = {
    .options = &relu_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_relu,
};
