/* Batch norm. Statistics are means and centred sums of squares in float64, which every rank can
 * join to those of the others; the passes over memory are in batch_norm_columns.cu and
 * batch_norm_rows.cu. */
#include "device/cuda/batch_norm.cuh"

#include <stdlib.h>

namespace {

struct norm_op {
    lks_op op;
    lks_batch_norm_desc desc;
    const lks_batch_norm_passes *passes;
};

/* What forward leaves for backward. */
struct saved_part {
    double *count; /* values of a channel, over all ranks that took part */
    float *mean, *invstd;
};

} // namespace

static saved_part split_saved(const norm_op *op, void *memory) {
    double *count = (double *)memory;
    float *mean = (float *)(count + 1);
    return saved_part{count, mean, mean + op->desc.channels};
}

/* Scratch memory: the values that travel between the ranks ([2 channels + 1]), then partial sums.
 */
static double *exchange_of(const lks_op_args *args) {
    return (double *)args->scratch;
}

static double *partial_of(const norm_op *op, const lks_op_args *args) {
    return exchange_of(args) + 2 * op->desc.channels + 1;
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    norm_op *op = (norm_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "batch_norm: cannot allocate the operation");
    const lks_batch_norm_desc *d = &op->desc;
    op->desc = *(const lks_batch_norm_desc *)desc;
    op->passes = d->layout == LKS_LAYOUT_ROWS && d->spatial > 1 ? &lks_cuda_batch_norm_rows
                                                                : &lks_cuda_batch_norm_columns;
    const size_t channels = (size_t)d->channels;
    op->op.needs.saved_bytes = sizeof(double) + 2 * channels * sizeof(float);
    op->op.needs.scratch_bytes = (2 * channels + 1) * sizeof(double) +
                                 lks_column_sums_bytes(max_batch * d->spatial, d->channels);
    op->op.needs.backward_needs_x = op->op.needs.backward_in_place = true;
    op->op.needs.backward_needs_y = d->adds_x2 && d->activation == LKS_ACTIVATION_RELU;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

/* Does this call normalise by its own batch, rather than by the running statistics? */
static bool by_batch(const norm_op *op, const lks_op_args *args) {
    return args->training || !op->desc.track_running_stats;
}

static bool synchronised(const lks_op_args *args) {
    return args->training && args->all_reduce != nullptr;
}

static lks_batch_norm_job make_job(const norm_op *op, lks_stream *stream, const lks_op_args *args) {
    const lks_batch_norm_desc *d = &op->desc;
    const saved_part saved = split_saved(op, args->saved);
    lks_batch_norm_job job = {};
    job.stream = stream;
    job.batch = args->batch;
    job.spatial = d->spatial;
    job.channels = d->channels;
    job.relu = d->activation == LKS_ACTIVATION_RELU;
    job.x = args->x;
    job.y = args->y;
    job.dy = args->dy;
    job.dx = args->dx;
    job.adds_x2 = d->adds_x2;
    job.x2 = args->x2;
    if (d->adds_x2 && job.relu) job.relu_y = args->y;
    if (d->adds_x2 && (args->dx2 || job.relu)) job.summed = args->dx2 ? args->dx2 : args->dy;
    job.mean = saved.mean;
    job.invstd = saved.invstd;
    if (d->affine) {
        job.weight = args->params[0];
        job.bias = args->params[1];
    }
    if (by_batch(op, args)) {
        job.sums = exchange_of(args);
        job.count = saved.count;
    }
    job.partial = partial_of(op, args);
    job.chunks = lks_batch_norm_chunks(args->batch, d->spatial, d->channels);
    return job;
}

/* ---- statistics ---- */

namespace {

/* Turns a channel's mean and centred squares over `count` values into what forward saves. */
struct statistics {
    saved_part saved;
    double eps, momentum;
    const lks_step_counters *counters; /* may be NULL */
    int64_t batches_tracked;           /* from counters on */
    float *running_mean, *running_var; /* NULL: not updated */

    __device__ double momentum_now() const {
        if (momentum >= 0) return momentum;
        return 1.0 / (double)((counters ? counters->batches_tracked : 0) + batches_tracked + 1);
    }

    __device__ void finish(int64_t c, double count, double mean, double squares) const {
        if (c == 0) *saved.count = count;
        if (count == 0) return;
        saved.mean[c] = (float)mean;
        saved.invstd[c] = (float)(1 / sqrt(squares / count + eps));
        if (!running_mean) return;
        const double m = momentum_now();
        running_mean[c] = (float)((1 - m) * (double)running_mean[c] + m * mean);
        running_var[c] = (float)((1 - m) * (double)running_var[c] + m * (squares / (count - 1)));
    }
};

/* From the sums of x - shift and of its square. exchange: NULL, or the place for what goes to the
 * other ranks: plain sums of x and of x^2, as float64 has the digits to spare, and the count. */
template <typename T> struct finish_moments {
    statistics to;
    const T *x;
    int64_t channels, shift_stride;
    double count;
    double *exchange;

    __device__ void operator()(int64_t c, double a, double b) const {
        const double shift = count > 0 ? (double)lks_to_float(x[c * shift_stride]) : 0;
        if (exchange) {
            exchange[c] = count * shift + a;
            exchange[channels + c] = b + 2 * shift * a + count * shift * shift;
            if (c == 0) exchange[2 * channels] = count;
            return;
        }
        const double squares = b - a * a / count;
        to.finish(c, count, shift + a / count, squares < 0 ? 0 : squares);
    }
};

} // namespace

static __global__ void finish_exchange(int64_t channels, const double *exchange, statistics to) {
    const double count = exchange[2 * channels];
    for (int64_t c = lks_thread(); c < channels; c += lks_threads()) {
        const double mean = exchange[c] / count;
        const double squares = exchange[channels + c] - count * mean * mean;
        to.finish(c, count, mean, squares < 0 ? 0 : squares);
    }
}

static __global__ void take_running(int64_t channels, const float *mean, const float *variance,
                                    double eps, saved_part saved) {
    for (int64_t c = lks_thread(); c < channels; c += lks_threads()) {
        saved.mean[c] = mean[c];
        saved.invstd[c] = (float)(1 / sqrt((double)variance[c] + eps));
    }
}

static lks_status too_few_values(void) {
    return lks_fail(LKS_EINVAL, "batch_norm: the batch has 1 value per channel, and training "
                                "needs more than 1; use a larger batch, or drop the last one");
}

/* Sums over all ranks. They wait for this one also where its own work has failed: then it adds
 * nothing, and the failure comes back. */
static lks_status sum_over_ranks(lks_stream *stream, const lks_op_args *args, int64_t count,
                                 lks_status failure) {
    double *values = exchange_of(args);
    if (failure != LKS_OK)
        (void)lks_device_zero(stream->device, stream, values, (size_t)count * sizeof *values);
    lks_status status = args->all_reduce(args->all_reduce_data, values, count, stream);
    return failure != LKS_OK && status == LKS_OK ? failure : status;
}

/* Only a rank that has at most one value itself cannot know that there are enough, and then it
 * waits to see. Not in a recording, which may not wait: the same batch has passed before it. */
static lks_status share_moments(const norm_op *op, lks_stream *stream, const lks_op_args *args,
                                const statistics &to, lks_status failure) {
    const int64_t channels = op->desc.channels;
    double *exchange = exchange_of(args), count = 0;
    lks_status status = sum_over_ranks(stream, args, 2 * channels + 1, failure);
    if (status != LKS_OK) return status;
    if (args->batch * op->desc.spatial <= 1 && !lks_stream_is_recording(stream)) {
        status = lks_device_copy(stream->device, stream, &count, exchange + 2 * channels,
                                 sizeof count, LKS_COPY_TO_HOST);
        if (status == LKS_OK) status = lks_stream_synchronize(stream);
        if (status != LKS_OK) return status;
        if (count == 1) return too_few_values();
    }
    return lks_cuda_launch(stream, "batch norm", finish_exchange,
                           lks_cuda_blocks(stream, channels, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0,
                           channels, exchange, to);
}

static statistics make_statistics(const norm_op *op, const lks_op_args *args) {
    const lks_batch_norm_desc *d = &op->desc;
    statistics to = {};
    to.saved = split_saved(op, args->saved);
    to.eps = d->eps;
    to.momentum = d->momentum;
    to.counters = args->counters;
    to.batches_tracked = args->batches_tracked;
    if (args->training && d->track_running_stats) {
        to.running_mean = (float *)args->buffers[0];
        to.running_var = (float *)args->buffers[1];
    }
    return to;
}

/* Sets saved: the mean and 1 / sqrt(variance + eps) to normalise by. */
static lks_status batch_statistics(const norm_op *op, const lks_batch_norm_job *job,
                                   const lks_op_args *args) {
    const lks_batch_norm_desc *d = &op->desc;
    const bool rows = op->passes == &lks_cuda_batch_norm_rows, share = synchronised(args);
    const int64_t count = job->batch * job->spatial;
    if (count == 1 && args->training && !share) return too_few_values();
    const statistics to = make_statistics(op, args);
    lks_status status = lks_cuda_typed(job->stream->device, [&](auto zero) {
        typedef decltype(zero) T;
        lks_status summed = op->passes->moments(job);
        if (summed != LKS_OK) return summed;
        const finish_moments<T> finish = {to,
                                          (const T *)job->x,
                                          d->channels,
                                          rows ? d->spatial : 1,
                                          (double)count,
                                          share ? exchange_of(args) : nullptr};
        return lks_column_finish(job->stream, "batch norm", job->chunks, d->channels, job->partial,
                                 finish);
    });
    return share ? share_moments(op, job->stream, args, to, status) : status;
}

static lks_status running_statistics(const norm_op *op, lks_stream *stream,
                                     const lks_op_args *args) {
    return lks_cuda_launch(stream, "batch norm", take_running,
                           lks_cuda_blocks(stream, op->desc.channels, LKS_CUDA_BLOCK),
                           LKS_CUDA_BLOCK, 0, op->desc.channels, (const float *)args->buffers[0],
                           (const float *)args->buffers[1], op->desc.eps,
                           split_saved(op, args->saved));
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const norm_op *op = (const norm_op *)base;
    const lks_batch_norm_job job = make_job(op, stream, args);
    lks_status status = by_batch(op, args) ? batch_statistics(op, &job, args)
                                           : running_statistics(op, stream, args);
    if (status != LKS_OK || args->batch == 0) return status;
    return op->passes->normalise(&job);
}

/* ---- gradients ---- */

namespace {

/* The sums of dy and of dy (x - mean): to the parameters' gradients, and to `sums` for that of x.
 */
struct finish_gradients {
    const float *invstd;
    float *dweight, *dbias;
    bool accumulate, empty;
    int64_t channels;
    double *sums;

    __device__ void operator()(int64_t c, double a, double b) const {
        sums[c] = a;
        sums[channels + c] = b;
        /* Of an empty batch nothing is known, and the product is 0. */
        lks_column_store(empty ? 0 : b * (double)invstd[c], accumulate, dweight, c);
        lks_column_store(a, accumulate, dbias, c);
    }
};

} // namespace

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const norm_op *op = (const norm_op *)base;
    lks_batch_norm_job job = make_job(op, stream, args);
    const finish_gradients finish = {job.invstd,
                                     op->desc.affine ? lks_op_dparam(args, 0) : nullptr,
                                     op->desc.affine ? lks_op_dparam(args, 1) : nullptr,
                                     args->accumulate,
                                     args->batch == 0,
                                     job.channels,
                                     exchange_of(args)};
    lks_status status = op->passes->gradient_sums(&job);
    if (status == LKS_OK)
        status = lks_column_finish(stream, "batch norm gradient", job.chunks, job.channels,
                                   job.partial, finish);
    if (synchronised(args)) status = sum_over_ranks(stream, args, 2 * job.channels, status);
    if (status != LKS_OK || args->batch == 0 || !args->dx) return status;
    if (job.summed) job.dy = job.summed;
    return op->passes->gradient(&job);
}

extern "C" const lks_op_type lks_cuda_batch_norm = {create, forward, backward, destroy};
