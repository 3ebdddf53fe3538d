#include "device/op.h"

#include "device/backend.h"

lks_status lks_op_make(const lks_op_type *type, lks_device *device, lks_dtype dtype,
                       const void *desc, int64_t max_batch, lks_op **out) {
    lks_status status = type->create(device, dtype, desc, max_batch, out);
    if (status != LKS_OK) return status;
    if (!(*out)->type) (*out)->type = type;
    (*out)->device = device;
    (*out)->max_batch = max_batch;
    return LKS_OK;
}

lks_status lks_op_create(lks_device *device, lks_op_kind kind, const void *desc, int64_t max_batch,
                         lks_op **out) {
    if (!device || !desc || !out || (unsigned)kind >= LKS_OP_KIND_COUNT)
        return lks_fail(LKS_EINVAL, "operation %d: device, description and result are required",
                        (int)kind);
    *out = NULL;
    if (max_batch < 1)
        return lks_fail(LKS_EINVAL, "operation %d: max_batch is %lld, expected at least 1",
                        (int)kind, (long long)max_batch);
    const lks_op_type *type = device->backend->ops[kind];
    if (!type)
        return lks_fail(LKS_EUNSUPPORTED, "operation %d: the %s device does not have it", (int)kind,
                        device->backend->kind);
    lks_status status = lks_op_check(kind, desc);
    if (status != LKS_OK) return status;
    if (device->backend->create_op)
        return device->backend->create_op(device, kind, desc, max_batch, out);
    return lks_op_make(type, device, lks_device_dtype(device), desc, max_batch, out);
}

void lks_op_destroy(lks_op *op) {
    if (op) op->type->destroy(op);
}

const lks_op_needs *lks_op_get_needs(const lks_op *op) {
    return &op->needs;
}

static lks_status check_batch(const lks_op *op, const lks_op_args *args) {
    if (args->batch >= 0 && args->batch <= op->max_batch) return LKS_OK;
    return lks_fail(LKS_EINVAL,
                    "a batch of %lld samples was given to an operation planned for 0 "
                    "to %lld",
                    (long long)args->batch, (long long)op->max_batch);
}

static lks_activation *activation_of(lks_op_kind kind, void *desc) {
    switch (kind) {
    case LKS_OP_LINEAR:
        return &((lks_linear_desc *)desc)->activation;
    case LKS_OP_CONV2D:
        return &((lks_conv2d_desc *)desc)->activation;
    case LKS_OP_BATCH_NORM:
        return &((lks_batch_norm_desc *)desc)->activation;
    case LKS_OP_ADD:
        return &((lks_add_desc *)desc)->activation;
    default:
        return NULL;
    }
}

bool lks_op_fuse(lks_device *device, lks_op_kind kind, void *desc, lks_activation activation) {
    const lks_device_backend *backend = device->backend;
    lks_activation *fused = activation_of(kind, desc);
    if (!fused || *fused != LKS_ACTIVATION_NONE) return false;
    if (activation != LKS_ACTIVATION_RELU &&
        (!backend->fuses || !backend->fuses(device, kind, desc, activation)))
        return false;
    *fused = activation;
    return true;
}

/* Where the description says that the operation adds x2, in front or behind; NULL: it never does.
 */
static bool *adds_of(lks_op_kind kind, void *desc, lks_add_place *place) {
    switch (kind) {
    case LKS_OP_BATCH_NORM:
        *place = LKS_ADD_BEHIND;
        return &((lks_batch_norm_desc *)desc)->adds_x2;
    case LKS_OP_LAYER_NORM:
        *place = LKS_ADD_IN_FRONT;
        return &((lks_layer_norm_desc *)desc)->adds_x2;
    default:
        return NULL;
    }
}

bool lks_op_add(lks_device *device, lks_op_kind kind, void *desc, lks_add_place place) {
    lks_add_place where;
    bool *adds = adds_of(kind, desc, &where);
    const lks_activation *activation = activation_of(kind, desc);
    const bool activates = activation && *activation != LKS_ACTIVATION_NONE;
    if (!adds || *adds || where != place || activates || !device->backend->adds) return false;
    *adds = true;
    return true;
}

bool lks_op_chain(lks_device *device, lks_op_kind first_kind, void *first, lks_op_kind second_kind,
                  void *second) {
    const lks_device_backend *backend = device->backend;
    return first_kind == second_kind && backend->chain &&
           backend->chain(device, first_kind, first, second);
}

lks_status lks_op_forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    lks_status status = check_batch(op, args);
    if (status != LKS_OK || !op->type->forward) return status;
    status = op->type->forward(op, stream, args);
    lks_device_poll(op->device);
    return status;
}

lks_status lks_op_backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    lks_status status = check_batch(op, args);
    if (status != LKS_OK || !op->type->backward) return status;
    status = op->type->backward(op, stream, args);
    lks_device_poll(op->device);
    return status;
}
