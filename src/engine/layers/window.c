#include "engine/layers/window.h"

#include <inttypes.h>
#include <stdio.h>

const char *lks_pair_text(const int64_t pair[2], char *text) {
    if (pair[0] == pair[1])
        snprintf(text, LKS_PAIR_TEXT_BYTES, "%" PRId64, pair[0]);
    else
        snprintf(text, LKS_PAIR_TEXT_BYTES, "%" PRId64 "x%" PRId64, pair[0], pair[1]);
    return text;
}

static lks_status fail_fit(const lks_window *window, const lks_shape *input) {
    char padding[LKS_PAIR_TEXT_BYTES], dilation[LKS_PAIR_TEXT_BYTES], shape[LKS_SHAPE_TEXT_BYTES];
    lks_pair_text(window->padding, padding);
    lks_shape_text(input, shape);
    if (window->dilation[0] == 1 && window->dilation[1] == 1)
        return lks_fail(LKS_ESHAPE,
                        "kernel %" PRId64 "x%" PRId64 " with padding %s does not fit its input %s",
                        window->kernel[0], window->kernel[1], padding, shape);
    return lks_fail(LKS_ESHAPE,
                    "kernel %" PRId64 "x%" PRId64
                    " with dilation %s and padding %s does not fit its input %s",
                    window->kernel[0], window->kernel[1], lks_pair_text(window->dilation, dilation),
                    padding, shape);
}

lks_status lks_window_output(const lks_window *window, const lks_shape *input, int64_t out[2]) {
    for (int i = 0; i < 2; i++) {
        /* Option bounds keep every factor below 2^31, so that nothing here overflows. */
        int64_t span = window->dilation[i] * (window->kernel[i] - 1) + 1;
        int64_t room = input->dim[1 + i] + 2 * window->padding[i] - span;
        if (window->ceil_mode) room += window->stride[i] - 1;
        if (room < 0) return fail_fit(window, input);
        out[i] = room / window->stride[i] + 1;
        if (window->ceil_mode &&
            (out[i] - 1) * window->stride[i] >= input->dim[1 + i] + window->padding[i])
            out[i]--;
    }
    return LKS_OK;
}
