/* The sliding window of convolutions and pools. */
#ifndef LKS_ENGINE_WINDOW_H
#define LKS_ENGINE_WINDOW_H

#include "engine/layer.h"

/* Pairs are (height, width). */
typedef struct lks_window {
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    bool ceil_mode;
} lks_window;

/* out[i] = floor((in[i] + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; with ceil_mode
 * rounded up, but no window begins behind the image and the padding in front of it, as in PyTorch.
 * LKS_ESHAPE where the window does not fit the image `input` [channels, height, width]. */
lks_status lks_window_output(const lks_window *window, const lks_shape *input, int64_t out[2]);

enum { LKS_PAIR_TEXT_BYTES = 48 };
/* "5" or "5x3" into text[LKS_PAIR_TEXT_BYTES]; returns text. */
const char *lks_pair_text(const int64_t pair[2], char *text);

#endif
