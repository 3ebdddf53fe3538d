/* [channels, spatial] to [spatial, channels] and back: a transpose of every sample, in square
 * blocks that fit the first-level cache. */
#include <stdlib.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

enum { BLOCK = 16 };

typedef struct relayout_op {
    lks_op op;
    lks_dtype type;
    int64_t channels, spatial;
    lks_layout from, to;
} relayout_op;

/* Units of work: bands of BLOCK rows of every sample's source. */
typedef struct relayout_job {
    int64_t rows, columns, bands; /* of a sample's source */
    const void *from;
    void *to;
} relayout_job;

/* to[to_at] = from[at], of as many bits as `type` has. */
LKS_CPU_INLINE void move(lks_dtype type, const void *from, int64_t at, void *to, int64_t to_at) {
    if (type == LKS_F32)
        ((uint32_t *)to)[to_at] = ((const uint32_t *)from)[at];
    else
        ((uint16_t *)to)[to_at] = ((const uint16_t *)from)[at];
}

/* to[column][row] = from[row][column] for rows [row, row_end), at most BLOCK, of the sample that
 * begins at element `sample`. */
LKS_CPU_INLINE void transpose_band(lks_dtype type, const relayout_job *job, int64_t sample,
                                   int64_t row, int64_t row_end) {
    const int64_t rows = job->rows, columns = job->columns;
    const void *restrict from = job->from;
    void *restrict to = job->to;
    int64_t c = 0;
    if (row_end - row == BLOCK)
        for (; c + BLOCK <= columns; c += BLOCK)
            for (int64_t i = 0; i < BLOCK; i++)
                for (int64_t j = 0; j < BLOCK; j++)
                    move(type, from, sample + (row + j) * columns + c + i, to,
                         sample + (c + i) * rows + row + j);
    for (; c < columns; c++)
        for (int64_t r = row; r < row_end; r++)
            move(type, from, sample + r * columns + c, to, sample + c * rows + r);
}

LKS_CPU_INLINE void transpose_bands(lks_dtype type, const relayout_job *job, int64_t begin,
                                    int64_t end) {
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t row = unit % job->bands * BLOCK;
        const int64_t row_end = row + BLOCK < job->rows ? row + BLOCK : job->rows;
        transpose_band(type, job, unit / job->bands * job->rows * job->columns, row, row_end);
    }
}

LKS_CPU_CLONES
static void bands_f32(const void *job, int64_t begin, int64_t end) {
    transpose_bands(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void bands_bf16(const void *job, int64_t begin, int64_t end) {
    transpose_bands(LKS_BF16, job, begin, end);
}

/* from[batch][rows][columns] to to[batch][columns][rows]. */
static void transpose(const relayout_op *op, int64_t batch, int64_t rows, int64_t columns,
                      const void *from, void *to) {
    const relayout_job job = {rows, columns, (rows + BLOCK - 1) / BLOCK, from, to};
    const int64_t band = columns * (rows < BLOCK ? rows : BLOCK);
    lks_cpu_parallel(op->op.device, batch * job.bands, 1, 1 + LKS_CPU_GRAIN / band,
                     op->type == LKS_F32 ? bands_f32 : bands_bf16, &job);
}

/* Do both layouts have the same order in memory? */
static bool is_copy(const relayout_op *op) {
    return op->from == op->to || op->channels == 1 || op->spatial == 1;
}

static void convert(const relayout_op *op, int64_t batch, lks_layout layout, const void *from,
                    void *to) {
    if (is_copy(op))
        lks_cpu_copy(op->op.device, op->type, batch * op->channels * op->spatial, from, to);
    else if (layout == LKS_LAYOUT_ROWS)
        transpose(op, batch, op->channels, op->spatial, from, to);
    else
        transpose(op, batch, op->spatial, op->channels, from, to);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)max_batch;
    const lks_relayout_desc *d = desc;
    relayout_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "relayout: cannot allocate the operation");
    op->type = type;
    op->channels = d->channels;
    op->spatial = d->spatial;
    op->from = d->from;
    op->to = d->to;
    op->op.needs.in_place = op->op.needs.backward_in_place = is_copy(op);
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const relayout_op *op = (const relayout_op *)base;
    convert(op, args->batch, op->from, args->x, args->y);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const relayout_op *op = (const relayout_op *)base;
    if (args->dx) convert(op, args->batch, op->to, args->dy, args->dx);
    return LKS_OK;
}

const lks_op_type lks_cpu_relayout = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
