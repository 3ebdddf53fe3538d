#include "device/cpu/columns.h"

#include <string.h>

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
    int64_t rows, width, chunks;
    const float *y;
    float *dy;
    double *partial; /* [chunks][width]; NULL: the mask alone */
} bias_job;

LKS_CPU_CLONES
static void mask(int64_t n, const float *y, float *dy) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dy[i] = y[i] <= 0.0f ? 0.0f : dy[i]; /* NaN passes through */
}

/* sum[w] = sums over `rows` rows of dy, for w <= LKS_CPU_LANES * 4 columns, `stride` apart. */
LKS_CPU_CLONES
static void sum_rows(int64_t rows, int64_t width, const float *dy, double *sum) {
    enum { TILE = 4 * LKS_CPU_LANES };
    for (int64_t at = 0; at < width; at += TILE) {
        const int64_t n = width - at < TILE ? width - at : TILE;
        float block[TILE] = {0};
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < n; i++)
                block[i] += dy[r * width + at + i];
        for (int64_t i = 0; i < n; i++)
            sum[at + i] += (double)block[i];
    }
}

static void bias_part(const void *data, int64_t begin, int64_t end) {
    const bias_job *job = data;
    const int64_t width = job->width;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        double *sum = job->partial ? job->partial + chunk * width : NULL;
        const int64_t last = lks_column_chunk_begin(job->rows, job->chunks, chunk + 1);
        int64_t row = lks_column_chunk_begin(job->rows, job->chunks, chunk);
        if (sum) memset(sum, 0, (size_t)width * sizeof *sum);
        while (row < last) {
            const int64_t rows = last - row < LKS_COLUMN_BLOCK ? last - row : LKS_COLUMN_BLOCK;
            float *dy = job->dy + row * width;
            if (job->y) mask(rows * width, job->y + row * width, dy);
            if (sum) sum_rows(rows, width, dy, sum);
            row += rows;
        }
    }
}

size_t lks_cpu_bias_scratch_bytes(int64_t max_rows, int64_t width) {
    return (size_t)(lks_column_chunks(max_rows, width) * width) * sizeof(double);
}

void lks_cpu_bias_backward(const lks_device *device, int64_t rows, int64_t width, const float *y,
                           float *dy, float *dbias, bool accumulate, void *scratch) {
    if (!y && !dbias) return;
    const int64_t chunks = lks_column_chunks(rows, width);
    const bias_job job = {rows, width, chunks, y, dy, dbias ? scratch : NULL};
    lks_cpu_parallel(device, chunks, 1, 1, bias_part, &job);
    if (!dbias) return;
    lks_column_combine(chunks, width, scratch);
    lks_column_store(width, scratch, accumulate, dbias);
}
