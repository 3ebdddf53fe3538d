/* Winograd's minimal filtering for 3x3 convolutions: F(4x4, 3x3) of A. Lavin, S. Gray, "Fast
 * algorithms for convolutional neural networks" (2015). A tile of 4x4 outputs needs 6x6 inputs; in
 * the transformed domain it is 36 products where the plain sum takes 144, so 36 matrix products
 * over the channels do the work.
 *
 * The six interpolation points are 0, 5/8, -5/8, 3/2, -3/2 and infinity. Against float64, the
 * largest error over the largest result was measured as 8e-7 with 16 channels and 3e-6 with 256, a
 * quarter of what the usual points 0, 1, -1, 2, -2 give (plain float32 sums: 2e-7 and 4e-7).
 *
 * Arrays in the transformed domain are planes, one for each of the 36 points, `stride` floats
 * apart. Channel counts are multiples of LKS_WINOGRAD_LANES. Included by src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_WINOGRAD_H
#define LKS_DEVICE_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

enum {
    LKS_WINOGRAD_OUTPUTS = 4, /* of a tile, along one axis */
    LKS_WINOGRAD_INPUTS = 6,
    LKS_WINOGRAD_PLANES = 36,
    LKS_WINOGRAD_LANES = 16
};

/* A batch of channels-last images, cut into tiles in the order image, row, column. All else is
 * float32. */
typedef struct lks_winograd_images {
    lks_dtype type; /* LKS_F32 or LKS_BF16 */
    int64_t height, width, channels;
    int64_t tiles_high, tiles_wide; /* of an image */
    int64_t offset[2];              /* where tile (0, 0) begins: minus the padding */
} lks_winograd_images;

/* v[36][count, channels]: the transformed 6x6 inputs of tiles [first, first + count), with zeros
 * outside the image. */
void lks_winograd_inputs(const lks_winograd_images *x, const void *from, int64_t first,
                         int64_t count, int64_t stride, float *v);

/* The 4x4 outputs of tiles from m[36][count, channels]; adds bias[channels] (NULL: none), then
 * takes max(0, y) with relu. Parts of a tile outside the image are left out. */
void lks_winograd_outputs(const lks_winograd_images *y, const float *m, int64_t first,
                          int64_t count, int64_t stride, const float *bias, bool relu, void *to);

/* z[36][count, channels]: the transformed 4x4 gradients of tiles' outputs, with zeros outside. */
void lks_winograd_gradients(const lks_winograd_images *dy, const void *from, int64_t first,
                            int64_t count, int64_t stride, float *z);

/* u[36][in, out] from weights [out, in, 3, 3], for outputs [begin, end). */
void lks_winograd_weights(int64_t in, int64_t out, const float *weights, int64_t begin, int64_t end,
                          float *u);

/* u[36][out, in] for the gradient of the inputs, a convolution with the weights turned by 180
 * degrees, for inputs [begin, end). */
void lks_winograd_turned_weights(int64_t in, int64_t out, const float *weights, int64_t begin,
                                 int64_t end, float *u);

/* dweights [out, in, 3, 3], or added to them, from du[36][in, out], for outputs [begin, end). */
void lks_winograd_weights_gradient(int64_t in, int64_t out, const float *du, bool accumulate,
                                   int64_t begin, int64_t end, float *dweights);

#endif
