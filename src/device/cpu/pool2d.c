/* Pooling over windows of channels-last images. Forward works on rows of the output, backward
 * gathers into rows of the input, so no two threads write the same place and the order of sums is
 * fixed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/pool2d.h"

typedef struct pool_op {
    lks_op op;
    lks_pool2d_desc desc;
    lks_pool_axis axis[2]; /* height, width */
} pool_op;

typedef struct pool_job {
    const pool_op *op;
    const float *in; /* x in forward, dy in backward */
    float *out;      /* y in forward, dx in backward */
    uint16_t *tap;   /* max: [batch, out height, out width, channels], the winner in its window */
} pool_job;

/* ---- rows: forward one of the output, backward one of the input ---- */

/* The channels of one place of an image. */
LKS_CPU_INLINE const float *at(const float *image, const lks_pool_axis *width, int64_t h, int64_t w,
                               int64_t n) {
    return image + (h * width->in + w) * n;
}

/* y and winner[n]: the largest of the window's taps, the first of equals; NaN wins, as in PyTorch.
 */
LKS_CPU_CLONES
static void max_row(const pool_op *op, const float *image, const lks_pool_window *rows, float *y,
                    uint16_t *winner) {
    const lks_pool_axis *height = &op->axis[0], *width = &op->axis[1];
    const int64_t n = op->desc.channels;
    for (int64_t o = 0; o < width->out; o++, y += n, winner += n) {
        const lks_pool_window columns = width->window[o];
        for (int64_t c = 0; c < n; c++)
            y[c] = -INFINITY;
        const uint16_t start = (uint16_t)(rows->first * op->desc.kernel[1] + columns.first);
        for (int64_t c = 0; c < n; c++)
            winner[c] = start;
        for (int64_t i = rows->first; i < rows->last; i++)
            for (int64_t j = columns.first; j < columns.last; j++) {
                const uint16_t tap = (uint16_t)(i * op->desc.kernel[1] + j);
                const float *x = at(image, width, rows->begin + i * height->step,
                                    columns.begin + j * width->step, n);
#pragma omp simd
                for (int64_t c = 0; c < n; c++) {
                    const bool larger = (x[c] > y[c]) | (x[c] != x[c]);
                    y[c] = larger ? x[c] : y[c];
                    winner[c] = larger ? tap : winner[c];
                }
            }
    }
}

LKS_CPU_CLONES
static void average_row(const pool_op *op, const float *image, const lks_pool_window *rows,
                        float *y) {
    const lks_pool_axis *width = &op->axis[1];
    const int64_t n = op->desc.channels;
    for (int64_t o = 0; o < width->out; o++, y += n) {
        const lks_pool_window columns = width->window[o];
        const float scale = 1.0f / (float)(rows->extent * columns.extent);
        for (int64_t c = 0; c < n; c++)
            y[c] = 0.0f;
        for (int64_t i = rows->first; i < rows->last; i++)
            for (int64_t j = columns.first; j < columns.last; j++) {
                const float *x = at(image, width, rows->begin + i, columns.begin + j, n);
#pragma omp simd
                for (int64_t c = 0; c < n; c++)
                    y[c] += x[c];
            }
        for (int64_t c = 0; c < n; c++)
            y[c] *= scale;
    }
}

/* The tap with which a window that reaches over input place i covers it, or -1 where the dilation
 * steps over it. */
LKS_CPU_INLINE int64_t tap_of(const lks_pool_window *w, int64_t step, int64_t i) {
    const int64_t from_begin = i - w->begin;
    return step > 1 && from_begin % step != 0 ? -1 : from_begin / step;
}

/* dx[n] += dy where the tap won */
LKS_CPU_INLINE void add_won(int64_t n, const float *dy, const uint16_t *winner, uint16_t tap,
                            float *dx) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++)
        dx[c] += winner[c] == tap ? dy[c] : 0.0f;
}

LKS_CPU_INLINE void add_scaled(int64_t n, const float *dy, float scale, float *dx) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++)
        dx[c] += scale * dy[c];
}

