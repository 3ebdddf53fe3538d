/* Batch norm of channels-last memory: a matrix [rows, channels] whose columns are normalised. Every
 * pass is written once for both types of elements. */
#include <string.h>

#include "device/cpu/batch_norm.h"
#include "device/cpu/cast.h"
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
LKS_CPU_INLINE void join_block(lks_dtype type, int64_t rows, int64_t n, int64_t stride,
                               const void *x, int64_t at, int64_t before, double *mean,
                               double *squares) {
    float sum[TILE] = {0}, square[TILE] = {0}, centre[TILE];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            sum[i] += lks_cpu_load(type, x, at + r * stride + i);
    for (int64_t i = 0; i < n; i++)
        centre[i] = sum[i] / (float)rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            const float difference = lks_cpu_load(type, x, at + r * stride + i) - centre[i];
            square[i] += difference * difference;
        }
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        lks_moments_join((double)before, &mean[i], &squares[i], (double)rows, (double)centre[i],
                         (double)square[i]);
}

LKS_CPU_INLINE void moments_of(lks_dtype type, const lks_batch_norm_job *job, int64_t begin,
                               int64_t end, double *sums) {
    const int64_t channels = job->channels;
    for (int64_t row = begin; row < end; row += LKS_COLUMN_BLOCK)
        for (int64_t c = 0; c < channels; c += TILE)
            join_block(type, least(LKS_COLUMN_BLOCK, end - row), least(TILE, channels - c),
                       channels, job->x, row * channels + c, row - begin, sums + c,
                       sums + channels + c);
}

LKS_CPU_CLONES
static void moments_f32(const lks_batch_norm_job *job, int64_t begin, int64_t end, double *sums) {
    moments_of(LKS_F32, job, begin, end, sums);
}

LKS_CPU_CLONES
static void moments_bf16(const lks_batch_norm_job *job, int64_t begin, int64_t end, double *sums) {
    moments_of(LKS_BF16, job, begin, end, sums);
}

static void moments(const lks_batch_norm_job *job) {
    const int64_t channels = job->channels, rows = rows_of(job);
    const int64_t chunks = run_chunks(job, job->type == LKS_F32 ? moments_f32 : moments_bf16);
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

/* Adds those of rows [begin, end), at most LKS_COLUMN_BLOCK of them, and n <= TILE columns from
 * `at` on. */
LKS_CPU_INLINE void gradient_sums_tile(lks_dtype type, const lks_batch_norm_job *job, int64_t begin,
                                       int64_t end, int64_t at, int64_t n, double *sums) {
    const int64_t channels = job->channels;
    const float *mean = job->mean + at, *scale = job->scale + at, *shift = job->shift + at;
    float sum[TILE] = {0}, product[TILE] = {0};
    for (int64_t r = begin; r < end; r++) {
        const int64_t place = r * channels + at;
        if (job->relu) {
            for (int64_t i = 0; i < n; i++) {
                const float centred = lks_cpu_load(type, job->x, place + i) - mean[i];
                const float dy = lks_cpu_load(type, job->dy, place + i);
                const float g = centred * scale[i] + shift[i] <= 0.0f ? 0.0f : dy;
                sum[i] += g;
                product[i] += g * centred;
            }
        } else {
            for (int64_t i = 0; i < n; i++) {
                const float dy = lks_cpu_load(type, job->dy, place + i);
                sum[i] += dy;
                product[i] += dy * (lks_cpu_load(type, job->x, place + i) - mean[i]);
            }
        }
    }
    for (int64_t i = 0; i < n; i++) {
        sums[at + i] += (double)sum[i];
        sums[channels + at + i] += (double)product[i];
    }
}

LKS_CPU_INLINE void gradient_sums_of(lks_dtype type, const lks_batch_norm_job *job, int64_t begin,
                                     int64_t end, double *sums) {
    for (int64_t row = begin; row < end; row += LKS_COLUMN_BLOCK)
        for (int64_t at = 0; at < job->channels; at += TILE)
            gradient_sums_tile(type, job, row, least(row + LKS_COLUMN_BLOCK, end), at,
                               least(TILE, job->channels - at), sums);
}

LKS_CPU_CLONES
static void gradient_sums_f32(const lks_batch_norm_job *job, int64_t begin, int64_t end,
                              double *sums) {
    gradient_sums_of(LKS_F32, job, begin, end, sums);
}

LKS_CPU_CLONES
static void gradient_sums_bf16(const lks_batch_norm_job *job, int64_t begin, int64_t end,
                               double *sums) {
    gradient_sums_of(LKS_BF16, job, begin, end, sums);
}

static void gradient_sums(const lks_batch_norm_job *job) {
    const block_sums run = job->type == LKS_F32 ? gradient_sums_f32 : gradient_sums_bf16;
    lks_column_combine(run_chunks(job, run), 2 * job->channels, job->sums);
}

/* ---- element by element ---- */

LKS_CPU_INLINE void normalise_rows(lks_dtype type, const lks_batch_norm_job *job, int64_t begin,
                                   int64_t end) {
    const int64_t channels = job->channels;
    const float *mean = job->mean, *scale = job->scale, *shift = job->shift;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * channels;
        if (job->relu) {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float v =
                    (lks_cpu_load(type, job->x, at + c) - mean[c]) * scale[c] + shift[c];
                lks_cpu_store(type, job->y, at + c, v <= 0.0f ? 0.0f : v);
            }
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                lks_cpu_store(type, job->y, at + c,
                              (lks_cpu_load(type, job->x, at + c) - mean[c]) * scale[c] + shift[c]);
        }
    }
}

