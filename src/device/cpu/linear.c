/* Fully connected layers, float32 or bfloat16: three products by oneDNN's matmul, which takes
 * transposed factors, adds the bias, and adds to what is there. */
#include <stdlib.h>
#include <string.h>

#include "device/cpu/columns.h"
#include "device/cpu/cpu.h"

enum {
    PLANS = 4
}; /* batch sizes in use at a time: training, its last batch, validation, its last */

typedef struct linear_plan {
    int64_t rows; /* 0: none */
    lks_onednn_task product, data, weights;
    lks_onednn_task weights_add; /* adds instead */
} linear_plan;

typedef struct linear_op {
    lks_op op;
    lks_linear_desc desc;
    lks_dtype type; /* of all but the gradients of the parameters, which are float32 */
    const lks_onednn *onednn;
    linear_plan plan[PLANS];
    int oldest;
} linear_op;

/* ---- planning ---- */

static lks_status make_task(const linear_op *op, const lks_onednn_matmul *matmul,
                            lks_onednn_task *out) {
    const int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                        matmul->bias.rank ? DNNL_ARG_BIAS : 0, 0};
    dnnl_primitive_desc_t desc;
    lks_status status = lks_onednn_matmul_desc(op->onednn, matmul, &desc);
    if (status != LKS_OK) return status;
    status = lks_onednn_task_create(op->onednn, desc, args, out);
    dnnl_primitive_desc_destroy(desc);
    return status;
}

static void destroy_plan(linear_plan *plan) {
    lks_onednn_task_destroy(&plan->product);
    lks_onednn_task_destroy(&plan->data);
    lks_onednn_task_destroy(&plan->weights);
    lks_onednn_task_destroy(&plan->weights_add);
}

static lks_status make_plan(const linear_op *op, int64_t rows, linear_plan *out) {
    const int64_t in = op->desc.in_features, features = op->desc.out_features;
    const lks_onednn_tensor x = lks_onednn_rows(op->type, 2, (int64_t[]){rows, in});
    const lks_onednn_tensor y = lks_onednn_rows(op->type, 2, (int64_t[]){rows, features});
    const lks_onednn_tensor weight = lks_onednn_rows(op->type, 2, (int64_t[]){features, in});
    lks_onednn_matmul product = {
        .a = x,
        .b = lks_onednn_transposed(op->type, in, features),
        .y = y,
    };
    if (op->desc.bias) product.bias = lks_onednn_rows(op->type, 2, (int64_t[]){1, features});
    const lks_onednn_matmul data = {.a = y, .b = weight, .y = x}; /* dx = dy W */
    lks_onednn_matmul weights = {                                 /* dW = dy^T x */
                                 .a = lks_onednn_transposed(op->type, features, rows),
                                 .b = x,
                                 .y = weight};
    weights.y.type = LKS_F32;
    *out = (linear_plan){.rows = rows};
    lks_status status = make_task(op, &product, &out->product);
    if (status == LKS_OK) status = make_task(op, &data, &out->data);
    if (status == LKS_OK) status = make_task(op, &weights, &out->weights);
    weights.add = true;
    if (status == LKS_OK) status = make_task(op, &weights, &out->weights_add);
    if (status != LKS_OK) destroy_plan(out);
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
    destroy_plan(place);
    *place = plan;
    *out = place;
    return LKS_OK;
}

static void destroy(lks_op *base) {
    linear_op *op = (linear_op *)base;
    for (int i = 0; i < PLANS; i++)
        destroy_plan(&op->plan[i]);
    free(op);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    const lks_linear_desc *d = desc;
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "linear: activation %d cannot be fused",
                        (int)d->activation);
    linear_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "linear: cannot allocate the operation");
    op->desc = *d;
    op->type = type;
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
    if (status == LKS_OK && type != LKS_F32 &&
        (plan->product.reference || plan->data.reference || plan->weights.reference))
        status = lks_fail(LKS_EUNSUPPORTED, "linear: oneDNN has no fast products of %s here",
                          lks_dtype_name(type));
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
    status = lks_onednn_run(op->onednn, &plan->product, pointers, "linear");
    if (status == LKS_OK && op->desc.activation == LKS_ACTIVATION_RELU)
        lks_cpu_relu(base->device, op->type, plan->rows * op->desc.out_features, args->y);
    return status;
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
    linear_op *op = (linear_op *)base;
    const lks_linear_desc *d = &op->desc;
    const int64_t rows = args->batch * d->rows_per_sample;
    if (rows == 0) {
        clear_gradients(op, args);
        return LKS_OK;
    }
    const linear_plan *plan;
    lks_status status = find_plan(op, rows, &plan);
    if (status != LKS_OK) return status;
    lks_cpu_bias_backward(base->device, op->type, rows, d->out_features,
                          d->activation == LKS_ACTIVATION_RELU ? args->y : NULL, args->dy,
                          d->bias ? lks_op_dparam(args, 1) : NULL, args->accumulate, args->scratch);
    float *dweight = lks_op_dparam(args, 0);
    if (dweight) {
        const void *const pointers[] = {args->dy, args->x, dweight};
        status = lks_onednn_run(op->onednn, args->accumulate ? &plan->weights_add : &plan->weights,
                                pointers, "gradient of linear's weight");
    }
    if (status != LKS_OK || !args->dx) return status;
    lks_device_poll(base->device);
    const void *const pointers[] = {args->dy, args->params[0], args->dx};
    return lks_onednn_run(op->onednn, &plan->data, pointers, "gradient of linear's input");
}

const lks_op_type lks_cpu_linear = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
