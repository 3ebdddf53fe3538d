/* 2d convolution on channels-last activations: its planning, and the order of its parts. */
#include "device/cuda/conv2d.h"

#include <stdlib.h>

typedef struct conv_op {
    lks_op op;
    lks_conv2d_desc desc;
} conv_op;

/* ---- which places a row sees ---- */

/* The multiplier is rounded up by less than 1 / 2^shift parts of itself, 2^shift >= 2^31 * divisor,
 * too little to reach the next whole number. */
static lks_divider make_divider(int divisor) {
    int bits = 0;
    while ((INT64_C(1) << bits) < divisor)
        bits++;
    const uint64_t power = UINT64_C(1) << (31 + bits);
    return (lks_divider){(power + (uint64_t)divisor - 1) / (uint64_t)divisor, 31 + bits};
}

static void set_dividers(lks_conv_gather *g) {
    g->by_image = make_divider(g->size[0] * g->size[1]);
    g->by_width = make_divider(g->size[1]);
}

lks_conv_gather lks_conv_forward_gather(const lks_conv2d_desc *d, int64_t batch) {
    lks_conv_gather g = {
        .rows = (int)(batch * d->out_size[0] * d->out_size[1]),
        .groups = (int)d->groups,
        .inner = (int)(d->in_channels / d->groups),
        .outer = (int)(d->out_channels / d->groups),
    };
    for (int i = 0; i < 2; i++) {
        g.size[i] = g.target[i] = (int)d->out_size[i];
        g.source[i] = (int)d->in_size[i];
        g.kernel[i] = g.window[i] = (int)d->kernel[i];
        g.scale[i] = (int)d->stride[i];
        g.offset[i] = -(int)d->padding[i];
        g.step[i] = (int)d->dilation[i];
        g.tap_step[i] = g.target_step[i] = 1;
    }
    set_dividers(&g);
    return g;
}

static int common_divisor(int a, int b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

/* Output o saw input i through tap k where i = o * stride - padding + k * dilation: of the inputs
 * first + place * stride, through every tap_step-th tap from first_tap on, if at all. */
static void set_backward_axis(lks_conv_gather *g, const lks_conv2d_desc *d, int i, int first) {
    const int stride = (int)d->stride[i], dilation = (int)d->dilation[i], taps = (int)d->kernel[i];
    const int from = first + (int)d->padding[i];
    const int tap_step = stride / common_divisor(stride, dilation);
    int tap = 0;
    while (tap < tap_step && (from - tap * dilation) % stride != 0)
        tap++;
    const bool seen = tap < tap_step && tap < taps;
    g->size[i] = ((int)d->in_size[i] - first + stride - 1) / stride;
    g->source[i] = (int)d->out_size[i];
    g->kernel[i] = seen ? (taps - tap + tap_step - 1) / tap_step : 0;
    g->scale[i] = 1;
    g->offset[i] = (from - tap * dilation) / stride;
    g->step[i] = -(tap_step * dilation / stride);
    g->window[i] = taps;
    g->first_tap[i] = tap;
    g->tap_step[i] = tap_step;
    g->target[i] = (int)d->in_size[i];
    g->target_first[i] = first;
    g->target_step[i] = stride;
}

lks_conv_gather lks_conv_backward_gather(const lks_conv2d_desc *d, int64_t batch,
                                         const int first[2]) {
    lks_conv_gather g = {
        .groups = (int)d->groups,
        .inner = (int)(d->out_channels / d->groups),
        .outer = (int)(d->in_channels / d->groups),
    };
    for (int i = 0; i < 2; i++)
        set_backward_axis(&g, d, i, first[i]);
    g.rows = (int)batch * g.size[0] * g.size[1];
    set_dividers(&g);
    return g;
}

/* ---- planning ---- */

static int64_t weight_count(const lks_conv2d_desc *d) {
    return d->out_channels * (d->in_channels / d->groups) * d->kernel[0] * d->kernel[1];
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Packed weights, the sums of the bias's gradient, and the parts of the weights': they take turns.
 */
static size_t scratch_bytes(lks_dtype type, const lks_conv2d_desc *d, int64_t max_batch) {
    const lks_conv_gather gather = lks_conv_forward_gather(d, max_batch);
    size_t bytes = (size_t)weight_count(d) * lks_dtype_bytes(type);
    if (d->bias) bytes = larger(bytes, lks_cuda_bias_scratch_bytes(gather.rows, d->out_channels));
    return larger(bytes, lks_conv_is_depthwise(d)
                             ? lks_conv_depthwise_scratch_bytes(&gather)
                             : lks_conv_weight_gradient_scratch_bytes(&gather));
}

/* Rows, and every factor of a row's number, are counted in 31 bits; groups are the third dimension
 * of a grid. */
static lks_status check_size(const lks_conv2d_desc *d, int64_t max_batch) {
    enum { MAX_GROUPS = 65535 };
    if (d->groups > MAX_GROUPS && !lks_conv_is_depthwise(d))
        return lks_fail(LKS_EUNSUPPORTED, "conv2d: %lld groups: a GPU takes at most %d",
                        (long long)d->groups, MAX_GROUPS);
    const double in = (double)d->in_size[0] * (double)d->in_size[1] * (double)max_batch;
    const double out = (double)d->out_size[0] * (double)d->out_size[1] * (double)max_batch;
    if (in < 0x1p31 && out < 0x1p31 && weight_count(d) < (INT64_C(1) << 31)) return LKS_OK;
    return lks_fail(
        LKS_EUNSUPPORTED,
        "conv2d of %lld images of %lld x %lld with %lld weights: one call takes less "
        "than 2^31 pixels, and as many weights; take smaller batches (micro_batch_size)",
        (long long)max_batch, (long long)d->in_size[0], (long long)d->in_size[1],
        (long long)weight_count(d));
}

static void destroy(lks_op *op) {
    free(op);
}

/* Does every output see the input of its own place alone, all channels of it? */
static bool is_pointwise(const lks_conv2d_desc *d) {
    bool pointwise = d->groups == 1;
    for (int i = 0; i < 2; i++)
        pointwise = pointwise && d->kernel[i] == 1 && d->stride[i] == 1 && d->padding[i] == 0;
    return pointwise;
}

/* A linear layer of the pixels: channels stand last, and the weights are in its order. */
static lks_status create_pointwise(lks_device *device, lks_dtype type, const lks_conv2d_desc *d,
                                   int64_t max_batch, lks_op **out) {
    const lks_linear_desc pixels = {
        .in_features = d->in_channels,
        .out_features = d->out_channels,
        .rows_per_sample = d->out_size[0] * d->out_size[1],
        .bias = d->bias,
        .activation = d->activation,
    };
    return lks_op_make(&lks_cuda_linear, device, type, &pixels, max_batch, out);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    const lks_conv2d_desc *d = desc;
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "conv2d: activation %d cannot be fused",
                        (int)d->activation);
    if (is_pointwise(d)) return create_pointwise(device, type, d, max_batch, out);
    lks_status status = check_size(d, max_batch);
    if (status != LKS_OK) return status;
    conv_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "conv2d: cannot allocate the operation");
    op->desc = *d;
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = d->activation == LKS_ACTIVATION_RELU,
        .scratch_bytes = scratch_bytes(type, d, max_batch),
    };
    *out = &op->op;
    return LKS_OK;
}

