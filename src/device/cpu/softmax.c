/* Softmax along the middle of [rows, size, inner]. Where inner is 1 a row is contiguous; otherwise
 * TILE neighbouring columns of a row go through together. Of bfloat16, contiguous rows of at most
 * LKS_CPU_CAST_BLOCK numbers. */
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/lanes.h"
#include "device/cpu/parallel.h"

enum { TILE = 64 };

typedef struct softmax_op {
    lks_op op;
    lks_dtype type;
    int64_t outer, size, inner;
} softmax_op;

/* Units of work: the rows; where inner > 1, the tiles of all rows. */
typedef struct softmax_job {
    lks_dtype type;
    int64_t size, inner, tiles;
    const void *x, *y, *dy;
    void *out; /* y in forward, dx in backward */
} softmax_job;

/* ---- contiguous rows ---- */

LKS_CPU_CLONES
static void softmax_rows(int64_t rows, int64_t size, const float *x, float *y) {
    for (int64_t r = 0; r < rows; r++, x += size, y += size) {
        const float sum = lks_row_exp(size, x, lks_row_max(size, x), y);
        const float scale = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            y[i] *= scale;
    }
}

/* dx = y (dy - sum(y dy)) */
LKS_CPU_CLONES
static void softmax_rows_backward(int64_t rows, int64_t size, const float *y, const float *dy,
                                  float *dx) {
    for (int64_t r = 0; r < rows; r++, y += size, dy += size, dx += size) {
        const float dot = lks_row_dot(size, y, dy);
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            dx[i] = y[i] * (dy[i] - dot);
    }
}

/* How many of the rows [row, end) go through together. */
static int64_t rows_at_once(const softmax_job *job, int64_t row, int64_t end) {
    const int64_t most = job->type == LKS_F32 ? end - row : LKS_CPU_CAST_BLOCK / job->size;
    return end - row < most ? end - row : most;
}

static void rows_part(const void *data, int64_t begin, int64_t end) {
    const softmax_job *job = data;
    float in[LKS_CPU_CAST_BLOCK], out[LKS_CPU_CAST_BLOCK];
    for (int64_t row = begin, rows; row < end; row += rows) {
        rows = rows_at_once(job, row, end);
        const int64_t at = row * job->size, n = rows * job->size;
        softmax_rows(rows, job->size, lks_cpu_floats(job->type, job->x, at, n, in),
                     lks_cpu_results(job->type, job->out, at, out));
        lks_cpu_finish(job->type, job->out, at, n, out);
    }
}

static void rows_backward_part(const void *data, int64_t begin, int64_t end) {
    const softmax_job *job = data;
    float y[LKS_CPU_CAST_BLOCK], dy[LKS_CPU_CAST_BLOCK], out[LKS_CPU_CAST_BLOCK];
    for (int64_t row = begin, rows; row < end; row += rows) {
        rows = rows_at_once(job, row, end);
        const int64_t at = row * job->size, n = rows * job->size;
        softmax_rows_backward(rows, job->size, lks_cpu_floats(job->type, job->y, at, n, y),
                              lks_cpu_floats(job->type, job->dy, at, n, dy),
                              lks_cpu_results(job->type, job->out, at, out));
        lks_cpu_finish(job->type, job->out, at, n, out);
    }
}

/* ---- columns: [size] rows of `width` <= TILE numbers, `stride` apart ---- */

LKS_CPU_CLONES
static void softmax_tile(int64_t size, int64_t stride, int64_t width, const float *x, float *y) {
    float max[TILE], sum[TILE];
    for (int64_t j = 0; j < width; j++) {
        max[j] = x[j];
        sum[j] = 0.0f;
    }
    for (int64_t i = 1; i < size; i++)
        for (int64_t j = 0; j < width; j++)
            max[j] = x[i * stride + j] > max[j] ? x[i * stride + j] : max[j];
    for (int64_t i = 0; i < size; i++) {
#pragma omp simd
        for (int64_t j = 0; j < width; j++) {
            const float e = lks_expf(x[i * stride + j] - max[j]);
            sum[j] += e;
            y[i * stride + j] = e;
        }
    }
    for (int64_t j = 0; j < width; j++)
        sum[j] = 1.0f / sum[j];
    for (int64_t i = 0; i < size; i++) {
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            y[i * stride + j] *= sum[j];
    }
}

LKS_CPU_CLONES
static void softmax_tile_backward(int64_t size, int64_t stride, int64_t width, const float *y,
                                  const float *dy, float *dx) {
    float dot[TILE] = {0};
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < width; j++)
            dot[j] += y[i * stride + j] * dy[i * stride + j];
    for (int64_t i = 0; i < size; i++) {
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            dx[i * stride + j] = y[i * stride + j] * (dy[i * stride + j] - dot[j]);
    }
}

/* Where tile `unit` of the job begins, and how wide it is. */
static int64_t tile_place(const softmax_job *job, int64_t unit, int64_t *width) {
    const int64_t column = unit % job->tiles * TILE;
    *width = job->inner - column < TILE ? job->inner - column : TILE;
    return unit / job->tiles * job->size * job->inner + column;
}

static void tiles_part(const void *data, int64_t begin, int64_t end) {
    const softmax_job *job = data;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t width;
        const int64_t at = tile_place(job, unit, &width);
        softmax_tile(job->size, job->inner, width, (const float *)job->x + at,
                     (float *)job->out + at);
    }
}

static void tiles_backward_part(const void *data, int64_t begin, int64_t end) {
    const softmax_job *job = data;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t width;
        const int64_t at = tile_place(job, unit, &width);
        softmax_tile_backward(job->size, job->inner, width, (const float *)job->y + at,
                              (const float *)job->dy + at, (float *)job->out + at);
    }
}

/* ---- the operation ---- */

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)max_batch;
    const lks_softmax_desc *d = desc;
    if (type != LKS_F32 && (d->inner > 1 || d->size > LKS_CPU_CAST_BLOCK))
        return lks_fail(LKS_EUNSUPPORTED, "softmax: long rows or columns of %s",
                        lks_dtype_name(type));
    softmax_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "softmax: cannot allocate the operation");
    op->op.needs =
        (lks_op_needs){.backward_needs_y = true, .in_place = true, .backward_in_place = true};
    op->type = type;
    op->outer = d->outer;
    op->size = d->size;
    op->inner = d->inner;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static void run(const softmax_op *op, int64_t batch, softmax_job *job, lks_cpu_part rows,
                lks_cpu_part tiles) {
    job->type = op->type;
    job->size = op->size;
    job->inner = op->inner;
    job->tiles = op->inner == 1 ? 1 : (op->inner + TILE - 1) / TILE;
    const int64_t unit_elements = op->size * (op->inner < TILE ? op->inner : TILE);
    lks_cpu_parallel(op->op.device, batch * op->outer * job->tiles, 1,
                     1 + LKS_CPU_EXP_GRAIN / unit_elements, op->inner == 1 ? rows : tiles, job);
}

static lks_status forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    softmax_job job = {.x = args->x, .out = args->y};
    run((const softmax_op *)op, args->batch, &job, rows_part, tiles_part);
    return LKS_OK;
}

static lks_status backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    if (!args->dx) return LKS_OK;
    softmax_job job = {.y = args->y, .dy = args->dy, .out = args->dx};
    run((const softmax_op *)op, args->batch, &job, rows_backward_part, tiles_backward_part);
    return LKS_OK;
}

const lks_op_type lks_cpu_softmax = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
