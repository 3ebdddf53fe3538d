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

/* Which places of an image [source] each row sees through a window. Row ((n * size[0]) + h) *
 * size[1] + w sees, at the window's place k, along each axis: p = place * scale + offset + k *
 * step; where p is no multiple of divisor, or p / divisor is outside of the source, there is a
 * zero.
 *
 * Forward: rows are outputs, which see x. Gradient of x: rows are inputs, which see the dy that
 * they took part in. `inner` channels of each group are seen, `outer` are made. */
typedef struct lks_conv_gather {
    int rows;
    int groups, inner, outer;
    int size[2], source[2], kernel[2];
    int scale[2], offset[2], step[2], divisor[2];
    lks_divider by_image, by_width; /* size[0] * size[1], size[1] */
} lks_conv_gather;

lks_conv_gather lks_conv_forward_gather(const lks_conv2d_desc *desc, int64_t batch);
lks_conv_gather lks_conv_backward_gather(const lks_conv2d_desc *desc, int64_t batch);

/* Weights [groups * out, in, kh, kw] as lks_conv_product wants them, [groups, outer, kh, kw,
 * inner]: outer, inner are out, in, or with `backward` in, out. */
lks_status lks_conv_pack_weights(lks_stream *stream, const lks_conv2d_desc *desc, bool backward,
                                 const void *weights, void *packed);

/* y[rows, groups * outer] = relu(gathered source * packed weights + bias[groups * outer]). bias may
 * be NULL. */
lks_status lks_conv_product(lks_stream *stream, const lks_conv_gather *gather, const void *source,
                            const void *packed, const void *bias, bool relu, void *y);

/* dweight[groups * out, in, kh, kw] = or += gathered x^T * dy[rows, groups * outer], for the gather
 * of forward. */
lks_status lks_conv_weight_gradient(lks_stream *stream, const lks_conv_gather *gather,
                                    const void *x, const void *dy, bool accumulate, float *dweight,
                                    void *scratch);
size_t lks_conv_weight_gradient_scratch_bytes(const lks_conv_gather *gather);

#ifdef __cplusplus
}
#endif
#endif
