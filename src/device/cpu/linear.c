/* Fully connected layers. Measured for each product: oneDNN's matmul takes the transposed weights
 * of forward at full speed, and fuses bias and ReLU, where its sgemm does not; for the two products
 * of backward sgemm is as fast or faster, and adds to what is there (beta) for nothing. */
#include <stdlib.h>
#include <string.h>

#include "device/cpu/columns.h"
#include "device/cpu/cpu.h"

enum {
    PLANS = 4
}; /* batch sizes in use at a time: training, its last batch, validation, its last */

typedef struct linear_plan {
    int64_t rows; /* 0: none */
    lks_onednn_task product;
} linear_plan;

typedef struct linear_op {
    lks_op op;
    lks_linear_desc desc;
    const lks_onednn *onednn;
    linear_plan plan[PLANS];
    int oldest;
} linear_op;

/* ---- planning ---- */

static lks_status make_plan(const linear_op *op, int64_t rows, linear_plan *out) {
    const int64_t in = op->desc.in_features, features = op->desc.out_features;
    lks_onednn_matmul matmul = {
        .a = lks_onednn_rows(2, (int64_t[]){rows, in}),
        .b = {.rank = 2, .size = {in, features}, .stride = {1, in}},
        .y = lks_onednn_rows(2, (int64_t[]){rows, features}),
        .relu = op->desc.activation == LKS_ACTIVATION_RELU,
    };
    if (op->desc.bias) matmul.bias = lks_onednn_rows(2, (int64_t[]){1, features});
    const int with_bias[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS, 0};
    const int without_bias[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, 0};
    dnnl_primitive_desc_t product;
    *out = (linear_plan){0};
    lks_status status = lks_onednn_matmul_desc(op->onednn, &matmul, &product);
    if (status != LKS_OK) return status;
    status = lks_onednn_task_create(op->onednn, product, op->desc.bias ? with_bias : without_bias,
                                    &out->product);
    dnnl_primitive_desc_destroy(product);
    if (status == LKS_OK) out->rows = rows;
    return status;
}

/* The plan for this many rows; a number not seen before takes the place of the oldest plan. */
static lks_status find_plan(linear_op *op, int64_t rows, const linear_plan **out) {
    for (int i = 0; i < PLANS; i++) {
        *out = &op->plan[i];
        if (op->plan[i].rows == rows) return LKS_OK;
    }
    linear_plan plan;
    lks_status status = make_plan(op, rows, &plan);
    if (status != LKS_OK) return status;
    linear_plan *place = &op->plan[op->oldest];
    op->oldest = (op->oldest + 1) % PLANS;
    lks_onednn_task_destroy(&place->product);
    *place = plan;
    *out = place;
    return LKS_OK;
}

static void destroy(lks_op *base) {
    linear_op *op = (linear_op *)base;
    for (int i = 0; i < PLANS; i++)
        lks_onednn_task_destroy(&op->plan[i].product);
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
    op->onednn = &((lks_cpu_device *)device)->onednn;
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = d->activation == LKS_ACTIVATION_RELU,
        .scratch_bytes =
            d->bias ? lks_cpu_bias_scratch_bytes(max_batch * d->rows_per_sample, d->out_features)
                    : 0,
    };
    const linear_plan *plan;
    lks_status status = find_plan(op, max_batch * d->rows_per_sample, &plan);
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    *out = &op->op;
    return LKS_OK;
}

/* ---- running ---- */

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    linear_op *op = (linear_op *)base;
    if (args->batch == 0) return LKS_OK;
    const linear_plan *plan;
    lks_status status = find_plan(op, args->batch * op->desc.rows_per_sample, &plan);
    if (status != LKS_OK) return status;
    const void *const pointers[] = {args->x, args->params[0], args->y,
                                    op->desc.bias ? args->params[1] : NULL};
    return lks_onednn_run(op->onednn, &plan->product, pointers, "linear");
}

static void clear_gradients(const linear_op *op, const lks_op_args *args) {
    const lks_linear_desc *d = &op->desc;
    float *dweight = lks_op_dparam(args, 0), *dbias = d->bias ? lks_op_dparam(args, 1) : NULL;
    if (args->accumulate) return;
    if (dweight) memset(dweight, 0, (size_t)(d->in_features * d->out_features) * sizeof(float));
    if (dbias) memset(dbias, 0, (size_t)d->out_features * sizeof(float));
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const linear_op *op = (const linear_op *)base;
    const lks_linear_desc *d = &op->desc;
    const int64_t rows = args->batch * d->rows_per_sample;
    const int64_t in = d->in_features, features = d->out_features;
    if (rows == 0) {
        clear_gradients(op, args);
        return LKS_OK;
    }
    lks_cpu_bias_backward(op->op.device, rows, features,
                          d->activation == LKS_ACTIVATION_RELU ? args->y : NULL, args->dy,
                          d->bias ? lks_op_dparam(args, 1) : NULL, args->accumulate, args->scratch);
    dnnl_status_t status = dnnl_success;
    float *dweight = lks_op_dparam(args, 0);
    if (dweight) /* dW[out, in] = dy^T x */
        status = dnnl_sgemm('T', 'N', features, in, rows, 1.0f, args->dy, features, args->x, in,
                            args->accumulate ? 1.0f : 0.0f, dweight, in);
    if (args->dx && status == dnnl_success) /* dx = dy W */
        status = dnnl_sgemm('N', 'N', rows, in, features, 1.0f, args->dy, features, args->params[0],
                            in, 0.0f, args->dx, in);
    return lks_onednn_check(status, "gradients of linear");
}

const lks_op_type lks_cpu_linear = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
