/* Layer norm of rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/cast.h"
#include "device/cpu/columns.h"
#include "device/cpu/cpu.h"
#include "device/cpu/lanes.h"

typedef struct norm_op {
    lks_op op;
    lks_dtype type;
    lks_layer_norm_desc desc;
} norm_op;

/* Pointers are NULL where the operation has no such thing. Each pass is written once for both types
 * of elements. */
typedef struct norm_job {
    int64_t rows, width, chunks;
    double eps;
    const void *x, *weight, *bias, *dy;
    void *y, *dx;
    float *mean, *invstd; /* [rows], saved */
    double *sums;         /* [chunks][2][width]: of dy xhat and dy; NULL: not wanted */
} norm_job;

/* ---- forward ---- */

/* Of the n elements from `at` on. */
LKS_CPU_INLINE float row_sum(lks_dtype type, const void *x, int64_t at, int64_t n) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += lks_cpu_load(type, x, at + i + j);
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += lks_cpu_load(type, x, at + i);
    return lks_lanes_sum(sum);
}

LKS_CPU_INLINE float row_squares(lks_dtype type, const void *x, int64_t at, int64_t n, float mean) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++) {
            const float centred = lks_cpu_load(type, x, at + i + j) - mean;
            sum[j] += centred * centred;
        }
    for (int64_t i = whole; i < n; i++) {
        const float centred = lks_cpu_load(type, x, at + i) - mean;
        sum[i - whole] += centred * centred;
    }
    return lks_lanes_sum(sum);
}

/* Row r of y. weighted, biased: has the operation such parameters? */
LKS_CPU_INLINE void normalise_row(lks_dtype type, bool weighted, bool biased, const norm_job *job,
                                  int64_t r) {
    const int64_t at = r * job->width;
    const float mean = job->mean[r], invstd = job->invstd[r];
#pragma omp simd
    for (int64_t i = 0; i < job->width; i++) {
        float v = (lks_cpu_load(type, job->x, at + i) - mean) * invstd;
        if (weighted) v *= lks_cpu_load(type, job->weight, i);
        if (biased) v += lks_cpu_load(type, job->bias, i);
        lks_cpu_store(type, job->y, at + i, v);
    }
}

LKS_CPU_INLINE void forward_rows(lks_dtype type, const norm_job *job, int64_t begin, int64_t end) {
    const int64_t width = job->width;
    for (int64_t r = begin; r < end; r++) {
        const float mean = row_sum(type, job->x, r * width, width) / (float)width;
        const double squares = (double)row_squares(type, job->x, r * width, width, mean);
        job->mean[r] = mean;
        job->invstd[r] = (float)(1 / sqrt(squares / (double)width + job->eps));
        if (!job->weight)
            normalise_row(type, false, false, job, r);
        else if (!job->bias)
            normalise_row(type, true, false, job, r);
        else
            normalise_row(type, true, true, job, r);
    }
}

