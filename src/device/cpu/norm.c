/* Parts of vector norms, in float64. */
#include <math.h>
#include <string.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

/* The order of summation is fixed: lanes within a block, blocks within a wave, wave after wave.
 * Only which thread sums which block is open. */
enum { BLOCK = 4096, WAVE_BLOCKS = 256 };

typedef struct norm_job {
    lks_dtype type;
    const void *x;
    int64_t first, count; /* first: element at which the wave begins */
    double *partial;      /* of each block */
    lks_norm_kind kind;
} norm_job;

/* Adds the lanes in pairs, which bounds the error better than one after the other. */
LKS_CPU_INLINE double add_lanes(double *lanes) {
    for (int width = LKS_CPU_LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            lanes[j] += lanes[j + width];
    return lanes[0];
}

LKS_CPU_CLONES
static double sum_of_magnitudes(int64_t n, const float *x) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    double lanes[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            lanes[j] += (double)fabsf(x[i + j]);
    for (int64_t i = whole; i < n; i++)
        lanes[i - whole] += (double)fabsf(x[i]);
    return add_lanes(lanes);
}

LKS_CPU_CLONES
static double sum_of_squares(int64_t n, const float *x) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    double lanes[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (int64_t i = whole; i < n; i++)
        lanes[i - whole] += (double)x[i] * (double)x[i];
    return add_lanes(lanes);
}

/* The bits of magnitudes, taken as integers, have the order of the numbers, and NaN above all. */
LKS_CPU_CLONES
static double largest_magnitude(int64_t n, const float *x) {
    int32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    float magnitude;
    memcpy(&magnitude, &largest, sizeof magnitude);
    return (double)magnitude;
}

static void norm_blocks(const void *data, int64_t begin, int64_t end) {
    const norm_job *job = data;
    float room[BLOCK];
    for (int64_t b = begin; b < end; b++) {
        const int64_t left = job->count - b * BLOCK, n = left < BLOCK ? left : BLOCK;
        const float *x = lks_cpu_floats(job->type, job->x, job->first + b * BLOCK, n, room);
        job->partial[b] = job->kind == LKS_NORM_1   ? sum_of_magnitudes(n, x)
                          : job->kind == LKS_NORM_2 ? sum_of_squares(n, x)
                                                    : largest_magnitude(n, x);
    }
}

lks_status lks_cpu_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind, int64_t count,
                        lks_dtype type, const void *x, double *norm) {
    (void)stream;
    double partial[WAVE_BLOCKS], result = *norm;
    for (int64_t done = 0; done < count; done += (int64_t)WAVE_BLOCKS * BLOCK) {
        const norm_job job = {type, x, done, count - done, partial, kind};
        const int64_t left = (job.count + BLOCK - 1) / BLOCK;
        const int64_t blocks = left < WAVE_BLOCKS ? left : WAVE_BLOCKS;
        lks_cpu_parallel(device, blocks, 1, LKS_CPU_GRAIN / BLOCK, norm_blocks, &job);
        for (int64_t b = 0; b < blocks; b++) {
            if (kind != LKS_NORM_INF)
                result += partial[b];
            else if (isnan(partial[b]) || partial[b] > result) /* a NaN in result stays */
                result = partial[b];
        }
    }
    *norm = result;
    return LKS_OK;
}
