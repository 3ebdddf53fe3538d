#include <inttypes.h>
#include <math.h>

#include "engine/layers/layers.h"
#include "engine/layers/window.h"

enum { PADDING_SAME = -1 };

typedef struct conv2d_config {
    int64_t in_channels, out_channels, groups;
    lks_window window;
    bool bias;
} conv2d_config;

static const lks_option conv2d_options[] = {
    {.key = "out_channels",
     .type = LKS_OPTION_INT,
     .offset = offsetof(conv2d_config, out_channels),
     .low = 1,
     .high = INT32_MAX,
     .help = "Channels of the output."},
    {.key = "kernel_size",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(conv2d_config, window.kernel),
     .low = 1,
     .high = INT16_MAX,
     .help = "Height and width of the kernel in pixels."},
    {.key = "in_channels",
     .type = LKS_OPTION_INT,
     .offset = offsetof(conv2d_config, in_channels),
     .low = 1,
     .high = INT32_MAX,
     .optional = true,
     .help = "Channels of the input, checked when given; taken from the input otherwise."},
    {.key = "stride",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(conv2d_config, window.stride),
     .text = "1",
     .low = 1,
     .high = INT16_MAX,
     .help = "Pixels from one window to the next."},
    {.key = "padding",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(conv2d_config, window.padding),
     .text = "0",
     .low = 0,
     .high = INT16_MAX,
     .word = "same",
     .word_value = PADDING_SAME,
     .help = "Pixels of zeros around the image, on each side; same: as many as leave the image its "
             "size, with stride 1 and an even dilation * (kernel_size - 1)."},
    {.key = "dilation",
     .type = LKS_OPTION_INT_PAIR,
     .offset = offsetof(conv2d_config, window.dilation),
     .text = "1",
     .low = 1,
     .high = INT16_MAX,
     .help = "Pixels from one element of the kernel to the next."},
    {.key = "groups",
     .type = LKS_OPTION_INT,
     .offset = offsetof(conv2d_config, groups),
     .text = "1",
     .low = 1,
     .high = INT32_MAX,
     .help = "Groups of channels that are convolved separately."},
    {.key = "bias",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(conv2d_config, bias),
     .text = "true",
     .help = "Whether a learned number is added to every output channel."},
    {0},
};

static const lks_option_table conv2d_table = {
    .name = "conv2d",
    .help = "Cross-correlation of images [channels, height, width] (torch.nn.Conv2d).",
    .struct_bytes = sizeof(conv2d_config),
    .options = conv2d_options,
};

static lks_status check_channels(const conv2d_config *config, const lks_shape *input) {
    char text[LKS_SHAPE_TEXT_BYTES];
    if (config->in_channels != 0 && config->in_channels != input->dim[0])
        return lks_fail(LKS_ESHAPE,
                        "in_channels is %" PRId64 ", but its input %s has %" PRId64 " channels",
                        config->in_channels, lks_shape_text(input, text), input->dim[0]);
    if (input->dim[0] % config->groups != 0)
        return lks_fail(LKS_ESHAPE,
                        "groups %" PRId64 " does not divide the %" PRId64
                        " channels of its input %s",
                        config->groups, input->dim[0], lks_shape_text(input, text));
    if (config->out_channels % config->groups != 0)
        return lks_fail(LKS_ESHAPE, "groups %" PRId64 " does not divide out_channels %" PRId64,
                        config->groups, config->out_channels);
    return LKS_OK;
}

/* Of an odd number of pixels PyTorch puts one more behind the image than before it; operations here
 * put as many before it as behind it. */
static lks_status settle_padding(lks_window *window) {
    for (int i = 0; i < 2; i++) {
        const int64_t both = window->dilation[i] * (window->kernel[i] - 1);
        if (window->padding[i] != PADDING_SAME) continue;
        if (window->stride[i] != 1)
            return lks_fail(LKS_ESHAPE, "padding: same needs stride 1, not %" PRId64,
                            window->stride[i]);
        if (both % 2 != 0)
            return lks_fail(LKS_EUNSUPPORTED,
                            "padding: same for kernel_size %" PRId64 " with dilation %" PRId64
                            " would take %" PRId64
                            " pixels, not as many on one side of the image as on the other: take "
                            "an odd kernel_size, or a number as padding",
                            window->kernel[i], window->dilation[i], both);
        window->padding[i] = both / 2;
    }
    return LKS_OK;
}

static lks_status plan_conv2d(const void *options, const lks_layer_input *input,
                              lks_layer_plan *plan) {
    const conv2d_config *config = options;
    lks_window window = config->window;
    const lks_shape *shape = &input->shape;
    int64_t out[2];
    lks_status status = lks_layer_check_image(input);
    if (status == LKS_OK) status = check_channels(config, shape);
    if (status == LKS_OK) status = settle_padding(&window);
    if (status == LKS_OK) status = lks_window_output(&window, shape, out);
    if (status != LKS_OK) return status;

    plan->has_op = true;
    plan->kind = LKS_OP_CONV2D;
    plan->output = (lks_shape){3, {config->out_channels, out[0], out[1]}};
    plan->desc.conv2d = (lks_conv2d_desc){
        .in_channels = shape->dim[0],
        .out_channels = config->out_channels,
        .groups = config->groups,
        .in_size = {shape->dim[1], shape->dim[2]},
        .out_size = {out[0], out[1]},
        .kernel = {window.kernel[0], window.kernel[1]},
        .stride = {window.stride[0], window.stride[1]},
        .padding = {window.padding[0], window.padding[1]},
        .dilation = {window.dilation[0], window.dilation[1]},
        .bias = config->bias,
    };
    lks_shape weight = {
        4,
        {config->out_channels, shape->dim[0] / config->groups, window.kernel[0], window.kernel[1]}};
    double fan_in = (double)weight.dim[1] * (double)weight.dim[2] * (double)weight.dim[3];
    lks_layer_add_param(plan, "weight", &weight, LKS_INIT_UNIFORM, 1.0 / sqrt(fan_in));
    if (config->bias)
        lks_layer_add_param(plan, "bias", &(lks_shape){1, {config->out_channels}}, LKS_INIT_UNIFORM,
                            1.0 / sqrt(fan_in));
    return LKS_OK;
}

const lks_layer_kind lks_layer_conv2d = {
    .options = &conv2d_table,
    .layout = LKS_LAYER_CHANNELS_LAST,
    .plan = plan_conv2d,
};
