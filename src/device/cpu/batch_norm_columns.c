/* Batch norm of channels-last memory: a matrix [rows, channels] whose columns are normalised. */
#include <string.h>

#include "device/cpu/batch_norm.h"
#include "device/cpu/columns.h"

enum { TILE = 4 * LKS_CPU_LANES }; /* columns that go through a block of rows together */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t rows_of(const lks_batch_norm_job *job) {
    return job->batch * job->spatial;
}

static size_t sums_bytes(int64_t max_batch, int64_t spatial, int64_t channels) {
    return (size_t)(lks_column_chunks(max_batch * spatial, channels) * 2 * channels) *
           sizeof(double);
}

/* The part of a pass that takes chunks of rows: chunk c writes its sums behind those of chunk
 * c - 1. */
typedef void (*block_sums)(const lks_batch_norm_job *job, int64_t begin, int64_t end, double *sums);

typedef struct chunk_job {
    const lks_batch_norm_job *job;
    int64_t chunks;
    block_sums run;
} chunk_job;

static void chunk_part(const void *data, int64_t begin, int64_t end) {
    const chunk_job *c = data;
    const int64_t rows = rows_of(c->job);
    for (int64_t chunk = begin; chunk < end; chunk++) {
        double *sums = c->job->sums + chunk * 2 * c->job->channels;
        memset(sums, 0, (size_t)(2 * c->job->channels) * sizeof *sums);
        c->run(c->job, lks_column_chunk_begin(rows, c->chunks, chunk),
               lks_column_chunk_begin(rows, c->chunks, chunk + 1), sums);
    }
}

static int64_t run_chunks(const lks_batch_norm_job *job, block_sums run) {
    const chunk_job c = {job, lks_column_chunks(rows_of(job), job->channels), run};
    lks_cpu_parallel(job->device, c.chunks, 1, 1, chunk_part, &c);
    return c.chunks;
}

/* ---- moments ---- */

/* Joins the moments of x[rows, n <= TILE], `stride` apart, to those of `before` rows. The second
 * look at the block finds it in the cache. */
LKS_CPU_CLONES
static void join_block(int64_t rows, int64_t n, int64_t stride, const float *x, int64_t before,
                       double *mean, double *squares) {
    float sum[TILE] = {0}, square[TILE] = {0}, centre[TILE];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            sum[i] += x[r * stride + i];
    for (int64_t i = 0; i < n; i++)
        centre[i] = sum[i] / (float)rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            const float difference = x[r * stride + i] - centre[i];
            square[i] += difference * difference;
        }
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        lks_moments_join((double)before, &mean[i], &squares[i], (double)rows, (double)centre[i],
                         (double)square[i]);
}

static void moments_of(const lks_batch_norm_job *job, int64_t begin, int64_t end, double *sums) {
    const int64_t channels = job->channels;
    for (int64_t row = begin; row < end; row += LKS_COLUMN_BLOCK)
        for (int64_t c = 0; c < channels; c += TILE)
            join_block(least(LKS_COLUMN_BLOCK, end - row), least(TILE, channels - c), channels,
                       job->x + row * channels + c, row - begin, sums + c, sums + channels + c);
}

static void moments(const lks_batch_norm_job *job) {
    const int64_t channels = job->channels, rows = rows_of(job);
    const int64_t chunks = run_chunks(job, moments_of);
    for (int64_t chunk = 1; chunk < chunks; chunk++) {
        const int64_t begin = lks_column_chunk_begin(rows, chunks, chunk);
        const int64_t end = lks_column_chunk_begin(rows, chunks, chunk + 1);
        const double *more = job->sums + chunk * 2 * channels;
        for (int64_t c = 0; c < channels; c++)
            lks_moments_join((double)begin, &job->sums[c], &job->sums[channels + c],
                             (double)(end - begin), more[c], more[channels + c]);
    }
}

/* ---- sums for the gradient ---- */

LKS_CPU_CLONES
static void gradient_sums_of(const lks_batch_norm_job *job, int64_t begin, int64_t end,
                             double *sums) {
    const int64_t channels = job->channels;
    for (int64_t row = begin; row < end; row += LKS_COLUMN_BLOCK)
        for (int64_t at = 0; at < channels; at += TILE) {
            const int64_t n = least(TILE, channels - at);
            const int64_t last = least(row + LKS_COLUMN_BLOCK, end);
            const float *mean = job->mean + at, *scale = job->scale + at, *shift = job->shift + at;
            float sum[TILE] = {0}, product[TILE] = {0};
            for (int64_t r = row; r < last; r++) {
                const float *x = job->x + r * channels + at, *dy = job->dy + r * channels + at;
                if (job->relu) {
                    for (int64_t i = 0; i < n; i++) {
                        const float centred = x[i] - mean[i];
                        const float g = centred * scale[i] + shift[i] <= 0.0f ? 0.0f : dy[i];
                        sum[i] += g;
                        product[i] += g * centred;
                    }
                } else {
                    for (int64_t i = 0; i < n; i++) {
                        sum[i] += dy[i];
                        product[i] += dy[i] * (x[i] - mean[i]);
                    }
                }
            }
            for (int64_t i = 0; i < n; i++) {
                sums[at + i] += (double)sum[i];
                sums[channels + at + i] += (double)product[i];
            }
        }
}

static void gradient_sums(const lks_batch_norm_job *job) {
    lks_column_combine(run_chunks(job, gradient_sums_of), 2 * job->channels, job->sums);
}

/* ---- element by element ---- */

LKS_CPU_CLONES
static void normalise_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    const int64_t channels = job->channels;
    const float *mean = job->mean, *scale = job->scale, *shift = job->shift;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * channels;
        float *y = job->y + r * channels;
        if (job->relu) {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float v = (x[c] - mean[c]) * scale[c] + shift[c];
                y[c] = v <= 0.0f ? 0.0f : v;
            }
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[c] = (x[c] - mean[c]) * scale[c] + shift[c];
        }
    }
}

LKS_CPU_CLONES
static void gradient_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    const int64_t channels = job->channels;
    const float *mean = job->mean, *scale = job->scale, *shift = job->shift;
    const float *constant = job->constant, *slope = job->slope;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * channels, *dy = job->dy + r * channels;
        float *dx = job->dx + r * channels;
        if (job->relu) {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float centred = x[c] - mean[c];
                const float g = centred * scale[c] + shift[c] <= 0.0f ? 0.0f : dy[c];
                dx[c] = g * scale[c] - constant[c] - centred * slope[c];
            }
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                dx[c] = dy[c] * scale[c] - constant[c] - (x[c] - mean[c]) * slope[c];
        }
    }
}

static void normalise(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, rows_of(job), 1, 1 + LKS_CPU_GRAIN / job->channels,
                     normalise_part, job);
}

static void gradient(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, rows_of(job), 1, 1 + LKS_CPU_GRAIN / job->channels, gradient_part,
                     job);
}

const lks_batch_norm_passes lks_batch_norm_columns = {
    .moments = moments,
    .normalise = normalise,
    .gradient_sums = gradient_sums,
    .gradient = gradient,
    .sums_bytes = sums_bytes,
};
