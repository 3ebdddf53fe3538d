#include "comm/reduce.h"

#include <assert.h>
#include <string.h>

/* Elements reduced at a time: all sources are read before the block is written, which lets `out` be
 * one of them, and the block stays in the first-level cache. */
enum { BLOCK = 1024 };

bool lks_reduce_supports(lks_dtype dtype) {
    return dtype == LKS_F32 || dtype == LKS_F64 || dtype == LKS_I64 || dtype == LKS_BF16;
}

static void add_f32(float *restrict sum, const float *restrict x, int n) {
#pragma omp simd
    for (int i = 0; i < n; i++)
        sum[i] += x[i];
}

static void add_f64(double *restrict sum, const double *restrict x, int n) {
#pragma omp simd
    for (int i = 0; i < n; i++)
        sum[i] += x[i];
}

/* Unsigned, because signed overflow is undefined. */
static void add_i64(uint64_t *restrict sum, const uint64_t *restrict x, int n) {
#pragma omp simd
    for (int i = 0; i < n; i++)
        sum[i] += x[i];
}

/* The comparisons keep a NaN on either side. */
static void max_f32(float *restrict max, const float *restrict x, int n) {
    for (int i = 0; i < n; i++)
        max[i] = max[i] >= x[i] || max[i] != max[i] ? max[i] : x[i];
}

static void max_f64(double *restrict max, const double *restrict x, int n) {
    for (int i = 0; i < n; i++)
        max[i] = max[i] >= x[i] || max[i] != max[i] ? max[i] : x[i];
}

static void max_i64(int64_t *restrict max, const int64_t *restrict x, int n) {
    for (int i = 0; i < n; i++)
        max[i] = max[i] >= x[i] ? max[i] : x[i];
}

static void bf16_to_f32(const uint16_t *restrict from, float *restrict to, int n) {
    for (int i = 0; i < n; i++)
        to[i] = lks_bf16_to_float(from[i]);
}

static void reduce_block_bf16(const void *const *sources, int source_count, int64_t first, int n,
                              lks_reduce_op op, uint16_t *out) {
    float total[BLOCK], x[BLOCK];
    bf16_to_f32((const uint16_t *)sources[0] + first, total, n);
    for (int s = 1; s < source_count; s++) {
        bf16_to_f32((const uint16_t *)sources[s] + first, x, n);
        if (op == LKS_REDUCE_SUM)
            add_f32(total, x, n);
        else
            max_f32(total, x, n);
    }
    for (int i = 0; i < n; i++)
        out[first + i] = lks_bf16_of_float(total[i]);
}

static void combine(lks_dtype dtype, lks_reduce_op op, void *total, const void *x, int n) {
    bool sum = op == LKS_REDUCE_SUM;
    switch (dtype) {
    case LKS_F32:
        (sum ? add_f32 : max_f32)(total, x, n);
        break;
    case LKS_F64:
        (sum ? add_f64 : max_f64)(total, x, n);
        break;
    case LKS_I64:
        if (sum)
            add_i64(total, x, n);
        else
            max_i64(total, x, n);
        break;
    default:
        assert(!"lks_reduce_supports has let it pass");
    }
}

void lks_reduce(const void *const *sources, int source_count, int64_t count, lks_dtype dtype,
                lks_reduce_op op, void *out) {
    size_t element = lks_dtype_bytes(dtype);
    for (int64_t first = 0; first < count; first += BLOCK) {
        int n = (int)(count - first < BLOCK ? count - first : BLOCK);
        if (dtype == LKS_BF16) {
            reduce_block_bf16(sources, source_count, first, n, op, out);
            continue;
        }
        double total[BLOCK]; /* double: aligned for every type */
        size_t offset = (size_t)first * element;
        memcpy(total, (const char *)sources[0] + offset, (size_t)n * element);
        for (int s = 1; s < source_count; s++)
            combine(dtype, op, total, (const char *)sources[s] + offset, n);
        memcpy((char *)out + offset, total, (size_t)n * element);
    }
}
