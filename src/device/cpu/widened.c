/* Operations on bfloat16 by way of float32, where an operation has no kernel for it: every operand
 * is widened, the float32 kernel runs, and its results are rounded, once. What lives between
 * operations is bfloat16; the float32 copies are scratch memory of the call. */
#include <stdlib.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

enum { MAX_PARAMS = 2 };

/* Elements: of a sample; of a parameter. */
typedef struct operand_counts {
    int64_t x, y;
    int64_t param[MAX_PARAMS];
    int params;
} operand_counts;

typedef struct widened_op {
    lks_op op;
    lks_op *inner; /* float32 */
    operand_counts count;
} widened_op;

/* ---- the sizes of the kinds that are widened ---- */

static operand_counts count_products(lks_op_kind kind, const void *desc) {
    if (kind == LKS_OP_LINEAR) {
        const lks_linear_desc *d = desc;
        return (operand_counts){.x = d->rows_per_sample * d->in_features,
                                .y = d->rows_per_sample * d->out_features,
                                .param = {d->out_features * d->in_features, d->out_features},
                                .params = d->bias ? 2 : 1};
    }
    const lks_conv2d_desc *d = desc;
    const int64_t window = d->in_channels / d->groups * d->kernel[0] * d->kernel[1];
    return (operand_counts){.x = d->in_channels * d->in_size[0] * d->in_size[1],
                            .y = d->out_channels * d->out_size[0] * d->out_size[1],
                            .param = {d->out_channels * window, d->out_channels},
                            .params = d->bias ? 2 : 1};
}

static operand_counts count_operands(lks_op_kind kind, const void *desc) {
    if (kind == LKS_OP_BATCH_NORM) {
        const lks_batch_norm_desc *d = desc;
        const int64_t count = d->channels * d->spatial;
        return (operand_counts){.x = count,
                                .y = count,
                                .param = {d->channels, d->channels},
                                .params = d->affine ? 2 : 0};
    }
    if (kind == LKS_OP_SOFTMAX) {
        const lks_softmax_desc *d = desc;
        const int64_t count = d->outer * d->size * d->inner;
        return (operand_counts){.x = count, .y = count};
    }
    return count_products(kind, desc);
}

/* ---- float32 copies ---- */

/* Takes float32 arrays, one behind the other, from memory, or counts what they would take. */
typedef struct room {
    const lks_device *device;
    float *memory; /* NULL: counts alone */
    int64_t used;
} room;

static float *take(room *r, int64_t count) {
    float *taken = r->memory ? r->memory + r->used : NULL;
    r->used += (int64_t)lks_round_up((size_t)count, LKS_CPU_LINE_FLOATS);
    return taken;
}

static float *widen(room *r, int64_t count, const void *from) {
    float *to = take(r, count);
    if (to && from && count > 0)
        lks_cpu_cast((lks_device *)r->device, NULL, count, LKS_BF16, from, LKS_F32, to);
    return to;
}

static void narrow(const lks_device *device, int64_t count, const float *from, void *to) {
    if (count > 0) lks_cpu_cast((lks_device *)device, NULL, count, LKS_F32, from, LKS_BF16, to);
}

/* The float32 operands of a call. */
typedef struct wide_operands {
    lks_op_args args;
    const void *params[MAX_PARAMS];
} wide_operands;

static void widen_params(const widened_op *op, const lks_op_args *args, room *r,
                         wide_operands *out) {
    for (int i = 0; i < op->count.params; i++)
        out->params[i] = widen(r, op->count.param[i], args->params ? args->params[i] : NULL);
    out->args.params = out->params;
}

static void widen_forward(const widened_op *op, const lks_op_args *args, room *r,
                          wide_operands *out) {
    const operand_counts *n = &op->count;
    out->args = *args;
    widen_params(op, args, r, out);
    float *x = widen(r, args->batch * n->x, args->x);
    out->args.x = x;
    out->args.y = op->op.needs.in_place ? x : take(r, args->batch * n->y);
}

static void widen_backward(const widened_op *op, const lks_op_args *args, room *r,
                           wide_operands *out) {
    const operand_counts *n = &op->count;
    const lks_op_needs *needs = &op->op.needs;
    out->args = *args;
    widen_params(op, args, r, out);
    if (needs->backward_needs_x) out->args.x = widen(r, args->batch * n->x, args->x);
    if (needs->backward_needs_y) out->args.y = widen(r, args->batch * n->y, args->y);
    float *dy = widen(r, args->batch * n->y, args->dy);
    out->args.dy = dy;
    float *dx = needs->backward_in_place ? dy : take(r, args->batch * n->x);
    out->args.dx = args->dx ? dx : NULL;
}

/* ---- the operation ---- */

static void destroy(lks_op *base) {
    widened_op *op = (widened_op *)base;
    lks_op_destroy(op->inner);
    free(op);
}

static room make_room(const widened_op *op, const lks_op_args *args) {
    const size_t inner = lks_round_up(op->inner->needs.scratch_bytes, 64);
    return (room){op->op.device, (float *)(void *)((char *)args->scratch + inner), 0};
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const widened_op *op = (const widened_op *)base;
    room r = make_room(op, args);
    wide_operands wide;
    widen_forward(op, args, &r, &wide);
    lks_status status = lks_op_forward(op->inner, stream, &wide.args);
    if (status == LKS_OK) narrow(op->op.device, args->batch * op->count.y, wide.args.y, args->y);
    return status;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const widened_op *op = (const widened_op *)base;
    room r = make_room(op, args);
    wide_operands wide;
    widen_backward(op, args, &r, &wide);
    lks_status status = lks_op_backward(op->inner, stream, &wide.args);
    if (status == LKS_OK && args->dx)
        narrow(op->op.device, args->batch * op->count.x, wide.args.dx, args->dx);
    return status;
}

static const lks_op_type widened = {.forward = forward, .backward = backward, .destroy = destroy};

static size_t scratch_bytes(const widened_op *op) {
    const lks_op_args largest = {.batch = op->op.max_batch};
    wide_operands unused;
    room before = {0}, after = {0};
    widen_forward(op, &largest, &before, &unused);
    widen_backward(op, &largest, &after, &unused);
    const int64_t floats = before.used > after.used ? before.used : after.used;
    return lks_round_up(op->inner->needs.scratch_bytes, 64) + (size_t)floats * sizeof(float);
}

lks_status lks_cpu_widened_create(lks_device *device, lks_op_kind kind, const lks_op_type *type,
                                  const void *desc, int64_t max_batch, lks_op **out) {
    widened_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "an operation on bfloat16: out of memory");
    lks_status status = lks_op_make(type, device, LKS_F32, desc, max_batch, &op->inner);
    if (status != LKS_OK) {
        free(op);
        return status;
    }
    op->op = *op->inner;
    op->op.type = &widened;
    op->count = count_operands(kind, desc);
    op->op.needs.scratch_bytes = scratch_bytes(op);
    *out = &op->op;
    return LKS_OK;
}
