/* Fully connected layers: three products of cuBLASLt, the first of which adds the bias and applies
 * ReLU. The gradient of bias and ReLU is one pass over dy before the other two. */
#include <stdlib.h>

#include "device/cuda/matmul.h"

enum {
    PLANS = 4, /* batch sizes in use at a time: training, its last batch, validation, its last */
    SCRATCH_BYTES = 32 << 20 /* that cuBLASLt may ask for, as its documentation advises */
};

typedef enum linear_pass { FORWARD, DWEIGHT, DX, PASSES } linear_pass;

typedef struct linear_plan {
    int64_t rows; /* 0: none */
    int alignment_bytes[PASSES];
    lks_matmul product[PASSES]; /* each made when it is first wanted */
} linear_plan;

typedef struct linear_op {
    lks_op op;
    lks_linear_desc desc;
    lks_cuda_device *device;
    linear_plan plan[PLANS];
    int oldest;
} linear_op;

/* ---- planning ---- */

static lks_matmul_desc describe(const linear_op *op, linear_pass pass, int64_t rows,
                                int alignment_bytes, size_t max_scratch_bytes) {
    const int64_t in = op->desc.in_features, out = op->desc.out_features;
    const lks_dtype type = lks_cuda_dtype(&op->device->base);
    lks_matmul_desc d = {.alignment_bytes = alignment_bytes,
                         .max_scratch_bytes = max_scratch_bytes};
    switch (pass) {
    case FORWARD: /* y[rows, out] = x W^T */
        d.m = rows, d.n = out, d.k = in, d.transpose_b = true, d.y_type = type;
        d.bias = op->desc.bias;
        d.relu = op->desc.activation == LKS_ACTIVATION_RELU;
        break;
    case DWEIGHT: /* dW[out, in] = dy^T x */
        d.m = out, d.n = in, d.k = rows, d.transpose_a = true, d.y_type = LKS_F32;
        break;
    default: /* dx[rows, in] = dy W */
        d.m = rows, d.n = in, d.k = out, d.y_type = type;
    }
    return d;
}

static void destroy_plan(linear_op *op, linear_plan *plan) {
    for (int pass = 0; pass < PASSES; pass++)
        lks_matmul_destroy(op->device, &plan->product[pass]);
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

static lks_status run(linear_op *op, lks_stream *stream, linear_pass pass, int64_t rows,
                      const void *a, const void *b, const void *bias, bool accumulate, void *y,
                      void *scratch) {
    linear_plan *plan = find_plan(op, rows);
    const int alignment = lks_matmul_alignment(a, b, y);
    lks_matmul *product = &plan->product[pass];
    if (!product->product || plan->alignment_bytes[pass] > alignment) {
        const lks_matmul_desc d = describe(op, pass, rows, alignment, op->op.needs.scratch_bytes);
        lks_matmul_destroy(op->device, product);
        lks_status status = lks_matmul_create(op->device, &d, product);
        if (status != LKS_OK) return status;
        plan->alignment_bytes[pass] = alignment;
    }
    return lks_matmul_run(product, stream, a, b, bias, accumulate, y, scratch);
}

/* What the products of the largest batch would like to have, and the sums of the bias's gradient:
 * they take turns. */
static lks_status plan_scratch(linear_op *op, int64_t max_rows) {
    size_t bytes = op->desc.bias ? lks_cuda_bias_scratch_bytes(max_rows, op->desc.out_features) : 0;
    for (int pass = 0; pass < PASSES; pass++) {
        lks_matmul product;
        const lks_matmul_desc d = describe(op, (linear_pass)pass, max_rows, 16, SCRATCH_BYTES);
        lks_status status = lks_matmul_create(op->device, &d, &product);
        if (status != LKS_OK) return status;
        if (bytes < product.scratch_bytes) bytes = product.scratch_bytes;
        lks_matmul_destroy(op->device, &product);
    }
    op->op.needs.scratch_bytes = bytes;
    return LKS_OK;
}

static void destroy(lks_op *base) {
    linear_op *op = (linear_op *)base;
    for (int i = 0; i < PLANS; i++)
        destroy_plan(op, &op->plan[i]);
    free(op);
}

static lks_status create(lks_device *device, const void *desc, int64_t max_batch, lks_op **out) {
    const lks_linear_desc *d = desc;
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "linear: activation %d cannot be fused",
                        (int)d->activation);
    linear_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "linear: cannot allocate the operation");
    op->desc = *d;
    op->device = (lks_cuda_device *)device;
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = d->activation == LKS_ACTIVATION_RELU,
    };
    lks_status status = plan_scratch(op, max_batch * d->rows_per_sample);
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    *out = &op->op;
    return LKS_OK;
}

/* ---- running ---- */

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    linear_op *op = (linear_op *)base;
    if (args->batch == 0) return LKS_OK;
    return run(op, stream, FORWARD, args->batch * op->desc.rows_per_sample, args->x,
               args->params[0], op->desc.bias ? args->params[1] : NULL, false, args->y,
               args->scratch);
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
    lks_status status = lks_cuda_bias_backward(
        stream, rows, d->out_features, d->activation == LKS_ACTIVATION_RELU ? args->y : NULL,
        args->dy, dbias, args->accumulate, args->scratch);
    if (status == LKS_OK && dweight)
        status = run(op, stream, DWEIGHT, rows, args->dy, args->x, NULL, args->accumulate, dweight,
                     args->scratch);
    if (status == LKS_OK && args->dx)
        status = run(op, stream, DX, rows, args->dy, args->params[0], NULL, false, args->dx,
                     args->scratch);
    return status;
}

const lks_op_type lks_cuda_linear = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
