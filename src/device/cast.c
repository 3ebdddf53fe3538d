/* The change of element type as an operation: the same for every back end. */
#include <stdlib.h>

#include "device/backend.h"

typedef struct cast_op {
    lks_op op;
    lks_cast_desc desc;
} cast_op;

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    cast_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "cast: cannot allocate the operation");
    op->desc = *(const lks_cast_desc *)desc;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    const lks_cast_desc *d = &((const cast_op *)op)->desc;
    return lks_device_cast(op->device, stream, args->batch * d->count, d->from, args->x, d->to,
                           args->y);
}

static lks_status backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    const lks_cast_desc *d = &((const cast_op *)op)->desc;
    if (!args->dx) return LKS_OK;
    return lks_device_cast(op->device, stream, args->batch * d->count, d->to, args->dy, d->from,
                           args->dx);
}

const lks_op_type lks_op_cast = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
