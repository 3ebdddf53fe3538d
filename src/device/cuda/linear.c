/* Fully connected layers: three products of cuBLASLt, which do on their way what would be a pass
 * over memory each: forward adds the bias and applies ReLU or GELU, the gradient of the weights
 * sums that of the bias, and the gradient of x takes the slope of the activation in front. What the
 * library does not have for some shape is done behind the product. */
#include <stdlib.h>

#include "device/cuda/matmul.h"

enum {
    PLANS = 4, /* batch sizes in use at a time: training, its last batch, validation, its last */
    SCRATCH_BYTES = 32 << 20 /* that cuBLASLt may ask for, as its documentation advises */
};

typedef enum linear_pass { FORWARD, DWEIGHT, DWEIGHT_DBIAS, DX, DX_SLOPE, PASSES } linear_pass;

typedef struct linear_product {
    lks_matmul matmul; /* made when it is first wanted */
    int alignment_bytes;
    bool whole; /* it does all that describe asks for, and nothing is left to do behind it */
} linear_product;

typedef struct linear_plan {
    int64_t rows; /* 0: none */
    linear_product product[PASSES];
} linear_plan;

typedef struct linear_op {
    lks_op op;
    lks_linear_desc desc;
    lks_cuda_device *device;
    linear_plan plan[PLANS];
    int oldest;
} linear_op;

/* ---- what is saved for backward ---- */

/* What goes into GELU, and where ReLU let something through if somebody else applies its slope:
 * here, it is seen in y. */
static bool saves_aux(const lks_linear_desc *d) {
    return d->activation == LKS_ACTIVATION_GELU_TANH ||
           (d->activation == LKS_ACTIVATION_RELU && d->slope_done);
}

/* Did the product of forward save all that saves_aux says? */
static bool saved_aux(const linear_op *op, int64_t rows) {
    for (int i = 0; i < PLANS; i++)
        if (op->plan[i].rows == rows) return op->plan[i].product[FORWARD].whole;
    return false;
}

/* ---- planning ---- */

/* whole: with all that the product might do on its way. */
static lks_matmul_desc describe(const linear_op *op, linear_pass pass, int64_t rows, bool whole) {
    const lks_linear_desc *layer = &op->desc;
    const int64_t in = layer->in_features, out = layer->out_features;
    lks_matmul_desc d = {.y_type = lks_device_dtype(&op->device->base)};
    switch (pass) {
    case FORWARD: /* y[rows, out] = x W^T */
        d.m = rows, d.n = out, d.k = in, d.transpose_b = true;
        d.bias = layer->bias;
        d.writes_aux = whole && saves_aux(layer);
        if (whole || layer->activation == LKS_ACTIVATION_RELU) d.activation = layer->activation;
        break;
    case DWEIGHT: /* dW[out, in] = dy^T x */
    case DWEIGHT_DBIAS:
        d.m = out, d.n = in, d.k = rows, d.transpose_a = true, d.y_type = LKS_F32;
        d.sums_a = whole && pass == DWEIGHT_DBIAS;
        break;
    default: /* dx[rows, in] = dy W */
        d.m = rows, d.n = in, d.k = out;
        if (whole && pass == DX_SLOPE) d.y_slope = layer->x_activation;
    }
    return d;
}

static lks_status make_product(const linear_op *op, linear_pass pass, int64_t rows,
                               int alignment_bytes, size_t max_scratch_bytes, linear_product *out) {
    lks_status status = LKS_EUNSUPPORTED;
    for (int whole = 1; whole >= 0 && status == LKS_EUNSUPPORTED; whole--) {
        lks_matmul_desc d = describe(op, pass, rows, whole);
        d.alignment_bytes = alignment_bytes;
        d.max_scratch_bytes = max_scratch_bytes;
        status = lks_matmul_create(op->device, &d, &out->matmul);
        out->alignment_bytes = alignment_bytes;
        out->whole = whole;
    }
    return status;
}

static void destroy_plan(linear_op *op, linear_plan *plan) {
    for (int pass = 0; pass < PASSES; pass++)
        lks_matmul_destroy(op->device, &plan->product[pass].matmul);
    *plan = (linear_plan){0};
}

/* The plan for this many rows; a number not seen before takes the place of the oldest plan. */
static linear_plan *find_plan(linear_op *op, int64_t rows) {
    for (int i = 0; i < PLANS; i++)
        if (op->plan[i].rows == rows) return &op->plan[i];
    linear_plan *place = &op->plan[op->oldest];
    op->oldest = (op->oldest + 1) % PLANS;
    destroy_plan(op, place);
    place->rows = rows;
    return place;
}