LKS_CPU_CLONES
static void forward_f32(const void *job, int64_t begin, int64_t end) {
    forward_rows(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void forward_bf16(const void *job, int64_t begin, int64_t end) {
    forward_rows(LKS_BF16, job, begin, end);
}

/* ---- backward ---- */

/* dy weight at element i of the row that begins at `at`. */
LKS_CPU_INLINE float weighted_gradient(lks_dtype type, bool weighted, const norm_job *job,
                                       int64_t at, int64_t i) {
    const float g = lks_cpu_load(type, job->dy, at + i);
    return weighted ? g * lks_cpu_load(type, job->weight, i) : g;
}

/* dx = invstd (g - mean(g) - xhat mean(g xhat)), with g = dy weight and xhat = (x - mean) invstd.
 */
LKS_CPU_INLINE void backward_row(lks_dtype type, bool weighted, const norm_job *job, int64_t r) {
    const int64_t width = job->width, whole = width - width % LKS_CPU_LANES, at = r * width;
    const float mean = job->mean[r], invstd = job->invstd[r];
    float sum[LKS_CPU_LANES] = {0}, product[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
#pragma omp simd
        for (int j = 0; j < LKS_CPU_LANES; j++) {
            const float g = weighted_gradient(type, weighted, job, at, i + j);
            sum[j] += g;
            product[j] += g * (lks_cpu_load(type, job->x, at + i + j) - mean);
        }
    for (int64_t i = whole; i < width; i++) {
        const float g = weighted_gradient(type, weighted, job, at, i);
        sum[i - whole] += g;
        product[i - whole] += g * (lks_cpu_load(type, job->x, at + i) - mean);
    }
    const float constant = lks_lanes_sum(sum) / (float)width;
    const float slope = lks_lanes_sum(product) * invstd * invstd / (float)width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        const float g = weighted_gradient(type, weighted, job, at, i);
        const float centred = lks_cpu_load(type, job->x, at + i) - mean;
        lks_cpu_store(type, job->dx, at + i, (g - constant - centred * slope) * invstd);
    }
}

LKS_CPU_INLINE void add_to_sums(lks_dtype type, const norm_job *job, int64_t r, double *sums) {
    const int64_t width = job->width, at = r * width;
    const float mean = job->mean[r], invstd = job->invstd[r];
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        const float g = lks_cpu_load(type, job->dy, at + i);
        const float xhat = (lks_cpu_load(type, job->x, at + i) - mean) * invstd;
        sums[i] += (double)(g * xhat);
        sums[width + i] += (double)g;
    }
}

LKS_CPU_INLINE void backward_chunks(lks_dtype type, const norm_job *job, int64_t begin,
                                    int64_t end) {
    for (int64_t chunk = begin; chunk < end; chunk++) {
        const int64_t last = lks_column_chunk_begin(job->rows, job->chunks, chunk + 1);
        double *sums = job->sums ? job->sums + chunk * 2 * job->width : NULL;
        if (sums) memset(sums, 0, (size_t)(2 * job->width) * sizeof *sums);
        for (int64_t r = lks_column_chunk_begin(job->rows, job->chunks, chunk); r < last; r++) {
            if (sums) add_to_sums(type, job, r, sums); /* before dx, which may replace dy */
            if (job->dx && job->weight)
                backward_row(type, true, job, r);
            else if (job->dx)
                backward_row(type, false, job, r);
        }
    }
}

LKS_CPU_CLONES
static void backward_f32(const void *job, int64_t begin, int64_t end) {
    backward_chunks(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void backward_bf16(const void *job, int64_t begin, int64_t end) {
    backward_chunks(LKS_BF16, job, begin, end);
}

/* ---- the operation ---- */

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    const lks_layer_norm_desc *d = desc;
    if (d->adds_x2) return lks_fail(LKS_EUNSUPPORTED, "layer_norm: a sum cannot be fused");
    norm_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "layer_norm: cannot allocate the operation");
    op->type = type;
    op->desc = *d;
    const int64_t rows = max_batch * d->rows_per_sample;
    op->op.needs = (lks_op_needs){
        .saved_bytes = (size_t)(2 * rows) * sizeof(float),
        .scratch_bytes =
            (size_t)(lks_column_chunks(rows, d->width) * 2 * d->width) * sizeof(double),
        .backward_needs_x = true,
        .backward_in_place = true,
    };
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static norm_job make_job(const norm_op *op, const lks_op_args *args) {
    const lks_layer_norm_desc *d = &op->desc;
    const int64_t rows = args->batch * d->rows_per_sample;
    float *mean = args->saved;
    return (norm_job){
        .rows = rows,
        .width = d->width,
        .chunks = lks_column_chunks(rows, d->width),
        .eps = d->eps,
        .x = args->x,
        .weight = d->affine ? args->params[0] : NULL,
        .bias = d->affine && d->bias ? args->params[1] : NULL,
        .dy = args->dy,
        .y = args->y,
        .dx = args->dx,
        .mean = mean,
        .invstd = mean + rows,
        .sums = d->affine && args->dparams ? args->scratch : NULL,
    };
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const norm_op *op = (const norm_op *)base;
    const norm_job job = make_job(op, args);
    lks_cpu_parallel(base->device, job.rows, 1, 1 + LKS_CPU_GRAIN / job.width,
                     op->type == LKS_F32 ? forward_f32 : forward_bf16, &job);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const norm_op *op = (const norm_op *)base;
    const norm_job job = make_job(op, args);
    lks_cpu_parallel(base->device, job.chunks, 1, 1,
                     op->type == LKS_F32 ? backward_f32 : backward_bf16, &job);
    if (!job.sums) return LKS_OK;
    lks_column_combine(job.chunks, 2 * job.width, job.sums);
    lks_column_store(job.width, job.sums, args->accumulate, lks_op_dparam(args, 0));
    if (op->desc.bias)
        lks_column_store(job.width, job.sums + job.width, args->accumulate, lks_op_dparam(args, 1));
    return LKS_OK;
}

const lks_op_type lks_cpu_layer_norm = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
