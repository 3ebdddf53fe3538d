#include "engine/layers/layers.h"

typedef struct adaptive_avg_pool2d_config {
    int64_t output_size[2];
} adaptive_avg_pool2d_config;

static const lks_option adaptive_avg_pool2d_options[] = {
    {.key = "output_size",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(adaptive_avg_pool2d_config, output_size),
     .low = 1,
     .high = INT16_MAX,
     .help = "Height and width of the output in pixels."},
    {0},
};

static const lks_option_table adaptive_avg_pool2d_table = {
    .name = "adaptive_avg_pool2d",
    .help = "Means over an even grid of windows of an image (torch.nn.AdaptiveAvgPool2d).",
    .struct_bytes = sizeof(adaptive_avg_pool2d_config),
    .options = adaptive_avg_pool2d_options,
};

static lks_status plan_adaptive_avg_pool2d(const void *options, const lks_layer_input *input,
                                           lks_layer_plan *plan) {
    const adaptive_avg_pool2d_config *config = options;
    lks_status status = lks_layer_check_image(input);
    if (status != LKS_OK) return status;
    const int64_t *in = input->shape.dim;
    plan->has_op = true;
    plan->kind = LKS_OP_POOL2D;
    plan->output = (lks_shape){3, {in[0], config->output_size[0], config->output_size[1]}};
    plan->desc.pool2d = (lks_pool2d_desc){
        .kind = LKS_POOL_ADAPTIVE_AVG,
        .channels = in[0],
        .in_size = {in[1], in[2]},
        .out_size = {config->output_size[0], config->output_size[1]},
    };
    return LKS_OK;
}

const lks_layer_kind lks_layer_adaptive_avg_pool2d = {
    .options = &adaptive_avg_pool2d_table,
    .layout = LKS_LAYER_CHANNELS_LAST,
    .plan = plan_adaptive_avg_pool2d,
};
