/* Batch norm. Statistics are means and centred sums of squares in float64, which every rank can
 * join to those of the others; the passes over memory are in batch_norm_columns.c and
 * batch_norm_rows.c. */
#include "device/cpu/batch_norm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/cast.h"
#include "device/cpu/columns.h"
#include "device/cpu/cpu.h"

typedef struct norm_op {
    lks_op op;
    lks_batch_norm_desc desc;
    lks_dtype type; /* of activations and parameters */
    const lks_batch_norm_passes *passes;
} norm_op;

/* What forward leaves for backward. */
typedef struct saved_part {
    double *count; /* values of a channel, over all ranks that took part */
    float *mean, *invstd;
} saved_part;

/* Scratch memory: float32 [channels] each, and float64 sums. */
typedef struct scratch_part {
    double *sums;
    double *exchange; /* [2 * channels + 1] */
    float *scale, *shift, *constant, *slope;
} scratch_part;

static saved_part split_saved(const norm_op *op, void *memory) {
    double *count = memory;
    float *mean = (float *)(count + 1);
    return (saved_part){count, mean, mean + op->desc.channels};
}

static scratch_part split_scratch(const norm_op *op, void *memory) {
    const int64_t channels = op->desc.channels;
    const size_t sums = op->passes->sums_bytes(op->op.max_batch, op->desc.spatial, channels);
    scratch_part s = {.sums = memory};
    s.exchange = (double *)((char *)memory + sums);
    s.scale = (float *)(s.exchange + 2 * channels + 1);
    s.shift = s.scale + channels;
    s.constant = s.shift + channels;
    s.slope = s.constant + channels;
    return s;
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    const lks_batch_norm_desc *d = desc;
    const bool rows = d->layout == LKS_LAYOUT_ROWS && d->spatial > 1;
    if (rows && type != LKS_F32)
        return lks_fail(LKS_EUNSUPPORTED, "batch_norm: rows of %s", lks_dtype_name(type));
    if (d->adds_x2) return lks_fail(LKS_EUNSUPPORTED, "batch_norm: a sum cannot be fused");
    norm_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "batch_norm: cannot allocate the operation");
    op->desc = *d;
    op->type = type;
    op->passes = rows ? &lks_batch_norm_rows : &lks_batch_norm_columns;
    const size_t channels = (size_t)d->channels;
    op->op.needs = (lks_op_needs){
        .saved_bytes = sizeof(double) + 2 * channels * sizeof(float),
        .scratch_bytes = op->passes->sums_bytes(max_batch, d->spatial, d->channels) +
                         (2 * channels + 1) * sizeof(double) + 4 * channels * sizeof(float),
        .backward_needs_x = true,
        .backward_in_place = true,
    };
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_batch_norm_job make_job(const norm_op *op, const lks_op_args *args) {
    const saved_part saved = split_saved(op, args->saved);
    const scratch_part scratch = split_scratch(op, args->scratch);
    return (lks_batch_norm_job){
        .device = op->op.device,
        .type = op->type,
        .batch = args->batch,
        .spatial = op->desc.spatial,
        .channels = op->desc.channels,
        .relu = op->desc.activation == LKS_ACTIVATION_RELU,
        .x = args->x,
        .y = args->y,
        .dy = args->dy,
        .dx = args->dx,
        .mean = saved.mean,
        .scale = scratch.scale,
        .shift = scratch.shift,
        .constant = scratch.constant,
        .slope = scratch.slope,
        .sums = scratch.sums,
    };
}

/* Does this call normalise by its own batch, rather than by the running statistics? */
static bool by_batch(const norm_op *op, const lks_op_args *args) {
    return args->training || !op->desc.track_running_stats;
}

static bool synchronised(const lks_op_args *args) {
    return args->training && args->all_reduce != NULL;
}

/* ---- statistics ---- */

/* Turns the sums, this rank's mean and centred squares, into those of all ranks' `count` values.
 * They travel as plain sums: float64 has the digits to spare. */
static lks_status share_moments(const norm_op *op, const lks_op_args *args, lks_stream *stream,
                                double *count) {
    const scratch_part s = split_scratch(op, args->scratch);
    const int64_t channels = op->desc.channels;
    for (int64_t c = 0; c < channels; c++) {
        s.exchange[c] = *count * s.sums[c];
        s.exchange[channels + c] = s.sums[channels + c] + *count * s.sums[c] * s.sums[c];
    }
    s.exchange[2 * channels] = *count;
    lks_status status =
        args->all_reduce(args->all_reduce_data, s.exchange, 2 * channels + 1, stream);
    if (status != LKS_OK) return status;
    *count = s.exchange[2 * channels];
    for (int64_t c = 0; c<channels && * count> 0; c++) {
        const double mean = s.exchange[c] / *count;
        s.sums[c] = mean;
        s.sums[channels + c] = fmax(0, s.exchange[channels + c] - *count * mean * mean);
    }
    return LKS_OK;
}

static void update_running(const norm_op *op, const lks_op_args *args, double count,
                           const double *sums) {
    const int64_t channels = op->desc.channels;
    float *mean = args->buffers[0], *variance = args->buffers[1];
    const int64_t tracked = lks_cpu_counters(args).batches_tracked + args->batches_tracked;
    const double momentum = op->desc.momentum < 0 ? 1.0 / (double)(tracked + 1) : op->desc.momentum;
    for (int64_t c = 0; c < channels; c++) {
        const double unbiased = sums[channels + c] / (count - 1);
        mean[c] = (float)((1 - momentum) * (double)mean[c] + momentum * sums[c]);
        variance[c] = (float)((1 - momentum) * (double)variance[c] + momentum * unbiased);
    }
}

