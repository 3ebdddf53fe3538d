/* 3x3 convolutions by Winograd's method: about twice the speed of the direct sum where the channels
 * are many and the image fills the tiles.
 *
 * Forward and the gradient of x go through the tiles in blocks whose transformed inputs and outputs
 * stay in a core's cache; each thread has its own buffers. The gradient of the weights is a sum
 * over all tiles: it goes in longer stretches, first transformed by all threads together, then
 * multiplied with each thread at planes of its own, so that the order of summation does not depend
 * on the threads. */
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/cast.h"
#include "device/cpu/columns.h"
#include "device/cpu/conv2d.h"
#include "device/cpu/parallel.h"
#include "device/cpu/winograd.h"

enum {
    LANES = LKS_WINOGRAD_LANES,
    PLANES = LKS_WINOGRAD_PLANES,
    OUTPUTS = LKS_WINOGRAD_OUTPUTS,
    BLOCK_BYTES = 512 << 10, /* of a thread's buffers: fits a core's second-level cache */
    STRETCH_BYTES = 2 << 20, /* of the buffers of all threads: fits a last-level cache */
    BLOCKS_STEP = 8,
    LEAST_BLOCK = 32, /* tiles: fewer rows make slow matrix products */
    /* Floats between planes beyond their content: planes a power of two apart would fall on the
     * same few places of the caches. */
    PLANE_GAP = LKS_CPU_LINE_FLOATS
};

typedef struct winograd_op {
    lks_op op;
    lks_conv2d_desc desc;
    lks_dtype type;    /* of all but the gradients of the parameters, which are float32 */
    int64_t block;     /* tiles in a thread's buffers, at most */
    int64_t stretch;   /* tiles in the common buffers */
    int64_t params_at; /* floats of scratch in front of the parameters as float32 */
} winograd_op;

/* One product over tiles: y from x with u[36][in, out], both channels-last. */
typedef struct tile_job {
    lks_winograd_images x, y;
    const void *from;
    const float *u, *bias;
    void *to;
    bool relu;
    int64_t tiles, block;
    float *buffers; /* of thread t: t * buffer_floats on */
    int64_t buffer_floats;
    atomic_int *failure; /* a dnnl_status_t of any thread's product that failed */
} tile_job;

/* ---- sizes ---- */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t tiles_along(int64_t size) {
    return (size + OUTPUTS - 1) / OUTPUTS;
}

static int64_t plane_stride(int64_t tiles, int64_t channels) {
    return tiles * channels + PLANE_GAP;
}

/* Floats of two sets of planes, one for each side's channels. */
static int64_t planes_floats(const lks_conv2d_desc *d, int64_t tiles) {
    return PLANES * (plane_stride(tiles, d->in_channels) + plane_stride(tiles, d->out_channels));
}

static int64_t weights_floats(const lks_conv2d_desc *d) {
    return PLANES * d->in_channels * d->out_channels;
}

static int64_t tiles_that_fit(const lks_conv2d_desc *d, int64_t bytes) {
    return bytes / (int64_t)sizeof(float) / (PLANES * (d->in_channels + d->out_channels));
}

/* Tiles of a batch: those of the larger of the two sides. */
static int64_t most_tiles(const lks_conv2d_desc *d, int64_t batch) {
    const int64_t in = tiles_along(d->in_size[0]) * tiles_along(d->in_size[1]);
    const int64_t out = tiles_along(d->out_size[0]) * tiles_along(d->out_size[1]);
    return batch * most(in, out);
}

/* The bounds were measured: with fewer channels, or more than half of the tiles' outputs outside
 * the image, the transforms eat what the products save; with few tiles, transforming the weights
 * does. The products are float32 with either type, while the plain sum is twice as fast in bfloat16
 * and wins more often. */
