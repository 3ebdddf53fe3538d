/* Pooling over windows of channels-last images. Forward works on rows of the output, backward
 * gathers into rows of the input, so no two threads write the same place and the order of sums is
 * fixed. */
#include <math.h>
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/pool2d.h"

typedef struct pool_op {
    lks_op op;
    lks_dtype type;
    lks_pool2d_desc desc;
    lks_pool_axis axis[2]; /* height, width */
} pool_op;

typedef struct pool_job {
    const pool_op *op;
    const void *in; /* x in forward, dy in backward */
    void *out;      /* y in forward, dx in backward */
    uint16_t *tap;  /* max: [batch, out height, out width, channels], the winner in its window */
} pool_job;

/* ---- rows: forward one of the output, backward one of the input. Each is written once for both
 * types of elements. Arrays are those of one image. ---- */

enum { TILE = 4 * LKS_CPU_LANES }; /* channels whose sums are kept at a time */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Where the channels of one place of the image begin. */
LKS_CPU_INLINE int64_t place_of(const lks_pool_axis *width, int64_t h, int64_t w, int64_t n) {
    return (h * width->in + w) * n;
}

/* y and winner[n] from `to` on: the largest of the window's taps, the first of equals; NaN wins, as
 * in PyTorch. The largest so far is one of x, and so y can hold it in any type. */
LKS_CPU_INLINE void max_row(lks_dtype type, const pool_op *op, const void *x,
                            const lks_pool_window *rows, void *y, int64_t to, uint16_t *winner) {
    const lks_pool_axis *height = &op->axis[0], *width = &op->axis[1];
    const int64_t n = op->desc.channels;
    for (int64_t o = 0; o < width->out; o++, to += n, winner += n) {
        const lks_pool_window columns = width->window[o];
        const uint16_t start = (uint16_t)(rows->first * op->desc.kernel[1] + columns.first);
        for (int64_t c = 0; c < n; c++)
            lks_cpu_store(type, y, to + c, -INFINITY);
        for (int64_t c = 0; c < n; c++)
            winner[c] = start;
        for (int64_t i = rows->first; i < rows->last; i++)
            for (int64_t j = columns.first; j < columns.last; j++) {
                const uint16_t tap = (uint16_t)(i * op->desc.kernel[1] + j);
                const int64_t from = place_of(width, rows->begin + i * height->step,
                                              columns.begin + j * width->step, n);
#pragma omp simd
                for (int64_t c = 0; c < n; c++) {
                    const float v = lks_cpu_load(type, x, from + c);
                    const float most = lks_cpu_load(type, y, to + c);
                    const bool larger = (v > most) | (v != v);
                    lks_cpu_store(type, y, to + c, larger ? v : most);
                    winner[c] = larger ? tap : winner[c];
                }
            }
    }
}

/* sum[n] += scale * x */
LKS_CPU_INLINE void add_scaled(lks_dtype type, int64_t n, const void *x, int64_t at, float scale,
                               float *sum) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++)
        sum[c] += scale * lks_cpu_load(type, x, at + c);
}

LKS_CPU_INLINE void store_scaled(lks_dtype type, int64_t n, const float *sum, float scale, void *y,
                                 int64_t at) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++)
        lks_cpu_store(type, y, at + c, sum[c] * scale);
}

LKS_CPU_INLINE void average_row(lks_dtype type, const pool_op *op, const void *x,
                                const lks_pool_window *rows, void *y, int64_t to) {
    const lks_pool_axis *width = &op->axis[1];
    const int64_t n = op->desc.channels;
    for (int64_t o = 0; o < width->out; o++, to += n) {
        const lks_pool_window columns = width->window[o];
        const float scale = 1.0f / (float)(rows->extent * columns.extent);
        for (int64_t c = 0; c < n; c += TILE) {
            const int64_t part = least(TILE, n - c);
            float sum[TILE] = {0};
            for (int64_t i = rows->first; i < rows->last; i++)
                for (int64_t j = columns.first; j < columns.last; j++)
                    add_scaled(type, part, x,
                               place_of(width, rows->begin + i, columns.begin + j, n) + c, 1.0f,
                               sum);
            store_scaled(type, part, sum, scale, y, to + c);
        }
    }
}

/* The tap with which a window that reaches over input place i covers it, or -1 where the dilation
 * steps over it. */
LKS_CPU_INLINE int64_t tap_of(const lks_pool_window *w, int64_t step, int64_t i) {
    const int64_t from_begin = i - w->begin;
    return step > 1 && from_begin % step != 0 ? -1 : from_begin / step;
}