/* Queues the product, with those of the operands that it takes; *whole: nothing is left to do. */
static lks_status run(linear_op *op, lks_stream *stream, linear_pass pass, int64_t rows,
                      lks_matmul_operands operands, bool *whole) {
    linear_product *product = &find_plan(op, rows)->product[pass];
    const int alignment = lks_matmul_alignment(&operands);
    if (!product->matmul.product || product->alignment_bytes > alignment) {
        lks_matmul_destroy(op->device, &product->matmul);
        lks_status status =
            make_product(op, pass, rows, alignment, op->op.needs.scratch_bytes, product);
        if (status != LKS_OK) return status;
    }
    *whole = product->whole;
    if (!product->whole) operands.aux = operands.a_sums = NULL, operands.y_aux = NULL;
    return lks_matmul_run(&product->matmul, stream, &operands);
}

/* What the products of the largest batch would like to have, and the sums of the bias's gradient:
 * they take turns. */
static lks_status plan_scratch(linear_op *op, int64_t max_rows) {
    size_t bytes = op->desc.bias ? lks_cuda_bias_scratch_bytes(max_rows, op->desc.out_features) : 0;
    for (int pass = 0; pass < PASSES; pass++) {
        linear_product product = {0};
        lks_status status =
            make_product(op, (linear_pass)pass, max_rows, 16, SCRATCH_BYTES, &product);
        if (status != LKS_OK) return status;
        if (bytes < product.matmul.scratch_bytes) bytes = product.matmul.scratch_bytes;
        lks_matmul_destroy(op->device, &product.matmul);
    }
    op->op.needs.scratch_bytes = bytes;
    return LKS_OK;
}

/* ReLU, and GELU by tanh in bfloat16: the product's tanh is an approximation, finer than bfloat16
 * and coarser than float32. Its auxiliary matrix wants rows of 16 bytes. */
static bool takes(const lks_device *device, const lks_linear_desc *d, lks_activation activation) {
    enum { AUX_MULTIPLE = 8 };
    return activation == LKS_ACTIVATION_RELU ||
           (activation == LKS_ACTIVATION_GELU_TANH && lks_device_dtype(device) == LKS_BF16 &&
            d->out_features % AUX_MULTIPLE == 0);
}

bool lks_cuda_fuses(const lks_device *device, lks_op_kind kind, const void *desc,
                    lks_activation activation) {
    return kind == LKS_OP_LINEAR && takes(device, desc, activation);
}

bool lks_cuda_chain(const lks_device *device, lks_op_kind kind, void *first, void *second) {
    (void)device;
    lks_linear_desc *a = first, *b = second;
    if (kind != LKS_OP_LINEAR) return false;
    if (a->activation == LKS_ACTIVATION_NONE || a->out_features != b->in_features ||
        a->rows_per_sample != b->rows_per_sample)
        return false;
    a->slope_done = true;
    b->x_activation = a->activation;
    return true;
}

static void destroy(lks_op *base) {
    linear_op *op = (linear_op *)base;
    for (int i = 0; i < PLANS; i++)
        destroy_plan(op, &op->plan[i]);
    free(op);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    const lks_linear_desc *d = desc;
    const int64_t max_rows = max_batch * d->rows_per_sample;
    if (d->activation != LKS_ACTIVATION_NONE && !takes(device, d, d->activation))
        return lks_fail(LKS_EUNSUPPORTED, "linear: activation %d cannot be fused",
                        (int)d->activation);
    linear_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "linear: cannot allocate the operation");
    op->desc = *d;
    op->device = (lks_cuda_device *)device;
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = d->activation == LKS_ACTIVATION_RELU && !d->slope_done,
        .saved_bytes =
            saves_aux(d) ? lks_matmul_aux_bytes(d->activation, type, max_rows, d->out_features) : 0,
    };
    lks_status status = plan_scratch(op, max_rows);
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    *out = &op->op;
    return LKS_OK;
}

/* ---- forward ---- */

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    linear_op *op = (linear_op *)base;
    const lks_linear_desc *d = &op->desc;
    const int64_t rows = args->batch * d->rows_per_sample;
    bool whole;
    if (rows == 0) return LKS_OK;
    lks_status status = run(op, stream, FORWARD, rows,
                            (lks_matmul_operands){
                                .a = args->x,
                                .b = args->params[0],
                                .bias = d->bias ? args->params[1] : NULL,
                                .aux = saves_aux(d) ? args->saved : NULL,
                                .y = args->y,
                                .scratch = args->scratch,
                            },
                            &whole);
    if (status != LKS_OK || whole || d->activation != LKS_ACTIVATION_GELU_TANH) return status;
    status = lks_cuda_activate(stream, LKS_ACTIVATION_NONE, 0, rows * d->out_features, args->y,
                               args->saved);
    if (status != LKS_OK) return status;
    return lks_cuda_activate(stream, d->activation, 0, rows * d->out_features, args->y, args->y);
}