bool lks_conv2d_winograd_fits(lks_dtype type, const lks_conv2d_desc *d, int64_t max_batch) {
    const int64_t least_channels = type == LKS_F32 ? 48 : 96;
    const int64_t least_tiles = type == LKS_F32 ? 32 : 256;
    for (int i = 0; i < 2; i++)
        if (d->kernel[i] != 3 || d->stride[i] != 1 || d->dilation[i] != 1 || d->padding[i] > 2)
            return false;
    if (d->groups != 1 || d->in_channels % LANES || d->out_channels % LANES) return false;
    const int64_t pixels = d->out_size[0] * d->out_size[1];
    const int64_t tiles = tiles_along(d->out_size[0]) * tiles_along(d->out_size[1]);
    return d->in_channels + d->out_channels >= least_channels &&
           2 * pixels >= tiles * OUTPUTS * OUTPUTS && max_batch * tiles >= least_tiles;
}

/* ---- the operation ---- */

static void destroy(lks_op *op) {
    free(op);
}

static int64_t plain_weights_count(const lks_conv2d_desc *d) {
    return d->out_channels * d->in_channels * d->kernel[0] * d->kernel[1];
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    const lks_conv2d_desc *d = desc;
    winograd_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "conv2d: cannot allocate the operation");
    const int64_t tiles = most_tiles(d, max_batch);
    op->desc = *d;
    op->type = type;
    op->block = least(most(tiles_that_fit(d, BLOCK_BYTES), LEAST_BLOCK), tiles);
    op->stretch = least(most(tiles_that_fit(d, STRETCH_BYTES), LEAST_BLOCK), tiles);
    const int64_t by_blocks = device->threads * planes_floats(d, op->block);
    const int64_t by_stretches = planes_floats(d, op->stretch);
    const int64_t rows = max_batch * d->out_size[0] * d->out_size[1];
    op->params_at = weights_floats(d) + most(by_blocks, by_stretches);
    const int64_t params = type == LKS_F32 ? 0 : plain_weights_count(d) + d->out_channels;
    const size_t floats = (size_t)(op->params_at + params);
    const size_t bias = d->bias ? lks_cpu_bias_scratch_bytes(rows, d->out_channels) : 0;
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = d->activation == LKS_ACTIVATION_RELU,
        .scratch_bytes = floats * sizeof(float) > bias ? floats * sizeof(float) : bias,
    };
    *out = &op->op;
    return LKS_OK;
}

/* Weights (0) or bias (1) as float32: where they are, or widened. */
static const float *plain_param(const winograd_op *op, const lks_op_args *args, int param) {
    if (op->type == LKS_F32) return args->params[param];
    const int64_t weights = plain_weights_count(&op->desc);
    float *room = (float *)args->scratch + op->params_at + (param == 0 ? 0 : weights);
    lks_cpu_cast(op->op.device, NULL, param == 0 ? weights : op->desc.out_channels, LKS_BF16,
                 args->params[param], LKS_F32, room);
    return room;
}

static lks_winograd_images images(lks_dtype type, int64_t channels, const int64_t *size,
                                  int64_t padding_high, int64_t padding_wide,
                                  const int64_t *tiled_size) {
    return (lks_winograd_images){
        .type = type,
        .height = size[0],
        .width = size[1],
        .channels = channels,
        .tiles_high = tiles_along(tiled_size[0]),
        .tiles_wide = tiles_along(tiled_size[1]),
        .offset = {-padding_high, -padding_wide},
    };
}

/* ---- forward, and the gradient of x ---- */

/* Plane by plane m = v u. Inside a parallel region sgemm stays on its thread. */
static void multiply(const tile_job *job, int64_t tiles, const float *v, float *m) {
    const int64_t in = job->x.channels, out = job->y.channels;
    for (int64_t k = 0; k < PLANES; k++) {
        const dnnl_status_t status =
            dnnl_sgemm('N', 'N', tiles, out, in, 1.0f, v + k * plane_stride(tiles, in), in,
                       job->u + k * in * out, out, 0.0f, m + k * plane_stride(tiles, out), out);
        if (status != dnnl_success) atomic_store(job->failure, (int)status);
    }
}

