#include "engine/layers/pool.h"

#include <inttypes.h>

/* PyTorch's rule; it also makes sure that no window lies in the padding alone. */
static lks_status check_padding(const lks_window *window) {
    for (int i = 0; i < 2; i++) {
        if (2 * window->padding[i] > window->kernel[i])
            return lks_fail(LKS_ESHAPE,
                            "padding %" PRId64 " is more than half of its kernel's size %" PRId64,
                            window->padding[i], window->kernel[i]);
    }
    return LKS_OK;
}

lks_status lks_pool_plan(const lks_pool_config *config, lks_pool_kind kind,
                         const lks_layer_input *input, lks_layer_plan *plan) {
    lks_window window = config->window;
    for (int i = 0; i < 2; i++) {
        if (window.stride[i] == 0) window.stride[i] = window.kernel[i];
        if (window.dilation[i] == 0) window.dilation[i] = 1;
    }
    int64_t out[2];
    lks_status status = lks_layer_check_image(input);
    if (status == LKS_OK) status = check_padding(&window);
    if (status == LKS_OK) status = lks_window_output(&window, &input->shape, out);
    if (status != LKS_OK) return status;

    const int64_t *in = input->shape.dim;
    plan->has_op = true;
    plan->kind = LKS_OP_POOL2D;
    plan->output = (lks_shape){3, {in[0], out[0], out[1]}};
    plan->desc.pool2d = (lks_pool2d_desc){
        .kind = kind,
        .channels = in[0],
        .in_size = {in[1], in[2]},
        .out_size = {out[0], out[1]},
        .kernel = {window.kernel[0], window.kernel[1]},
        .stride = {window.stride[0], window.stride[1]},
        .padding = {window.padding[0], window.padding[1]},
        .dilation = {window.dilation[0], window.dilation[1]},
        .count_include_pad = config->count_include_pad,
    };
    return LKS_OK;
}
