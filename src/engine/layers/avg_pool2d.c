#include "engine/layers/layers.h"
#include "engine/layers/pool.h"

static const lks_option avg_pool2d_options[] = {
    {.key = "kernel_size",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(lks_pool_config, window.kernel),
     .low = 1,
     .high = INT16_MAX,
     .help = "Height and width of the window in pixels."},
    {.key = "stride",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(lks_pool_config, window.stride),
     .low = 1,
     .high = INT16_MAX,
     .optional = true,
     .help = "Pixels from one window to the next; kernel_size when not given."},
    {.key = "padding",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(lks_pool_config, window.padding),
     .text = "0",
     .low = 0,
     .high = INT16_MAX,
     .help = "Pixels of zeros around the image, on each side; at most half the kernel."},
    {.key = "count_include_pad",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_pool_config, count_include_pad),
     .text = "true",
     .help = "Whether the zeros of the padding count in the average."},
    {.key = "ceil_mode",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_pool_config, window.ceil_mode),
     .text = "false",
     .help = "Whether a last window that reaches beyond the image and its padding counts, too; it "
             "must begin in the image or before it."},
    {0},
};

static const lks_option_table avg_pool2d_table = {
    .name = "avg_pool2d",
    .help = "The mean of each window of an image (torch.nn.AvgPool2d).",
    .struct_bytes = sizeof(lks_pool_config),
    .options = avg_pool2d_options,
};

static lks_status plan_avg_pool2d(const void *options, const lks_layer_input *input,
                                  lks_layer_plan *plan) {
    return lks_pool_plan(options, LKS_POOL_AVG, input, plan);
}

const lks_layer_kind lks_layer_avg_pool2d = {
    .options = &avg_pool2d_table,
    .layout = LKS_LAYER_CHANNELS_LAST,
    .plan = plan_avg_pool2d,
};