static void tile_part(const void *data, int64_t begin, int64_t end) {
    const tile_job *job = data;
    float *v = job->buffers + omp_get_thread_num() * job->buffer_floats;
    for (int64_t block = begin; block < end; block++) {
        const int64_t first = block * job->block, tiles = least(job->block, job->tiles - first);
        float *m = v + PLANES * plane_stride(tiles, job->x.channels);
        lks_winograd_inputs(&job->x, job->from, first, tiles, plane_stride(tiles, job->x.channels),
                            v);
        multiply(job, tiles, v, m);
        lks_winograd_outputs(&job->y, m, first, tiles, plane_stride(tiles, job->y.channels),
                             job->bias, job->relu, job->to);
    }
}

/* Cuts the tiles into a multiple of BLOCKS_STEP blocks where they are many enough, for threads to
 * have equal shares; the cut does not depend on the number of threads. */
static int64_t choose_block(int64_t tiles, int64_t at_most) {
    int64_t blocks = (tiles + at_most - 1) / at_most;
    blocks = (blocks + BLOCKS_STEP - 1) / BLOCKS_STEP * BLOCKS_STEP;
    return least(most((tiles + blocks - 1) / blocks, LEAST_BLOCK), at_most);
}

static lks_status run_tiles(const winograd_op *op, tile_job *job) {
    atomic_int failure = dnnl_success;
    job->failure = &failure;
    job->block = choose_block(job->tiles, op->block);
    const int64_t blocks = (job->tiles + job->block - 1) / job->block;
    lks_cpu_parallel(op->op.device, blocks, 1, 1, tile_part, job);
    return lks_onednn_check((dnnl_status_t)atomic_load(&failure), "products of conv2d");
}

typedef struct weights_job {
    const lks_conv2d_desc *desc;
    const float *weights;
    float *u;
    const float *du;
    float *dweights;
    bool accumulate;
} weights_job;

static void weights_part(const void *data, int64_t begin, int64_t end) {
    const weights_job *job = data;
    lks_winograd_weights(job->desc->in_channels, job->desc->out_channels, job->weights, begin, end,
                         job->u);
}

static void turned_weights_part(const void *data, int64_t begin, int64_t end) {
    const weights_job *job = data;
    lks_winograd_turned_weights(job->desc->in_channels, job->desc->out_channels, job->weights,
                                begin, end, job->u);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const winograd_op *op = (const winograd_op *)base;
    const lks_conv2d_desc *d = &op->desc;
    float *u = args->scratch;
    if (args->batch == 0) return LKS_OK;
    const weights_job weights = {.desc = d, .weights = plain_param(op, args, 0), .u = u};
    lks_cpu_parallel(base->device, d->out_channels, LANES, LANES, weights_part, &weights);
    const lks_winograd_images y = images(op->type, d->out_channels, d->out_size, 0, 0, d->out_size);
    tile_job job = {
        .x =
            images(op->type, d->in_channels, d->in_size, d->padding[0], d->padding[1], d->out_size),
        .y = y,
        .from = args->x,
        .u = u,
        .bias = d->bias ? plain_param(op, args, 1) : NULL,
        .to = args->y,
        .relu = d->activation == LKS_ACTIVATION_RELU,
        .tiles = args->batch * y.tiles_high * y.tiles_wide,
        .buffers = u + weights_floats(d),
        .buffer_floats = planes_floats(d, op->block),
    };
    return run_tiles(op, &job);
}

/* dx is the convolution of dy with the turned weights, padded so that all of dy takes part. */
static lks_status backward_data(const winograd_op *op, const lks_op_args *args) {
    const lks_conv2d_desc *d = &op->desc;
    float *u = args->scratch;
    const weights_job weights = {.desc = d, .weights = plain_param(op, args, 0), .u = u};
    lks_cpu_parallel(op->op.device, d->in_channels, LANES, LANES, turned_weights_part, &weights);
    const lks_winograd_images dx = images(op->type, d->in_channels, d->in_size, 0, 0, d->in_size);
    tile_job job = {
        .x = images(op->type, d->out_channels, d->out_size, 2 - d->padding[0], 2 - d->padding[1],
                    d->in_size),
        .y = dx,
        .from = args->dy,
        .u = u,
        .to = args->dx,
        .tiles = args->batch * dx.tiles_high * dx.tiles_wide,
        .buffers = u + weights_floats(d),
        .buffer_floats = planes_floats(d, op->block),
    };
    return run_tiles(op, &job);
}

