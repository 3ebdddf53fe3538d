/* Layer norm of rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/columns.h"
#include "device/cpu/cpu.h"
#include "device/cpu/lanes.h"

typedef struct norm_op {
    lks_op op;
    lks_layer_norm_desc desc;
} norm_op;

/* Pointers are NULL where the operation has no such thing. */
typedef struct norm_job {
    int64_t rows, width, chunks;
    double eps;
    const float *x, *weight, *bias, *dy;
    float *y, *dx;
    float *mean, *invstd; /* [rows], saved */
    double *sums;         /* [chunks][2][width]: of dy xhat and dy; NULL: not wanted */
} norm_job;

/* ---- forward ---- */

LKS_CPU_INLINE float row_sum(int64_t n, const float *x) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += x[i + j];
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += x[i];
    return lks_lanes_sum(sum);
}

LKS_CPU_INLINE float row_squares(int64_t n, const float *x, float mean) {
    const int64_t whole = n - n % LKS_CPU_LANES;
    float sum[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
        for (int j = 0; j < LKS_CPU_LANES; j++)
            sum[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += (x[i] - mean) * (x[i] - mean);
    return lks_lanes_sum(sum);
}

LKS_CPU_CLONES
static void forward_part(const void *data, int64_t begin, int64_t end) {
    const norm_job *job = data;
    const int64_t width = job->width;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * width;
        float *y = job->y + r * width;
        const float mean = row_sum(width, x) / (float)width;
        const double variance = (double)row_squares(width, x, mean) / (double)width;
        const float invstd = (float)(1 / sqrt(variance + job->eps));
        job->mean[r] = mean;
        job->invstd[r] = invstd;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            y[i] = (x[i] - mean) * invstd;
        if (job->weight) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                y[i] *= job->weight[i];
        }
        if (job->bias) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                y[i] += job->bias[i];
        }
    }
}

/* ---- backward ---- */

/* dx = invstd (g - mean(g) - xhat mean(g xhat)), with g = dy weight and xhat = (x - mean) invstd.
 */
LKS_CPU_INLINE void backward_row(const norm_job *job, int64_t r) {
    const int64_t width = job->width, whole = width - width % LKS_CPU_LANES;
    const float *x = job->x + r * width, *dy = job->dy + r * width, *weight = job->weight;
    const float mean = job->mean[r], invstd = job->invstd[r];
    float *dx = job->dx + r * width;
    float sum[LKS_CPU_LANES] = {0}, product[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < whole; i += LKS_CPU_LANES)
        for (int j = 0; j < LKS_CPU_LANES; j++) {
            const float g = weight ? dy[i + j] * weight[i + j] : dy[i + j];
            sum[j] += g;
            product[j] += g * (x[i + j] - mean);
        }
    for (int64_t i = whole; i < width; i++) {
        const float g = weight ? dy[i] * weight[i] : dy[i];
        sum[i - whole] += g;
        product[i - whole] += g * (x[i] - mean);
    }
    const float constant = lks_lanes_sum(sum) / (float)width;
    const float slope = lks_lanes_sum(product) * invstd * invstd / (float)width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        const float g = weight ? dy[i] * weight[i] : dy[i];
        dx[i] = (g - constant - (x[i] - mean) * slope) * invstd;
    }
}

LKS_CPU_INLINE void add_to_sums(const norm_job *job, int64_t r, double *sums) {
    const int64_t width = job->width;
    const float *x = job->x + r * width, *dy = job->dy + r * width;
    const float mean = job->mean[r], invstd = job->invstd[r];
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        sums[i] += (double)(dy[i] * ((x[i] - mean) * invstd));
        sums[width + i] += (double)dy[i];
    }
}

LKS_CPU_CLONES
static void backward_part(const void *data, int64_t begin, int64_t end) {
    const norm_job *job = data;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        const int64_t last = lks_column_chunk_begin(job->rows, job->chunks, chunk + 1);
        double *sums = job->sums ? job->sums + chunk * 2 * job->width : NULL;
        if (sums) memset(sums, 0, (size_t)(2 * job->width) * sizeof *sums);
        for (int64_t r = lks_column_chunk_begin(job->rows, job->chunks, chunk); r < last; r++) {
            if (sums) add_to_sums(job, r, sums); /* before dx, which may replace dy */
            if (job->dx) backward_row(job, r);
        }
    }
}

/* ---- the operation ---- */

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    const lks_layer_norm_desc *d = desc;
    if (d->adds_x2) return lks_fail(LKS_EUNSUPPORTED, "layer_norm: a sum cannot be fused");
    norm_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "layer_norm: cannot allocate the operation");
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
    const norm_job job = make_job((const norm_op *)base, args);
    lks_cpu_parallel(base->device, job.rows, 1, 1 + LKS_CPU_GRAIN / job.width, forward_part, &job);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const norm_op *op = (const norm_op *)base;
    const norm_job job = make_job(op, args);
    lks_cpu_parallel(base->device, job.chunks, 1, 1, backward_part, &job);
    if (!job.sums) return LKS_OK;
    lks_column_combine(job.chunks, 2 * job.width, job.sums);
    lks_column_store(job.width, job.sums, args->accumulate, lks_op_dparam(args, 0));
    if (op->desc.bias)
        lks_column_store(job.width, job.sums + job.width, args->accumulate, lks_op_dparam(args, 1));
    return LKS_OK;
}

const lks_op_type lks_cpu_layer_norm = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
