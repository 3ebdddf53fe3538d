/* Reductions of a row of float32 in LKS_CPU_LANES partial results, so that they vectorise and have
 * the same order everywhere. Shared by softmax and cross-entropy. */
#ifndef LKS_DEVICE_CPU_LANES_H
#define LKS_DEVICE_CPU_LANES_H

#include "device/cpu/vecmath.h"

/* Adds the lanes pairwise; destroys them. */
LKS_CPU_INLINE float lks_lanes_sum(float *lanes) {
    for (int width = LKS_CPU_LANES / 2; width > 0; width /= 2)
#pragma omp simd
        for (int j = 0; j < width; j++)
            lanes[j] += lanes[j + width];
    return lanes[0];
}

/* The last n < LKS_CPU_LANES elements of a row, filled up; and back. */
LKS_CPU_INLINE void lks_lanes_load(float *lanes, const float *x, int64_t n, float fill) {
#pragma omp simd
    for (int j = 0; j < LKS_CPU_LANES; j++)
        lanes[j] = j < n ? x[j] : fill;
}

LKS_CPU_INLINE void lks_lanes_store(const float *lanes, float *y, int64_t n) {
#pragma omp simd
    for (int j = 0; j < LKS_CPU_LANES; j++)
        if (j < n) y[j] = lanes[j];
}

/* The largest of x[n]; NaN are passed over. */
LKS_CPU_INLINE float lks_row_max(int64_t n, const float *x) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float lanes[LKS_CPU_LANES], tail[LKS_CPU_LANES];
#pragma omp simd
    for (int j = 0; j < LKS_CPU_LANES; j++)
        lanes[j] = -INFINITY;
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    lks_lanes_load(tail, x + whole, n - whole, -INFINITY);
#pragma omp simd
    for (int j = 0; j < LKS_CPU_LANES; j++)
        lanes[j] = tail[j] > lanes[j] ? tail[j] : lanes[j];
    for (int width = LKS_CPU_LANES / 2; width > 0; width /= 2)
#pragma omp simd
        for (int j = 0; j < width; j++)
            lanes[j] = lanes[j + width] > lanes[j] ? lanes[j + width] : lanes[j];
    return lanes[0];
}

/* The sum of e^(x - max) over x[n]; with `y` not NULL also writes the terms there; y may be x. */
LKS_CPU_INLINE float lks_row_exp(int64_t n, const float *x, float max, float *y) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0}, e[LKS_CPU_LANES];
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES) {
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            e[j] = lks_expf(x[i + j] - max);
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += e[j];
        if (y) memcpy(y + i, e, sizeof e);
    }
    if (whole < n) {
        lks_lanes_load(e, x + whole, n - whole, -INFINITY); /* whose e^ is 0 */
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            e[j] = lks_expf(e[j] - max);
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += e[j];
        if (y) lks_lanes_store(e, y + whole, n - whole);
    }
    return lks_lanes_sum(sum);
}

/* The sum of x y over [n]. */
LKS_CPU_INLINE float lks_row_dot(int64_t n, const float *x, const float *y) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += x[i + j] * y[i + j];
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += x[i] * y[i];
    return lks_lanes_sum(sum);
}

#endif
