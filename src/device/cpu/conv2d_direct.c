/* 2d convolution by oneDNN on channels-last activations, float32 or bfloat16. Weights and their
 * gradient have PyTorch's layout outside; oneDNN wants its own, so each call reorders them, which
 * costs next to nothing beside the convolution. */
#include <stdlib.h>
#include <string.h>

#include "device/cpu/columns.h"
#include "device/cpu/conv2d.h"

enum {
    PLANS = 4
}; /* batch sizes in use at a time: training, its last batch, validation, its last */

/* A convolution and the change of the weights' layout before it (after it, for their gradient). */
typedef struct conv_pass {
    lks_onednn_task task;
    lks_onednn_task reorder;     /* none: the layouts are the same */
    lks_onednn_task reorder_add; /* gradient: adds instead */
    size_t weights_bytes;        /* in oneDNN's layout */
} conv_pass;

typedef struct conv_plan {
    int64_t batch; /* 0: none */
    conv_pass forward, data, weights;
    void *own_weights; /* where scratch, planned for max_batch, is too small for these layouts */
} conv_plan;

typedef struct conv_op {
    lks_op op;
    lks_conv2d_desc desc;
    lks_dtype type; /* of all but the gradients of the parameters, which are float32 */
    const lks_onednn *onednn;
    size_t scratch_weights_bytes;
    conv_plan plan[PLANS];
    int oldest;
} conv_op;

/* ---- planning ---- */

static void destroy_pass(conv_pass *pass) {
    lks_onednn_task_destroy(&pass->task);
    lks_onednn_task_destroy(&pass->reorder);
    lks_onednn_task_destroy(&pass->reorder_add);
}

static void destroy_plan(conv_plan *plan) {
    destroy_pass(&plan->forward);
    destroy_pass(&plan->data);
    destroy_pass(&plan->weights);
    free(plan->own_weights);
    *plan = (conv_plan){0};
}

static lks_onednn_tensor channels_last(lks_dtype type, int64_t batch, int64_t channels,
                                       const int64_t *size) {
    return (lks_onednn_tensor){
        .type = type,
        .rank = 4,
        .size = {batch, channels, size[0], size[1]},
        .stride = {channels * size[0] * size[1], 1, channels * size[1], channels}};
}

/* Weights, or their gradient, are of `weights_type`. */
static lks_onednn_conv describe(const conv_op *op, int64_t batch, lks_dtype weights_type) {
    const lks_conv2d_desc *d = &op->desc;
    const int64_t sizes[] = {d->groups, d->out_channels / d->groups, d->in_channels / d->groups,
                             d->kernel[0], d->kernel[1]};
    const int skip = d->groups == 1;
    lks_onednn_conv conv = {
        .x = channels_last(op->type, batch, d->in_channels, d->in_size),
        .weights = lks_onednn_rows(weights_type, 5 - skip, sizes + skip),
        .y = channels_last(op->type, batch, d->out_channels, d->out_size),
    };
    if (d->bias) conv.bias = lks_onednn_rows(op->type, 1, &d->out_channels);
    for (int i = 0; i < 2; i++) {
        conv.stride[i] = d->stride[i];
        conv.dilation[i] = d->dilation[i];
        conv.padding[i] = d->padding[i];
    }
    return conv;
}

/* The task of `desc` with operands `args`, and the reorder between `plain` weights and its own. */
static lks_status make_pass(const conv_op *op, const_dnnl_primitive_desc_t desc, const int *args,
                            int weights_arg, const lks_onednn_tensor *plain, conv_pass *out) {
    lks_status status = lks_onednn_task_create(op->onednn, desc, args, &out->task);
    out->weights_bytes = lks_onednn_operand_bytes(desc, weights_arg);
    if (status != LKS_OK) return status;
    if (weights_arg == DNNL_ARG_WEIGHTS)
        return lks_onednn_reorder_create(op->onednn, plain, desc, weights_arg, LKS_ONEDNN_TO,
                                         &out->reorder);
    status = lks_onednn_reorder_create(op->onednn, plain, desc, weights_arg, LKS_ONEDNN_FROM,
                                       &out->reorder);
    if (status == LKS_OK)
        status = lks_onednn_reorder_create(op->onednn, plain, desc, weights_arg,
                                           LKS_ONEDNN_FROM_ADD, &out->reorder_add);
    return status;
}