LKS_CPU_INLINE void gradient_rows(lks_dtype type, const lks_batch_norm_job *job, int64_t begin,
                                  int64_t end) {
    const int64_t channels = job->channels;
    const float *mean = job->mean, *scale = job->scale, *shift = job->shift;
    const float *constant = job->constant, *slope = job->slope;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * channels;
        if (job->relu) {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float centred = lks_cpu_load(type, job->x, at + c) - mean[c];
                const float dy = lks_cpu_load(type, job->dy, at + c);
                const float g = centred * scale[c] + shift[c] <= 0.0f ? 0.0f : dy;
                lks_cpu_store(type, job->dx, at + c,
                              g * scale[c] - constant[c] - centred * slope[c]);
            }
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float centred = lks_cpu_load(type, job->x, at + c) - mean[c];
                const float dy = lks_cpu_load(type, job->dy, at + c);
                lks_cpu_store(type, job->dx, at + c,
                              dy * scale[c] - constant[c] - centred * slope[c]);
            }
        }
    }
}

LKS_CPU_CLONES
static void normalise_f32(const void *job, int64_t begin, int64_t end) {
    normalise_rows(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void normalise_bf16(const void *job, int64_t begin, int64_t end) {
    normalise_rows(LKS_BF16, job, begin, end);
}

LKS_CPU_CLONES
static void gradient_f32(const void *job, int64_t begin, int64_t end) {
    gradient_rows(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void gradient_bf16(const void *job, int64_t begin, int64_t end) {
    gradient_rows(LKS_BF16, job, begin, end);
}

static void normalise(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, rows_of(job), 1, 1 + LKS_CPU_GRAIN / job->channels,
                     job->type == LKS_F32 ? normalise_f32 : normalise_bf16, job);
}

static void gradient(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, rows_of(job), 1, 1 + LKS_CPU_GRAIN / job->channels,
                     job->type == LKS_F32 ? gradient_f32 : gradient_bf16, job);
}

const lks_batch_norm_passes lks_batch_norm_columns = {
    .moments = moments,
    .normalise = normalise,
    .gradient_sums = gradient_sums,
    .gradient = gradient,
    .sums_bytes = sums_bytes,
};
