/* Operations on bfloat16 by way of float32: every operand is widened, the float32 kernel runs, and
 * its results are rounded, once. What lives between operations is bfloat16; the float32 copies are
 * scratch memory of the call. Where samples know nothing of each other, a few of them go through at
 * a time, so that their copies stay in the caches. */
#include <stdlib.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

enum {
    MAX_PARAMS = 2,
    /* Float32 copies of a piece, for each thread: half of a common second-level cache. */
    PIECE_FLOATS = 1 << 17
};

/* Elements: of a sample; of a parameter. */
typedef struct operand_counts {
    int64_t x, y;
    int64_t param[MAX_PARAMS];
    int params;
    bool two_inputs, two_gradients; /* add; fork */
    bool alone;                     /* every sample by itself, and no parameters */
} operand_counts;

typedef struct widened_op {
    lks_op op;
    lks_op *inner; /* float32 */
    operand_counts count;
    int64_t piece; /* samples that go through together */
} widened_op;

/* ---- the sizes of all kinds ---- */

static operand_counts same_counts(int64_t count) {
    return (operand_counts){.x = count, .y = count, .alone = true};
}

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

static operand_counts count_norms(lks_op_kind kind, const void *desc) {
    if (kind == LKS_OP_BATCH_NORM) {
        const lks_batch_norm_desc *d = desc;
        operand_counts n = same_counts(d->channels * d->spatial);
        n.alone = false;
        n.params = d->affine ? 2 : 0;
        n.param[0] = n.param[1] = d->channels;
        return n;
    }
    const lks_layer_norm_desc *d = desc;
    operand_counts n = same_counts(d->rows_per_sample * d->width);
    n.alone = false;
    n.params = !d->affine ? 0 : d->bias ? 2 : 1;
    n.param[0] = n.param[1] = d->width;
    return n;
}

static operand_counts count_pool2d(const lks_pool2d_desc *d) {
    return (operand_counts){.x = d->channels * d->in_size[0] * d->in_size[1],
                            .y = d->channels * d->out_size[0] * d->out_size[1],
                            .alone = true};
}

static operand_counts count_operands(lks_op_kind kind, const void *desc) {
    operand_counts n = {0};
    switch (kind) {
    case LKS_OP_LINEAR:
    case LKS_OP_CONV2D:
        return count_products(kind, desc);
    case LKS_OP_BATCH_NORM:
    case LKS_OP_LAYER_NORM:
        return count_norms(kind, desc);
    case LKS_OP_POOL2D:
        return count_pool2d(desc);
    case LKS_OP_SOFTMAX: {
        const lks_softmax_desc *d = desc;
        return same_counts(d->outer * d->size * d->inner);
    }
    case LKS_OP_RELAYOUT: {
        const lks_relayout_desc *d = desc;
        return same_counts(d->channels * d->spatial);
    }
    case LKS_OP_ELTWISE:
        return same_counts(((const lks_eltwise_desc *)desc)->count);
    case LKS_OP_DROPOUT:
        return same_counts(((const lks_dropout_desc *)desc)->count);
    case LKS_OP_ADD:
    case LKS_OP_FORK:
        n = same_counts(((const lks_add_desc *)desc)->count);
        n.two_inputs = kind == LKS_OP_ADD;
        n.two_gradients = kind == LKS_OP_FORK;
        return n;
    default: /* a cast is no such operation */
        return n;
    }
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
    if (n->two_inputs) out->args.x2 = widen(r, args->batch * n->x, args->x2);
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
    if (n->two_gradients) out->args.dy2 = widen(r, args->batch * n->y, args->dy2);
    float *dx = needs->backward_in_place ? dy : take(r, args->batch * n->x);
    out->args.dx = args->dx ? dx : NULL;
    out->args.dx2 = args->dx2 ? dy : NULL; /* of an add, whose gradients are all dy */
}

/* ---- pieces of a batch ---- */