/* The convolution that oneDNN is asked for: with weights in a layout of its choice. */
static lks_onednn_conv with_own_weights(const lks_onednn_conv *conv) {
    lks_onednn_conv own = *conv;
    own.weights.any = true;
    return own;
}

static lks_status make_forward(const conv_op *op, const lks_onednn_conv *conv,
                               dnnl_primitive_desc_t *desc, conv_pass *out) {
    const int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                        op->desc.bias ? DNNL_ARG_BIAS : 0, 0};
    const lks_onednn_conv own = with_own_weights(conv);
    lks_status status = lks_onednn_conv_forward_desc(op->onednn, &own, desc);
    if (status != LKS_OK) return status;
    return make_pass(op, *desc, args, DNNL_ARG_WEIGHTS, &conv->weights, out);
}

static lks_status make_data(const conv_op *op, const lks_onednn_conv *conv,
                            const_dnnl_primitive_desc_t hint, conv_pass *out) {
    static const int args[] = {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0};
    const lks_onednn_conv own = with_own_weights(conv);
    dnnl_primitive_desc_t desc;
    lks_status status = lks_onednn_conv_backward_data_desc(op->onednn, &own, hint, &desc);
    if (status != LKS_OK) return status;
    status = make_pass(op, desc, args, DNNL_ARG_WEIGHTS, &conv->weights, out);
    dnnl_primitive_desc_destroy(desc);
    return status;
}

static lks_status make_weights(const conv_op *op, const lks_onednn_conv *conv,
                               const_dnnl_primitive_desc_t hint, conv_pass *out) {
    static const int args[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, 0};
    const lks_onednn_conv own = with_own_weights(conv);
    dnnl_primitive_desc_t desc;
    lks_status status = lks_onednn_conv_backward_weights_desc(op->onednn, &own, hint, &desc);
    if (status != LKS_OK) return status;
    status = make_pass(op, desc, args, DNNL_ARG_DIFF_WEIGHTS, &conv->weights, out);
    dnnl_primitive_desc_destroy(desc);
    return status;
}

static size_t largest(const conv_plan *plan) {
    size_t bytes = plan->forward.weights_bytes;
    if (bytes < plan->data.weights_bytes) bytes = plan->data.weights_bytes;
    if (bytes < plan->weights.weights_bytes) bytes = plan->weights.weights_bytes;
    return bytes;
}

static lks_status make_plan(const conv_op *op, int64_t batch, conv_plan *out) {
    const lks_onednn_conv conv = describe(op, batch, op->type);
    const lks_onednn_conv gradient = describe(op, batch, LKS_F32);
    dnnl_primitive_desc_t hint = NULL;
    *out = (conv_plan){0};
    lks_status status = make_forward(op, &conv, &hint, &out->forward);
    if (status == LKS_OK) status = make_data(op, &conv, hint, &out->data);
    if (status == LKS_OK) status = make_weights(op, &gradient, hint, &out->weights);
    if (hint) dnnl_primitive_desc_destroy(hint);
    const size_t bytes = largest(out);
    if (status == LKS_OK && op->scratch_weights_bytes && bytes > op->scratch_weights_bytes) {
        out->own_weights = aligned_alloc(64, lks_round_up(bytes, 64));
        if (!out->own_weights)
            status = lks_fail(LKS_ENOMEM, "conv2d: cannot allocate %zu bytes for weights", bytes);
    }
    if (status != LKS_OK) destroy_plan(out);
    out->batch = status == LKS_OK ? batch : 0;
    return status;
}

/* The plan for this batch size; one not seen before takes the place of the oldest plan. */
static lks_status find_plan(conv_op *op, int64_t batch, const conv_plan **out) {
    for (int i = 0; i < PLANS; i++) {
        *out = &op->plan[i];
        if (op->plan[i].batch == batch) return LKS_OK;
    }
    conv_plan plan;
    lks_status status = make_plan(op, batch, &plan);
    if (status != LKS_OK) return status;
    conv_plan *place = &op->plan[op->oldest];
    op->oldest = (op->oldest + 1) % PLANS;
    destroy_plan(place);
    *place = plan;
    *out = place;
    return LKS_OK;
}