/* ---- the gradient of the weights ---- */

typedef struct stretch_job {
    lks_winograd_images x, dy;
    const void *x_from, *dy_from;
    int64_t first, tiles;
    float *v, *z, *du;
    atomic_int *failure;
} stretch_job;

static void transform_part(const void *data, int64_t begin, int64_t end) {
    const stretch_job *job = data;
    const int64_t in = job->x.channels, out = job->dy.channels;
    lks_winograd_inputs(&job->x, job->x_from, job->first + begin, end - begin,
                        plane_stride(job->tiles, in), job->v + begin * in);
    lks_winograd_gradients(&job->dy, job->dy_from, job->first + begin, end - begin,
                           plane_stride(job->tiles, out), job->z + begin * out);
}

/* Plane by plane du (+)= v^T z. */
static void sum_part(const void *data, int64_t begin, int64_t end) {
    const stretch_job *job = data;
    const int64_t in = job->x.channels, out = job->dy.channels;
    for (int64_t k = begin; k < end; k++) {
        const dnnl_status_t status = dnnl_sgemm(
            'T', 'N', in, out, job->tiles, 1.0f, job->v + k * plane_stride(job->tiles, in), in,
            job->z + k * plane_stride(job->tiles, out), out, job->first == 0 ? 0.0f : 1.0f,
            job->du + k * in * out, out);
        if (status != dnnl_success) atomic_store(job->failure, (int)status);
    }
}

static void weights_gradient_part(const void *data, int64_t begin, int64_t end) {
    const weights_job *job = data;
    lks_winograd_weights_gradient(job->desc->in_channels, job->desc->out_channels, job->du,
                                  job->accumulate, begin, end, job->dweights);
}

static lks_status backward_weights(const winograd_op *op, const lks_op_args *args) {
    const lks_conv2d_desc *d = &op->desc;
    const lks_device *device = op->op.device;
    float *du = args->scratch;
    atomic_int failure = dnnl_success;
    stretch_job job = {
        .x =
            images(op->type, d->in_channels, d->in_size, d->padding[0], d->padding[1], d->out_size),
        .dy = images(op->type, d->out_channels, d->out_size, 0, 0, d->out_size),
        .x_from = args->x,
        .dy_from = args->dy,
        .v = du + weights_floats(d),
        .du = du,
        .failure = &failure,
    };
    const int64_t tiles = args->batch * job.dy.tiles_high * job.dy.tiles_wide;
    for (; job.first < tiles; job.first += op->stretch) {
        job.tiles = least(op->stretch, tiles - job.first);
        job.z = job.v + PLANES * plane_stride(job.tiles, d->in_channels);
        lks_cpu_parallel(device, job.tiles, 1, 1, transform_part, &job);
        lks_cpu_parallel(device, PLANES, 1, 1, sum_part, &job);
        lks_device_poll(device);
    }
    if (atomic_load(&failure) != dnnl_success)
        return lks_onednn_check((dnnl_status_t)atomic_load(&failure),
                                "gradient of conv2d's weights");
    const weights_job weights = {
        .desc = d, .du = du, .dweights = args->dparams[0], .accumulate = args->accumulate};
    lks_cpu_parallel(device, d->out_channels, LANES, LANES, weights_gradient_part, &weights);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const winograd_op *op = (const winograd_op *)base;
    if (args->batch == 0) {
        lks_conv2d_clear_gradients(&op->desc, args);
        return LKS_OK;
    }
    lks_conv2d_bias_backward(base->device, op->type, &op->desc, args, args->scratch);
    lks_status status = lks_op_dparam(args, 0) ? backward_weights(op, args) : LKS_OK;
    if (status == LKS_OK && args->dx) status = backward_data(op, args);
    return status;
}

const lks_op_type lks_cpu_conv2d_winograd = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
