/* Sums over the rows of a [rows, width] matrix: gradients of biases and of normalisations, batch
 * statistics. Rows are cut into chunks that depend on the shape alone, and the chunks' sums are
 * added in order, so the result does not depend on the number of threads. Included by
 * src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_COLUMNS_H
#define LKS_DEVICE_CPU_COLUMNS_H

#include "device/cpu/parallel.h"

enum {
    LKS_COLUMN_CHUNKS = 32, /* at most */
    /* Rows summed in float32 before they are added to a float64 sum: bounds the rounding error. */
    LKS_COLUMN_BLOCK = 32
};

/* The number of chunks for a matrix, and the first row of a chunk. */
int64_t lks_column_chunks(int64_t rows, int64_t width);
int64_t lks_column_chunk_begin(int64_t rows, int64_t chunks, int64_t chunk);

/* sum[i] = partial[0][i] + partial[1][i] + ... for [chunks][count] partial sums, into the first. */
void lks_column_combine(int64_t chunks, int64_t count, double *partial);

/* to[i] = sum[i], or += with accumulate. to NULL: not wanted. */
void lks_column_store(int64_t count, const double *sum, bool accumulate, float *to);

/* Bytes of scratch memory for lks_cpu_bias_backward over at most max_rows rows. */
size_t lks_cpu_bias_scratch_bytes(int64_t max_rows, int64_t width);

/* The gradient of a bias, and of a ReLU behind it. dy, y: [rows, width] of `type`, LKS_F32 or
 * LKS_BF16. y not NULL: dy is set to zero where y <= 0. dbias not NULL: gets (accumulate: plus) the
 * sums of dy over the rows. */
void lks_cpu_bias_backward(const lks_device *device, lks_dtype type, int64_t rows, int64_t width,
                           const void *y, void *dy, float *dbias, bool accumulate, void *scratch);

#endif