/* sum[n] += dy where the tap won */
LKS_CPU_INLINE void add_won(lks_dtype type, int64_t n, const void *dy, const uint16_t *winner,
                            int64_t at, uint16_t tap, float *sum) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) {
        const float g = lks_cpu_load(type, dy, at + c);
        sum[c] += winner[at + c] == tap ? g : 0.0f;
    }
}

/* The sums of n <= TILE channels, from channel c on, of input place (h, w) from dy (and winners;
 * NULL: averages). */
LKS_CPU_INLINE void gather_place(lks_dtype type, const pool_op *op, const void *dy,
                                 const uint16_t *winner, int64_t h, int64_t w, int64_t c, int64_t n,
                                 float *sum) {
    const lks_pool_axis *height = &op->axis[0], *width = &op->axis[1];
    for (int64_t i = height->cover[h].first; i < height->cover[h].last; i++) {
        const lks_pool_window *rows = &height->window[i];
        const int64_t row_tap = tap_of(rows, height->step, h);
        if (row_tap < 0) continue;
        for (int64_t j = width->cover[w].first; j < width->cover[w].last; j++) {
            const lks_pool_window *columns = &width->window[j];
            const int64_t tap = tap_of(columns, width->step, w);
            const int64_t at = (i * width->out + j) * op->desc.channels + c;
            if (tap < 0) continue;
            if (winner)
                add_won(type, n, dy, winner, at, (uint16_t)(row_tap * op->desc.kernel[1] + tap),
                        sum);
            else
                add_scaled(type, n, dy, at, 1.0f / (float)(rows->extent * columns->extent), sum);
        }
    }
}

/* Row h of dx, which begins at `to`. */
LKS_CPU_INLINE void gather_row(lks_dtype type, const pool_op *op, const void *dy,
                               const uint16_t *winner, int64_t h, void *dx, int64_t to) {
    const int64_t n = op->desc.channels;
    for (int64_t w = 0; w < op->axis[1].in; w++, to += n)
        for (int64_t c = 0; c < n; c += TILE) {
            const int64_t part = least(TILE, n - c);
            float sum[TILE] = {0};
            gather_place(type, op, dy, winner, h, w, c, part, sum);
            store_scaled(type, part, sum, 1.0f, dx, to + c);
        }
}

static int64_t in_count(const pool_op *op) {
    return op->axis[0].in * op->axis[1].in * op->desc.channels;
}

static int64_t out_count(const pool_op *op) {
    return op->axis[0].out * op->axis[1].out * op->desc.channels;
}

/* Element `at` of an array. */
LKS_CPU_INLINE const void *element(lks_dtype type, const void *array, int64_t at) {
    return (const char *)array + at * (int64_t)lks_dtype_bytes(type);
}

LKS_CPU_INLINE void forward_rows(lks_dtype type, const pool_job *job, int64_t begin, int64_t end) {
    const pool_op *op = job->op;
    const int64_t row = op->axis[1].out * op->desc.channels;
    for (int64_t r = begin; r < end; r++) {
        const void *image = element(type, job->in, r / op->axis[0].out * in_count(op));
        const lks_pool_window *rows = &op->axis[0].window[r % op->axis[0].out];
        if (job->tap)
            max_row(type, op, image, rows, job->out, r * row, job->tap + r * row);
        else
            average_row(type, op, image, rows, job->out, r * row);
    }
}

LKS_CPU_INLINE void backward_rows(lks_dtype type, const pool_job *job, int64_t begin, int64_t end) {
    const pool_op *op = job->op;
    for (int64_t r = begin; r < end; r++) {
        const int64_t image = r / op->axis[0].in * out_count(op);
        gather_row(type, op, element(type, job->in, image), job->tap ? job->tap + image : NULL,
                   r % op->axis[0].in, job->out, r * op->axis[1].in * op->desc.channels);
    }
}

LKS_CPU_CLONES
static void forward_f32(const void *job, int64_t begin, int64_t end) {
    forward_rows(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void forward_bf16(const void *job, int64_t begin, int64_t end) {
    forward_rows(LKS_BF16, job, begin, end);
}

LKS_CPU_CLONES
static void backward_f32(const void *job, int64_t begin, int64_t end) {
    backward_rows(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void backward_bf16(const void *job, int64_t begin, int64_t end) {
    backward_rows(LKS_BF16, job, begin, end);
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
    pool_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "pool2d: cannot allocate the operation");
    op->type = type;
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
                     op->type == LKS_F32 ? forward_f32 : forward_bf16, &job);
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
                     op->type == LKS_F32 ? backward_f32 : backward_bf16, &job);
    return LKS_OK;
}

const lks_op_type lks_cpu_pool2d = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
