#include "device/cpu/columns.h"

#include <string.h>

#include "device/cpu/cast.h"

int64_t lks_column_chunks(int64_t rows, int64_t width) {
    int64_t chunks = rows * width / (LKS_CPU_GRAIN / 2);
    if (chunks > rows / LKS_COLUMN_BLOCK) chunks = rows / LKS_COLUMN_BLOCK;
    if (chunks > LKS_COLUMN_CHUNKS) chunks = LKS_COLUMN_CHUNKS;
    return chunks < 1 ? 1 : chunks;
}

int64_t lks_column_chunk_begin(int64_t rows, int64_t chunks, int64_t chunk) {
    return rows * chunk / chunks;
}

void lks_column_combine(int64_t chunks, int64_t count, double *partial) {
    for (int64_t chunk = 1; chunk < chunks; chunk++)
        for (int64_t i = 0; i < count; i++)
            partial[i] += partial[chunk * count + i];
}

void lks_column_store(int64_t count, const double *sum, bool accumulate, float *to) {
    for (int64_t i = 0; to && i < count; i++)
        to[i] = accumulate ? to[i] + (float)sum[i] : (float)sum[i];
}

/* ---- bias ---- */

typedef struct bias_job {
    lks_dtype type;
    int64_t rows, width, chunks;
    const void *y;
    void *dy;
    double *partial; /* [chunks][width]; NULL: the mask alone */
} bias_job;

LKS_CPU_INLINE void mask(lks_dtype type, int64_t begin, int64_t end, const void *y, void *dy) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        const float g = lks_cpu_load(type, dy, i); /* NaN passes through */
        lks_cpu_store(type, dy, i, lks_cpu_load(type, y, i) <= 0.0f ? 0.0f : g);
    }
}

/* sum[width] += sums of rows [begin, end) of dy. */
LKS_CPU_INLINE void sum_rows(lks_dtype type, int64_t begin, int64_t end, int64_t width,
                             const void *dy, double *sum) {
    enum { TILE = 4 * LKS_CPU_LANES };
    for (int64_t at = 0; at < width; at += TILE) {
        const int64_t n = width - at < TILE ? width - at : TILE;
        float block[TILE] = {0};
        for (int64_t r = begin; r < end; r++)
            for (int64_t i = 0; i < n; i++)
                block[i] += lks_cpu_load(type, dy, r * width + at + i);
        for (int64_t i = 0; i < n; i++)
            sum[at + i] += (double)block[i];
    }
}

/* Of at most LKS_COLUMN_BLOCK rows. */
LKS_CPU_INLINE void bias_block(lks_dtype type, const bias_job *job, int64_t begin, int64_t end,
                               double *sum) {
    if (job->y) mask(type, begin * job->width, end * job->width, job->y, job->dy);
    if (sum) sum_rows(type, begin, end, job->width, job->dy, sum);
}

LKS_CPU_CLONES
static void bias_block_f32(const bias_job *job, int64_t begin, int64_t end, double *sum) {
    bias_block(LKS_F32, job, begin, end, sum);
}

LKS_CPU_CLONES
static void bias_block_bf16(const bias_job *job, int64_t begin, int64_t end, double *sum) {
    bias_block(LKS_BF16, job, begin, end, sum);
}

static void bias_part(const void *data, int64_t begin, int64_t end) {
    const bias_job *job = data;
    const int64_t width = job->width;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        double *sum = job->partial ? job->partial + chunk * width : NULL;
        const int64_t last = lks_column_chunk_begin(job->rows, job->chunks, chunk + 1);
        int64_t row = lks_column_chunk_begin(job->rows, job->chunks, chunk);
        if (sum) memset(sum, 0, (size_t)width * sizeof *sum);
        for (; row < last; row += LKS_COLUMN_BLOCK) {
            const int64_t next = last - row < LKS_COLUMN_BLOCK ? last : row + LKS_COLUMN_BLOCK;
            if (job->type == LKS_F32)
                bias_block_f32(job, row, next, sum);
            else
                bias_block_bf16(job, row, next, sum);
        }
    }
}

size_t lks_cpu_bias_scratch_bytes(int64_t max_rows, int64_t width) {
    return (size_t)(lks_column_chunks(max_rows, width) * width) * sizeof(double);
}

void lks_cpu_bias_backward(const lks_device *device, lks_dtype type, int64_t rows, int64_t width,
                           const void *y, void *dy, float *dbias, bool accumulate, void *scratch) {
    if (!y && !dbias) return;
    const int64_t chunks = lks_column_chunks(rows, width);
    const bias_job job = {type, rows, width, chunks, y, dy, dbias ? scratch : NULL};
    lks_cpu_parallel(device, chunks, 1, 1, bias_part, &job);
    if (!dbias) return;
    lks_column_combine(chunks, width, scratch);
    lks_column_store(width, scratch, accumulate, dbias);
}