static const void *skip(const void *halves, int64_t count) {
    return halves ? (const uint16_t *)halves + count : NULL;
}

static void *skip_to(void *halves, int64_t count) {
    return halves ? (uint16_t *)halves + count : NULL;
}

/* The operands of at most op->piece samples from `first` on. */
static lks_op_args piece_of(const widened_op *op, const lks_op_args *args, int64_t first) {
    const int64_t left = args->batch - first, x = first * op->count.x, y = first * op->count.y;
    const int64_t saved_bytes = (int64_t)op->op.needs.saved_bytes / op->op.max_batch;
    lks_op_args piece = *args;
    if (first == 0 && left <= op->piece) return piece;
    piece.batch = left < op->piece ? left : op->piece;
    piece.first_row += first;
    piece.x = skip(args->x, x);
    piece.x2 = skip(args->x2, x);
    piece.y = skip_to(args->y, y);
    piece.dy = skip_to(args->dy, y);
    piece.dy2 = skip(args->dy2, y);
    piece.dx = skip_to(args->dx, x);
    piece.dx2 = skip_to(args->dx2, x);
    if (args->saved) piece.saved = (char *)args->saved + first * saved_bytes;
    return piece;
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

static lks_status forward_piece(const widened_op *op, lks_stream *stream, const lks_op_args *args) {
    room r = make_room(op, args);
    wide_operands wide;
    widen_forward(op, args, &r, &wide);
    lks_status status = lks_op_forward(op->inner, stream, &wide.args);
    if (status == LKS_OK) narrow(op->op.device, args->batch * op->count.y, wide.args.y, args->y);
    return status;
}

static lks_status backward_piece(const widened_op *op, lks_stream *stream,
                                 const lks_op_args *args) {
    const int64_t count = args->batch * op->count.x;
    room r = make_room(op, args);
    wide_operands wide;
    widen_backward(op, args, &r, &wide);
    lks_status status = lks_op_backward(op->inner, stream, &wide.args);
    if (status != LKS_OK) return status;
    if (args->dx) narrow(op->op.device, count, wide.args.dx, args->dx);
    if (args->dx2) narrow(op->op.device, count, wide.args.dx2, args->dx2);
    return LKS_OK;
}

typedef lks_status (*piece_fn)(const widened_op *op, lks_stream *stream, const lks_op_args *args);

/* An empty batch is one empty piece. */
static lks_status run_pieces(const widened_op *op, lks_stream *stream, const lks_op_args *args,
                             piece_fn run) {
    lks_status status = LKS_OK;
    int64_t first = 0;
    do {
        const lks_op_args piece = piece_of(op, args, first);
        status = run(op, stream, &piece);
        first += op->piece;
    } while (status == LKS_OK && first < args->batch);
    return status;
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const widened_op *op = (const widened_op *)base;
    if (!op->inner->type->forward) return LKS_OK;
    return run_pieces(op, stream, args, forward_piece);
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    return run_pieces((const widened_op *)base, stream, args, backward_piece);
}

static const lks_op_type widened = {.forward = forward, .backward = backward, .destroy = destroy};

static int64_t choose_piece(const widened_op *op, int64_t max_batch) {
    const int64_t sample = op->count.x + op->count.y;
    const int64_t fit = (int64_t)op->op.device->threads * PIECE_FLOATS / (sample + 1);
    if (!op->count.alone || fit > max_batch) return max_batch;
    return fit < 1 ? 1 : fit;
}

static size_t scratch_bytes(const widened_op *op) {
    const lks_op_args largest = {.batch = op->piece};
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
    op->count = count_operands(kind, desc);
    lks_status status = lks_op_make(type, device, LKS_F32, desc, max_batch, &op->inner);
    if (status != LKS_OK) {
        free(op);
        return status;
    }
    op->op = *op->inner;
    op->op.type = &widened;
    op->piece = choose_piece(op, max_batch);
    op->op.needs.scratch_bytes = scratch_bytes(op);
    *out = &op->op;
    return LKS_OK;
}