/* ---- backward ---- */

/* dy becomes the gradient of the product, without the activation, and *dbias, unless it is NULL,
 * the bias's. */
static lks_status backward_activation(const linear_op *op, lks_stream *stream, int64_t rows,
                                      const lks_op_args *args, float *dbias) {
    const lks_linear_desc *d = &op->desc;
    const bool is_mine = !d->slope_done;
    lks_status status = LKS_OK;
    if (is_mine && d->activation == LKS_ACTIVATION_GELU_TANH)
        status = lks_cuda_activate_backward(stream, d->activation, 0, rows * d->out_features,
                                            args->saved, args->dy, args->dy);
    if (status != LKS_OK) return status;
    return lks_cuda_bias_backward(stream, rows, d->out_features,
                                  is_mine && d->activation == LKS_ACTIVATION_RELU ? args->y : NULL,
                                  args->dy, dbias, args->accumulate, args->scratch);
}

/* dW, and with dbias not NULL the bias's gradient as well. */
static lks_status backward_weights(linear_op *op, lks_stream *stream, int64_t rows,
                                   const lks_op_args *args, float *dweight, float *dbias) {
    bool whole;
    lks_status status = run(op, stream, dbias ? DWEIGHT_DBIAS : DWEIGHT, rows,
                            (lks_matmul_operands){
                                .a = args->dy,
                                .b = args->x,
                                .a_sums = dbias,
                                .accumulate = args->accumulate,
                                .y = dweight,
                                .scratch = args->scratch,
                            },
                            &whole);
    if (status != LKS_OK || whole) return status;
    return lks_cuda_bias_backward(stream, rows, op->desc.out_features, NULL, args->dy, dbias,
                                  args->accumulate, args->scratch);
}

/* dx, by way of the activation in front where that is ours to do. Only cuBLASLt can read the mask
 * of ReLU that it wrote; where it did not, x shows the same. */
static lks_status backward_x(linear_op *op, lks_stream *stream, int64_t rows,
                             const lks_op_args *args) {
    const lks_linear_desc *d = &op->desc;
    const bool has_slope = d->x_activation != LKS_ACTIVATION_NONE;
    const bool by_product = has_slope && (d->x_activation != LKS_ACTIVATION_RELU ||
                                          saved_aux((const linear_op *)args->x_op, rows));
    bool whole;
    lks_status status = run(op, stream, by_product ? DX_SLOPE : DX, rows,
                            (lks_matmul_operands){
                                .a = args->dy,
                                .b = args->params[0],
                                .y_aux = by_product ? args->x_saved : NULL,
                                .y = args->dx,
                                .scratch = args->scratch,
                            },
                            &whole);
    if (status != LKS_OK || !has_slope || (by_product && whole)) return status;
    return lks_cuda_activate_backward(
        stream, d->x_activation, 0, rows * d->in_features,
        lks_cuda_slope_from_y(d->x_activation, 0) ? args->x : args->x_saved, args->dx, args->dx);
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    linear_op *op = (linear_op *)base;
    const lks_linear_desc *d = &op->desc;
    const int64_t rows = args->batch * d->rows_per_sample;
    float *dweight = lks_op_dparam(args, 0), *dbias = d->bias ? lks_op_dparam(args, 1) : NULL;
    if (rows == 0)
        return lks_cuda_clear_gradients(
            stream, args, (const int64_t[]){d->in_features * d->out_features, d->out_features},
            d->bias ? 2 : 1);
    /* The pass that applies ReLU's slope sums the bias's gradient for nothing; the product does not
     * add to what is there. In float32 a pass costs little beside a product and sums more exactly.
     */
    const bool has_pass = d->activation == LKS_ACTIVATION_RELU && !d->slope_done;
    const bool is_exact = base->device->precision == LKS_PRECISION_FP32;
    const bool by_product = dweight && !has_pass && !is_exact && !args->accumulate;
    lks_status status = backward_activation(op, stream, rows, args, by_product ? NULL : dbias);
    if (status == LKS_OK && dweight)
        status = backward_weights(op, stream, rows, args, dweight, by_product ? dbias : NULL);
    if (status == LKS_OK && args->dx) status = backward_x(op, stream, rows, args);
    return status;
}

const lks_op_type lks_cuda_linear = {
    .create = create,
    .forward = forward,
    .backward = backward,
    .destroy = destroy,
};
