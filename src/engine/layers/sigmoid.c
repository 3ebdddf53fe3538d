#include "engine/layers/layers.h"

static const lks_option sigmoid_options[] = {{0}};

static const lks_option_table sigmoid_table = {
    .name = "sigmoid",
    .help = "y = 1 / (1 + exp(-x)) (torch.nn.Sigmoid).",
    .options = sigmoid_options,
};

static lks_status plan_sigmoid(const void *options, const lks_layer_input *input,
                               lks_layer_plan *plan) {
    (void)options;
    return lks_layer_plan_activation(input, LKS_ACTIVATION_SIGMOID, 0, plan);
}

const lks_layer_kind lks_layer_sigmoid = {
    .options = &sigmoid_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_sigmoid,
};
