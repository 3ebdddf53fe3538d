/* Convolution as a matrix product whose left factor is never stored: its rows are places of an
 * image and its columns the window's places and channels, gathered as they are wanted. Included by
 * src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_CONV2D_H
#define LKS_DEVICE_CUDA_CONV2D_H

#include "device/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Division of 0 <= n < 2^31 by a fixed number: n * multiplier >> shift. */
typedef struct lks_divider {
    uint64_t multiplier;
    int shift;
} lks_divider;

/* Which places of an image [source] each row sees through a window, and which pixel of an image
 * [target] it makes. Row ((n * size[0]) + h) * size[1] + w sees, at the window's place k, along
 * each axis: place * scale + offset + k * step, a zero where that is outside of the source; the
 * weights there are those of tap first_tap + k * tap_step of `window`. It makes, along each axis,
 * pixel target_first + place * target_step.
 *
 * Forward: rows are outputs, which see x. Gradient of x: rows are inputs, which see the dy that
 * they took part in. `inner` channels of each group are seen, `outer` are made. */
typedef struct lks_conv_gather {
    int rows;
    int groups, inner, outer;
    int size[2], source[2], kernel[2];
    int scale[2], offset[2], step[2];
    int window[2], first_tap[2], tap_step[2];
    int target[2], target_first[2], target_step[2];
    lks_divider by_image, by_width; /* size[0] * size[1], size[1] */
} lks_conv_gather;

lks_conv_gather lks_conv_forward_gather(const lks_conv2d_desc *desc, int64_t batch);
/* With strides, neighbouring inputs were seen through different taps, and those that are a stride
 * apart through the same ones: the gather of inputs first, first + stride, ... along each axis,
 * 0 <= first < stride. */
lks_conv_gather lks_conv_backward_gather(const lks_conv2d_desc *desc, int64_t batch,
                                         const int first[2]);

/* Is every channel seen by itself alone, to make one or more others? A single channel that makes
 * several is an ordinary convolution, with the weights of an ordinary product. */
static inline bool lks_conv_is_depthwise(const lks_conv2d_desc *desc) {
    return desc->groups == desc->in_channels &&
           (desc->groups > 1 || desc->out_channels == desc->in_channels);
}

/* Weights [groups * out, in, kh, kw] as lks_conv_product wants them, [groups, outer, kh, kw,
 * inner]: outer, inner are out, in, or with `backward` in, out. Of a depthwise convolution, as
 * lks_conv_depthwise wants them: [kh, kw, groups * out]. */
lks_status lks_conv_pack_weights(lks_stream *stream, const lks_conv2d_desc *desc, bool backward,
                                 const void *weights, void *packed);

/* y = relu(gathered source * packed weights + bias[groups * outer]), y [target pixels, groups *
 * outer], of which the gather's rows are written. bias may be NULL. */
typedef lks_status lks_conv_product_fn(lks_stream *stream, const lks_conv_gather *gather,
                                       const void *source, const void *packed, const void *bias,
                                       bool relu, void *y);
lks_conv_product_fn lks_conv_product;
/* The same where inner or outer is 1, for the weights of a depthwise convolution. */
lks_conv_product_fn lks_conv_depthwise;

/* dweight[groups * out, in, kh, kw] = or += gathered x^T * dy[rows, groups * outer], for the gather
 * of forward. */
typedef lks_status lks_conv_weight_gradient_fn(lks_stream *stream, const lks_conv_gather *gather,
                                               const void *x, const void *dy, bool accumulate,
                                               float *dweight, void *scratch);
lks_conv_weight_gradient_fn lks_conv_weight_gradient;
lks_conv_weight_gradient_fn lks_conv_depthwise_weight_gradient;
size_t lks_conv_weight_gradient_scratch_bytes(const lks_conv_gather *gather);
size_t lks_conv_depthwise_scratch_bytes(const lks_conv_gather *gather);

/* Adds `parts` parts of the weights' gradient, each [groups, window, inner, outer]; dweight as
 * above. */
lks_status lks_conv_add_parts(lks_stream *stream, int parts, int groups, int window, int inner,
                              int outer, const float *sums, bool accumulate, float *dweight);

#ifdef __cplusplus
}
#endif
#endif
