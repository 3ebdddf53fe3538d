#include "engine/layers/layers.h"
#include "engine/layers/pool.h"

static const lks_option max_pool2d_options[] = {
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
     .help = "Pixels of minus infinity around the image, on each side; at most half the kernel."},
    {.key = "dilation",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(lks_pool_config, window.dilation),
     .text = "1",
     .low = 1,
     .high = INT16_MAX,
     .help = "Pixels from one element of the window to the next."},
    {.key = "ceil_mode",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_pool_config, window.ceil_mode),
     .text = "false",
     .help = "Whether a last window that reaches beyond the image and its padding counts, too; it "
             "must begin in the image or before it."},
    {0},
};

static const lks_option_table max_pool2d_table = {
    .name = "max_pool2d",
    .help = "The largest value of each window of an image (torch.nn.MaxPool2d).",
    .struct_bytes = sizeof(lks_pool_config),
    .options = max_pool2d_options,
};

static lks_status plan_max_pool2d(const void *options, const lks_layer_input *input,
                                  lks_layer_plan *plan) {
    return lks_pool_plan(options, LKS_POOL_MAX, input, plan);
}

const lks_layer_kind lks_layer_max_pool2d = {
    .options = &max_pool2d_table,
    .layout = LKS_LAYER_CHANNELS_LAST,
    .plan = plan_max_pool2d,
};