/* Sets saved: the mean and 1 / sqrt(variance + eps) to normalise by. */
static lks_status batch_statistics(const norm_op *op, const lks_op_args *args, lks_stream *stream,
                                   const lks_batch_norm_job *job) {
    const int64_t channels = op->desc.channels;
    const saved_part saved = split_saved(op, args->saved);
    double count = (double)(args->batch * op->desc.spatial);
    op->passes->moments(job);
    if (synchronised(args)) {
        lks_status status = share_moments(op, args, stream, &count);
        if (status != LKS_OK) return status;
    }
    *saved.count = count;
    if (count == 0) return LKS_OK;
    if (count == 1 && args->training)
        return lks_fail(LKS_EINVAL, "batch_norm: the batch has 1 value per channel, and training "
                                    "needs more than 1; use a larger batch, or drop the last one");
    for (int64_t c = 0; c < channels; c++) {
        saved.mean[c] = (float)job->sums[c];
        saved.invstd[c] = (float)(1 / sqrt(job->sums[channels + c] / count + op->desc.eps));
    }
    if (args->training && op->desc.track_running_stats) update_running(op, args, count, job->sums);
    return LKS_OK;
}

static void running_statistics(const norm_op *op, const lks_op_args *args) {
    const saved_part saved = split_saved(op, args->saved);
    const float *mean = args->buffers[0], *variance = args->buffers[1];
    for (int64_t c = 0; c < op->desc.channels; c++) {
        saved.mean[c] = mean[c];
        saved.invstd[c] = (float)(1 / sqrt((double)variance[c] + op->desc.eps));
    }
    *saved.count = 0;
}

/* scale and shift, the same in forward and in backward. */
static void set_scale(const norm_op *op, const lks_op_args *args) {
    const saved_part saved = split_saved(op, args->saved);
    const scratch_part s = split_scratch(op, args->scratch);
    const void *weight = op->desc.affine ? args->params[0] : NULL;
    const void *bias = op->desc.affine ? args->params[1] : NULL;
    for (int64_t c = 0; c < op->desc.channels; c++) {
        const float scale = weight ? lks_cpu_load(op->type, weight, c) : 1.0f;
        s.scale[c] = scale * saved.invstd[c];
        s.shift[c] = bias ? lks_cpu_load(op->type, bias, c) : 0.0f;
    }
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const norm_op *op = (const norm_op *)base;
    const lks_batch_norm_job job = make_job(op, args);
    if (by_batch(op, args)) {
        lks_status status = batch_statistics(op, args, stream, &job);
        if (status != LKS_OK) return status;
    } else {
        running_statistics(op, args);
    }
    if (args->batch == 0) return LKS_OK;
    set_scale(op, args);
    op->passes->normalise(&job);
    return LKS_OK;
}

/* ---- gradients ---- */

/* The gradient of x sees the batch's statistics depend on x:
 * dx = scale (dy - mean(dy) - xhat mean(dy xhat)), with xhat = (x - mean) invstd and means over all
 * ranks. */
static lks_status set_correction(const norm_op *op, const lks_op_args *args, lks_stream *stream) {
    const saved_part saved = split_saved(op, args->saved);
    const scratch_part s = split_scratch(op, args->scratch);
    const int64_t channels = op->desc.channels;
    if (!by_batch(op, args)) {
        memset(s.constant, 0, (size_t)channels * sizeof *s.constant);
        memset(s.slope, 0, (size_t)channels * sizeof *s.slope);
        return LKS_OK;
    }
    memcpy(s.exchange, s.sums, (size_t)(2 * channels) * sizeof(double));
    if (synchronised(args)) {
        lks_status status =
            args->all_reduce(args->all_reduce_data, s.exchange, 2 * channels, stream);
        if (status != LKS_OK) return status;
    }
    for (int64_t c = 0; c<channels && * saved.count> 0; c++) {
        const double scale = (double)s.scale[c] / *saved.count, invstd = (double)saved.invstd[c];
        s.constant[c] = (float)(scale * s.exchange[c]);
        s.slope[c] = (float)(scale * invstd * invstd * s.exchange[channels + c]);
    }
    return LKS_OK;
}

static void store_gradients(const norm_op *op, const lks_op_args *args) {
    const saved_part saved = split_saved(op, args->saved);
    const scratch_part s = split_scratch(op, args->scratch);
    const int64_t channels = op->desc.channels;
    if (!op->desc.affine || !args->dparams) return;
    memcpy(s.exchange, s.sums, (size_t)(2 * channels) * sizeof(double));
    for (int64_t c = 0; c < channels && args->batch > 0; c++)
        s.exchange[channels + c] *= (double)saved.invstd[c];
    lks_column_store(channels, s.exchange + channels, args->accumulate, lks_op_dparam(args, 0));
    lks_column_store(channels, s.exchange, args->accumulate, lks_op_dparam(args, 1));
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const norm_op *op = (const norm_op *)base;
    const lks_batch_norm_job job = make_job(op, args);
    set_scale(op, args);
    op->passes->gradient_sums(&job);
    store_gradients(op, args);
    lks_status status = set_correction(op, args, stream);
    if (status != LKS_OK || args->batch == 0 || !args->dx) return status;
    op->passes->gradient(&job);
    return LKS_OK;
}

const lks_op_type lks_cpu_batch_norm = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