static void destroy(lks_op *base) {
    conv_op *op = (conv_op *)base;
    for (int i = 0; i < PLANS; i++)
        destroy_plan(&op->plan[i]);
    free(op);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    conv_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "conv2d: cannot allocate the operation");
    op->desc = *(const lks_conv2d_desc *)desc;
    op->type = type;
    op->onednn = &((lks_cpu_device *)device)->onednn;
    const conv_plan *plan;
    lks_status status = find_plan(op, max_batch, &plan);
    if (status == LKS_OK && type != LKS_F32 &&
        (plan->forward.task.reference || plan->data.task.reference || plan->weights.task.reference))
        status = lks_fail(LKS_EUNSUPPORTED, "conv2d: oneDNN has no fast convolution of %s here",
                          lks_dtype_name(type));
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    op->scratch_weights_bytes = lks_round_up(largest(plan), 64);
    const int64_t rows = max_batch * op->desc.out_size[0] * op->desc.out_size[1];
    op->op.needs = (lks_op_needs){
        .backward_needs_x = true,
        .backward_needs_y = op->desc.activation == LKS_ACTIVATION_RELU,
        .scratch_bytes =
            op->scratch_weights_bytes +
            (op->desc.bias ? lks_cpu_bias_scratch_bytes(rows, op->desc.out_channels) : 0),
    };
    *out = &op->op;
    return LKS_OK;
}

/* ---- running ---- */

/* The weights as the pass wants them: as they are, or copied to `room`. */
static lks_status prepare_weights(const conv_op *op, const conv_pass *pass, const void *weights,
                                  void *room, const void **out) {
    *out = weights;
    if (!pass->reorder.primitive) return LKS_OK;
    *out = room;
    const void *const pointers[] = {weights, room};
    return lks_onednn_run(op->onednn, &pass->reorder, pointers, "conv2d's weights");
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    conv_op *op = (conv_op *)base;
    if (args->batch == 0) return LKS_OK;
    const conv_plan *plan;
    const void *weights;
    lks_status status = find_plan(op, args->batch, &plan);
    if (status != LKS_OK) return status;
    status = prepare_weights(op, &plan->forward, args->params[0],
                             plan->own_weights ? plan->own_weights : args->scratch, &weights);
    if (status != LKS_OK) return status;
    const void *const pointers[] = {args->x, weights, args->y,
                                    op->desc.bias ? args->params[1] : NULL};
    status = lks_onednn_run(op->onednn, &plan->forward.task, pointers, "conv2d");
    if (status == LKS_OK && op->desc.activation == LKS_ACTIVATION_RELU)
        lks_cpu_relu(base->device, op->type,
                     args->batch * op->desc.out_channels * op->desc.out_size[0] *
                         op->desc.out_size[1],
                     args->y);
    return status;
}

static lks_status backward_weights(const conv_op *op, const conv_pass *pass,
                                   const lks_op_args *args, void *room) {
    const lks_onednn_task *reorder = args->accumulate ? &pass->reorder_add : &pass->reorder;
    float *dweights = args->dparams[0];
    const void *const operands[] = {args->x, args->dy, reorder->primitive ? room : dweights};
    lks_status status =
        lks_onednn_run(op->onednn, &pass->task, operands, "gradient of conv2d's weights");
    if (status != LKS_OK || !reorder->primitive) return status;
    const void *const pointers[] = {room, dweights};
    return lks_onednn_run(op->onednn, reorder, pointers, "gradient of conv2d's weights");
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    conv_op *op = (conv_op *)base;
    if (args->batch == 0) {
        lks_conv2d_clear_gradients(&op->desc, args);
        return LKS_OK;
    }
    const conv_plan *plan;
    lks_status status = find_plan(op, args->batch, &plan);
    if (status != LKS_OK) return status;
    void *room = plan->own_weights ? plan->own_weights : args->scratch;
    lks_conv2d_bias_backward(base->device, op->type, &op->desc, args,
                             (char *)args->scratch + op->scratch_weights_bytes);
    if (lks_op_dparam(args, 0)) status = backward_weights(op, &plan->weights, args, room);
    if (status != LKS_OK || !args->dx) return status;
    lks_device_poll(base->device);
    const void *weights;
    status = prepare_weights(op, &plan->data, args->params[0], room, &weights);
    if (status != LKS_OK) return status;
    const void *const pointers[] = {args->dy, weights, args->dx};
    return lks_onednn_run(op->onednn, &plan->data.task, pointers, "gradient of conv2d's input");
}

const lks_op_type lks_cpu_conv2d_direct = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
