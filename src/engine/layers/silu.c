#include "engine/layers/layers.h"

static const lks_option silu_options[] = {{0}};

static const lks_option_table silu_table = {
    .name = "silu",
    .help = "y = x / (1 + exp(-x)) (torch.nn.SiLU).",
    .options = silu_options,
};

static lks_status plan_silu(const void *options, const lks_layer_input *input,
                            lks_layer_plan *plan) {
    (void)options;
    return lks_layer_plan_activation(input, LKS_ACTIVATION_SILU, 0, plan);
}

const lks_layer_kind lks_layer_silu = {
    .options = &silu_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_silu,
};