/* ---- running ---- */

static lks_conv_product_fn *product_of(const lks_conv2d_desc *d) {
    return lks_conv_is_depthwise(d) ? lks_conv_depthwise : lks_conv_product;
}

/* The weights in the product's order: as they are, or copied to scratch. */
static lks_status prepare_weights(const lks_conv2d_desc *d, lks_stream *stream, bool backward,
                                  const lks_op_args *args, const void **out) {
    const bool same_order = d->kernel[0] * d->kernel[1] == 1 && !backward;
    *out = same_order ? args->params[0] : args->scratch;
    if (same_order) return LKS_OK;
    return lks_conv_pack_weights(stream, d, backward, args->params[0], args->scratch);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const lks_conv2d_desc *d = &((conv_op *)base)->desc;
    const void *weights;
    if (args->batch == 0) return LKS_OK;
    const lks_conv_gather gather = lks_conv_forward_gather(d, args->batch);
    lks_status status = prepare_weights(d, stream, false, args, &weights);
    if (status != LKS_OK) return status;
    return product_of(d)(stream, &gather, args->x, weights, d->bias ? args->params[1] : NULL,
                         d->activation == LKS_ACTIVATION_RELU, args->y);
}

/* One product for the inputs that were seen through the same taps; without strides these are all.
 */
static lks_status backward_x(const lks_conv2d_desc *d, lks_stream *stream,
                             const lks_op_args *args) {
    const void *weights;
    lks_status status = prepare_weights(d, stream, true, args, &weights);
    for (int h = 0; h < d->stride[0] && h < d->in_size[0]; h++)
        for (int w = 0; w < d->stride[1] && w < d->in_size[1] && status == LKS_OK; w++) {
            const lks_conv_gather gather =
                lks_conv_backward_gather(d, args->batch, (const int[]){h, w});
            status = product_of(d)(stream, &gather, args->dy, weights, NULL, false, args->dx);
        }
    return status;
}

static lks_status backward_weights(const lks_conv2d_desc *d, lks_stream *stream,
                                   const lks_op_args *args, float *dweight) {
    const lks_conv_gather gather = lks_conv_forward_gather(d, args->batch);
    lks_conv_weight_gradient_fn *gradient =
        lks_conv_is_depthwise(d) ? lks_conv_depthwise_weight_gradient : lks_conv_weight_gradient;
    return gradient(stream, &gather, args->x, args->dy, args->accumulate, dweight, args->scratch);
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const lks_conv2d_desc *d = &((conv_op *)base)->desc;
    float *dweight = lks_op_dparam(args, 0), *dbias = d->bias ? lks_op_dparam(args, 1) : NULL;
    if (args->batch == 0)
        return lks_cuda_clear_gradients(
            stream, args, (const int64_t[]){weight_count(d), d->out_channels}, d->bias ? 2 : 1);
    lks_status status = lks_cuda_bias_backward(
        stream, args->batch * d->out_size[0] * d->out_size[1], d->out_channels,
        d->activation == LKS_ACTIVATION_RELU ? args->y : NULL, args->dy, dbias, args->accumulate,
        args->scratch);
    if (status == LKS_OK && dweight) status = backward_weights(d, stream, args, dweight);
    if (status == LKS_OK && args->dx) status = backward_x(d, stream, args);
    return status;
}

const lks_op_type lks_cuda_conv2d = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