/* Row h of one image's dx from that image's dy (and winners; NULL: averages). */
LKS_CPU_CLONES
static void gather_row(const pool_op *op, const float *dy, const uint16_t *winner, int64_t h,
                       float *dx) {
    const lks_pool_axis *height = &op->axis[0], *width = &op->axis[1];
    const int64_t n = op->desc.channels;
    memset(dx, 0, (size_t)(width->in * n) * sizeof *dx);
    for (int64_t i = height->cover[h].first; i < height->cover[h].last; i++) {
        const lks_pool_window *rows = &height->window[i];
        const int64_t row_tap = tap_of(rows, height->step, h);
        if (row_tap < 0) continue;
        for (int64_t w = 0; w < width->in; w++)
            for (int64_t j = width->cover[w].first; j < width->cover[w].last; j++) {
                const lks_pool_window *columns = &width->window[j];
                const int64_t tap = tap_of(columns, width->step, w);
                const int64_t place = (i * width->out + j) * n;
                if (tap < 0) continue;
                if (winner)
                    add_won(n, dy + place, winner + place,
                            (uint16_t)(row_tap * op->desc.kernel[1] + tap), dx + w * n);
                else
                    add_scaled(n, dy + place, 1.0f / (float)(rows->extent * columns->extent),
                               dx + w * n);
            }
    }
}

static int64_t in_count(const pool_op *op) {
    return op->axis[0].in * op->axis[1].in * op->desc.channels;
}

static int64_t out_count(const pool_op *op) {
    return op->axis[0].out * op->axis[1].out * op->desc.channels;
}

static void forward_part(const void *data, int64_t begin, int64_t end) {
    const pool_job *job = data;
    const pool_op *op = job->op;
    const int64_t row = op->axis[1].out * op->desc.channels;
    for (int64_t r = begin; r < end; r++) {
        const float *image = job->in + r / op->axis[0].out * in_count(op);
        const lks_pool_window *rows = &op->axis[0].window[r % op->axis[0].out];
        if (job->tap)
            max_row(op, image, rows, job->out + r * row, job->tap + r * row);
        else
            average_row(op, image, rows, job->out + r * row);
    }
}

static void backward_part(const void *data, int64_t begin, int64_t end) {
    const pool_job *job = data;
    const pool_op *op = job->op;
    for (int64_t r = begin; r < end; r++) {
        const int64_t image = r / op->axis[0].in * out_count(op);
        gather_row(op, job->in + image, job->tap ? job->tap + image : NULL, r % op->axis[0].in,
                   job->out + r * op->axis[1].in * op->desc.channels);
    }
}

/* ---- the operation ---- */

static void destroy(lks_op *base) {
    pool_op *op = (pool_op *)base;
    for (int i = 0; i < 2; i++)
        lks_pool_axis_destroy(&op->axis[i]);
    free(op);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    pool_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "pool2d: cannot allocate the operation");
    op->desc = *(const lks_pool2d_desc *)desc;
    lks_status status = LKS_OK;
    for (int i = 0; i < 2 && status == LKS_OK; i++)
        status = lks_pool_axis_create(&op->desc, i, &op->axis[i]);
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    if (op->desc.kind == LKS_POOL_MAX)
        op->op.needs.saved_bytes = (size_t)(max_batch * out_count(op)) * sizeof(uint16_t);
    *out = &op->op;
    return LKS_OK;
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const pool_op *op = (const pool_op *)base;
    const pool_job job = {op, args->x, args->y, op->desc.kind == LKS_POOL_MAX ? args->saved : NULL};
    const int64_t rows = op->axis[0].out;
    lks_cpu_parallel(base->device, args->batch * rows, 1, 1 + LKS_CPU_GRAIN * rows / in_count(op),
                     forward_part, &job);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const pool_op *op = (const pool_op *)base;
    if (!args->dx) return LKS_OK;
    const pool_job job = {op, args->dy, args->dx,
                          op->desc.kind == LKS_POOL_MAX ? args->saved : NULL};
    const int64_t rows = op->axis[0].in;
    lks_cpu_parallel(base->device, args->batch * rows, 1, 1 + LKS_CPU_GRAIN * rows / in_count(op),
                     backward_part, &job);
    return LKS_OK;
}

const lks_op_type lks_cpu_pool2d = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
