#include "engine/layers/layers.h"

static const lks_option tanh_options[] = {{0}};

static const lks_option_table tanh_table = {
    .name = "tanh",
    .help = "y = tanh(x) (torch.nn.Tanh).",
    .options = tanh_options,
};

static lks_status plan_tanh(const void *options, const lks_layer_input *input,
                            lks_layer_plan *plan) {
    (void)options;
    return lks_layer_plan_activation(input, LKS_ACTIVATION_TANH, 0, plan);
}

const lks_layer_kind lks_layer_tanh = {
    .options = &tanh_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_tanh,
};
