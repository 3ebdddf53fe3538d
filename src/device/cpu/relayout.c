/* [channels, spatial] to [spatial, channels] and back: a transpose of every sample, in square
 * blocks that fit the first-level cache. */
#include <stdlib.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

enum { BLOCK = 16 };

typedef struct relayout_op {
    lks_op op;
    int64_t channels, spatial;
    lks_layout from, to;
} relayout_op;

/* Units of work: bands of BLOCK rows of every sample's source. */
typedef struct relayout_job {
    int64_t rows, columns, bands; /* of a sample's source */
    const float *from;
    float *to;
} relayout_job;

/* to[column][row] = from[row][column] for one full block. */
LKS_CPU_INLINE void transpose_block(const float *from, int64_t columns, float *to, int64_t rows) {
    for (int64_t c = 0; c < BLOCK; c++)
        for (int64_t r = 0; r < BLOCK; r++)
            to[c * rows + r] = from[r * columns + c];
}

/* Rows [row, row_end) of one sample, at most BLOCK of them. */
LKS_CPU_CLONES
static void transpose_band(int64_t rows, int64_t columns, int64_t row, int64_t row_end,
                           const float *restrict from, float *restrict to) {
    int64_t c = 0;
    if (row_end - row == BLOCK)
        for (; c + BLOCK <= columns; c += BLOCK)
            transpose_block(from + row * columns + c, columns, to + c * rows + row, rows);
    for (; c < columns; c++)
        for (int64_t r = row; r < row_end; r++)
            to[c * rows + r] = from[r * columns + c];
}

static void bands_part(const void *data, int64_t begin, int64_t end) {
    const relayout_job *job = data;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t sample = unit / job->bands * job->rows * job->columns;
        const int64_t row = unit % job->bands * BLOCK;
        const int64_t row_end = row + BLOCK < job->rows ? row + BLOCK : job->rows;
        transpose_band(job->rows, job->columns, row, row_end, job->from + sample, job->to + sample);
    }
}

/* from[batch][rows][columns] to to[batch][columns][rows]. */
static void transpose(const lks_device *device, int64_t batch, int64_t rows, int64_t columns,
                      const float *from, float *to) {
    const relayout_job job = {rows, columns, (rows + BLOCK - 1) / BLOCK, from, to};
    const int64_t band = columns * (rows < BLOCK ? rows : BLOCK);
    lks_cpu_parallel(device, batch * job.bands, 1, 1 + LKS_CPU_GRAIN / band, bands_part, &job);
}

/* Do both layouts have the same order in memory? */
static bool is_copy(const relayout_op *op) {
    return op->from == op->to || op->channels == 1 || op->spatial == 1;
}

static void convert(const relayout_op *op, int64_t batch, lks_layout layout, const float *from,
                    float *to) {
    const lks_device *device = op->op.device;
    if (is_copy(op))
        lks_cpu_copy(device, LKS_F32, batch * op->channels * op->spatial, from, to);
    else if (layout == LKS_LAYOUT_ROWS)
        transpose(device, batch, op->channels, op->spatial, from, to);
    else
        transpose(device, batch, op->spatial, op->channels, from, to);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    const lks_relayout_desc *d = desc;
    relayout_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "relayout: cannot allocate the operation");
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
