/* What a row of a convolution sees, and where its result goes (lks_conv_gather). Included by
 * conv2d's .cu files alone. */
#ifndef LKS_DEVICE_CUDA_CONV2D_GATHER_CUH
#define LKS_DEVICE_CUDA_CONV2D_GATHER_CUH

#include "device/cuda/conv2d.h"
#include "device/cuda/kernel.cuh"

static __device__ inline int divide(int n, lks_divider divider) {
    return (int)((uint64_t)n * divider.multiplier >> divider.shift);
}

/* A row's image, where its window begins there, and the pixel that it makes. */
struct alignas(16) conv_row {
    int image; /* index of the image's first pixel in the source; negative: there is no such row */
    int h, w;
    int target;
};

static __device__ inline conv_row find_row(const lks_conv_gather &g, int64_t row) {
    if (row >= g.rows) return conv_row{-1, 0, 0, 0};
    const int n = divide((int)row, g.by_image), place = (int)row - n * g.size[0] * g.size[1];
    const int h = divide(place, g.by_width), w = place - h * g.size[1];
    const int line = n * g.target[0] + g.target_first[0] + h * g.target_step[0];
    return conv_row{n * g.source[0] * g.source[1], h * g.scale[0] + g.offset[0],
                    w * g.scale[1] + g.offset[1],
                    line * g.target[1] + g.target_first[1] + w * g.target_step[1]};
}

/* The source's pixel that the row sees at the window's place (kh, kw); negative: none. */
static __device__ inline int find_pixel(const lks_conv_gather &g, conv_row row, int kh, int kw) {
    const int h = row.h + kh * g.step[0], w = row.w + kw * g.step[1];
    const bool inside = h >= 0 && h < g.source[0] && w >= 0 && w < g.source[1];
    return inside && row.image >= 0 ? row.image + h * g.source[1] + w : -1;
}

/* The weights' tap at the window's place (kh, kw). */
static __device__ inline int find_tap(const lks_conv_gather &g, int kh, int kw) {
    return (g.first_tap[0] + kh * g.tap_step[0]) * g.window[1] + g.first_tap[1] +
           kw * g.tap_step[1];
}

/* N sums side by side of one row: bias, which may be NULL, ReLU, and out. */
template <typename T, int N>
static __device__ void finish_sums(const float *sums, const T *bias, bool relu, T *y) {
    float value[N];
    for (int i = 0; i < N; i++) {
        value[i] = sums[i] + (bias ? lks_to_float(bias[i]) : 0);
        if (relu && value[i] < 0) value[i] = 0;
    }
    lks_store<T, N>(y, value);
}

#endif
