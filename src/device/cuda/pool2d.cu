/* Pooling over windows of channels-last images. Forward makes outputs, backward gathers into
 * inputs, so no two threads write the same place and the order of sums is fixed. */
#include <stdlib.h>

#include "device/cuda/kernel.cuh"
extern "C" {
#include "device/pool2d.h"
}

namespace {

/* As lks_pool_window and lks_pool_cover. */
struct alignas(16) window {
    int32_t begin, first, last, extent;
};

struct alignas(8) cover {
    int32_t first, last;
};

struct axis {
    int32_t in, out, step;
    const window *windows; /* [out], device memory, as are the covers */
    const cover *covers;   /* [in] */
};

/* What kernels know of an operation. */
struct geometry {
    int32_t channels, kernel_width;
    bool max;
    axis height, width;
};

struct pool_op {
    lks_op op;
    geometry shape;
    int64_t in_count, out_count; /* elements of a sample */
    void *tables;                /* of both axes */
};

/* Where a thread's N channels stand: sample n, row h, column w. */
struct place {
    int64_t n;
    int32_t h, w, c;
};

} // namespace

/* Place `index` of images of height x width, each `groups` groups of N channels deep. */
template <int N>
static __device__ place place_of(int64_t index, int32_t height, int32_t width, int32_t groups) {
    const int32_t row = width * groups;
    const int64_t rows = index / row;
    const int32_t in_row = (int32_t)(index - rows * row);
    place p;
    p.n = rows / height;
    p.h = (int32_t)(rows - p.n * height);
    p.w = in_row / groups;
    p.c = (in_row - p.w * groups) * N;
    return p;
}

static __device__ int64_t offset_of(const place &p, int32_t h, int32_t w, int32_t height,
                                    int32_t width, int32_t channels) {
    return ((p.n * height + h) * width + w) * channels + p.c;
}

/* ---- forward ---- */

/* The largest of the window's taps, the first of equals; NaN wins, as in PyTorch. */
template <typename T, int N>
static __device__ void find_largest(const geometry &g, const place &p, const T *x, float *largest,
                                    uint16_t *winner) {
    const window rows = g.height.windows[p.h], columns = g.width.windows[p.w];
    for (int k = 0; k < N; k++) {
        largest[k] = -INFINITY;
        winner[k] = (uint16_t)(rows.first * g.kernel_width + columns.first);
    }
    for (int32_t i = rows.first; i < rows.last; i++)
        for (int32_t j = columns.first; j < columns.last; j++) {
            float v[N];
            lks_load<T, N>(x + offset_of(p, rows.begin + i * g.height.step,
                                         columns.begin + j * g.width.step, g.height.in, g.width.in,
                                         g.channels),
                           v);
            for (int k = 0; k < N; k++) {
                const bool larger = v[k] > largest[k] || v[k] != v[k];
                largest[k] = larger ? v[k] : largest[k];
                winner[k] = larger ? (uint16_t)(i * g.kernel_width + j) : winner[k];
            }
        }
}

template <typename T, int N>
static __device__ void average(const geometry &g, const place &p, const T *x, float *mean) {
    const window rows = g.height.windows[p.h], columns = g.width.windows[p.w];
    const float scale = 1.0f / (float)(rows.extent * columns.extent);
    for (int k = 0; k < N; k++)
        mean[k] = 0.0f;
    for (int32_t i = rows.first; i < rows.last; i++)
        for (int32_t j = columns.first; j < columns.last; j++) {
            float v[N];
            lks_load<T, N>(x + offset_of(p, rows.begin + i, columns.begin + j, g.height.in,
                                         g.width.in, g.channels),
                           v);
            for (int k = 0; k < N; k++)
                mean[k] += v[k];
        }
    for (int k = 0; k < N; k++)
        mean[k] *= scale;
}

/* tap: [batch, out height, out width, channels], the winners in their windows (max). */
template <typename T, int N>
static __global__ void pool(geometry g, int64_t places, const T *x, T *y, uint16_t *tap) {
    for (int64_t i = lks_thread(); i < places; i += lks_threads()) {
        const place p = place_of<N>(i, g.height.out, g.width.out, g.channels / N);
        float v[N];
        if (g.max) {
            lks_elements<uint16_t, N> winner;
            find_largest<T, N>(g, p, x, v, winner.value);
            *(lks_elements<uint16_t, N> *)(tap + i * N) = winner;
        } else {
            average<T, N>(g, p, x, v);
        }
        lks_store<T, N>(y + i * N, v);
    }
}

/* ---- backward ---- */

/* The tap with which a window that reaches over input place i covers it, or -1 where the dilation
 * steps over it. */
static __device__ int32_t tap_of(const window &w, int32_t step, int32_t i) {
    const int32_t from_begin = i - w.begin;
    return step > 1 && from_begin % step != 0 ? -1 : from_begin / step;
}

/* Adds what the window of output (h, w) passes on. */
template <typename T, int N>
static __device__ void add_window(const geometry &g, const place &p, int32_t h, int32_t w,
                                  const T *dy, const uint16_t *tap, float *sum) {
    const window rows = g.height.windows[h], columns = g.width.windows[w];
    const int32_t row_tap = tap_of(rows, g.height.step, p.h);
    const int32_t column_tap = tap_of(columns, g.width.step, p.w);
    if (row_tap < 0 || column_tap < 0) return;
    const int64_t at = offset_of(p, h, w, g.height.out, g.width.out, g.channels);
    float v[N];
    lks_load<T, N>(dy + at, v);
    if (!g.max) {
        const float scale = 1.0f / (float)(rows.extent * columns.extent);
        for (int k = 0; k < N; k++)
            sum[k] += scale * v[k];
        return;
    }
    const lks_elements<uint16_t, N> winner = *(const lks_elements<uint16_t, N> *)(tap + at);
    const uint16_t own = (uint16_t)(row_tap * g.kernel_width + column_tap);
    for (int k = 0; k < N; k++)
        sum[k] += winner.value[k] == own ? v[k] : 0.0f;
}

template <typename T, int N>
static __global__ void pool_backward(geometry g, int64_t places, const T *dy, const uint16_t *tap,
                                     T *dx) {
    for (int64_t i = lks_thread(); i < places; i += lks_threads()) {
        const place p = place_of<N>(i, g.height.in, g.width.in, g.channels / N);
        const cover rows = g.height.covers[p.h], columns = g.width.covers[p.w];
        float sum[N] = {};
        for (int32_t h = rows.first; h < rows.last; h++)
            for (int32_t w = columns.first; w < columns.last; w++)
                add_window<T, N>(g, p, h, w, dy, tap, sum);
        lks_store<T, N>(dx + i * N, sum);
    }
}

/* ---- the operation ---- */

static void destroy(lks_op *base) {
    pool_op *op = (pool_op *)base;
    lks_device_free(base->device, op->tables);
    free(op);
}

/* Narrows the axes' tables one behind the other: all windows, then all covers. */
static void fill_tables(const lks_pool_axis *from, window *windows, cover *covers) {
    for (int a = 0; a < 2; a++) {
        for (int64_t o = 0; o < from[a].out; o++) {
            const lks_pool_window *w = &from[a].window[o];
            *windows++ =
                window{(int32_t)w->begin, (int32_t)w->first, (int32_t)w->last, (int32_t)w->extent};
        }
        for (int64_t i = 0; i < from[a].in; i++)
            *covers++ = cover{(int32_t)from[a].cover[i].first, (int32_t)from[a].cover[i].last};
    }
}

static lks_status create_tables(pool_op *op, lks_device *device, const lks_pool_axis *from) {
    const size_t windows = (size_t)(from[0].out + from[1].out);
    const size_t covers = (size_t)(from[0].in + from[1].in);
    const size_t bytes = windows * sizeof(window) + covers * sizeof(cover);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    window *host = (window *)malloc(bytes);
    if (!host) return lks_fail(LKS_ENOMEM, "pool2d: cannot allocate %zu bytes of tables", bytes);
    fill_tables(from, host, (cover *)(host + windows));
    lks_status status = lks_device_alloc(device, bytes, &op->tables);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, op->tables, host, bytes, LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    free(host);
    if (status != LKS_OK) return status;
    const window *window_table = (const window *)op->tables;
    const cover *cover_table = (const cover *)(window_table + windows);
    axis *const to[] = {&op->shape.height, &op->shape.width};
    for (int a = 0; a < 2; a++) {
        *to[a] = axis{(int32_t)from[a].in, (int32_t)from[a].out, (int32_t)from[a].step,
                      window_table, cover_table};
        window_table += from[a].out;
        cover_table += from[a].in;
    }
    return LKS_OK;
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)type;
    const lks_pool2d_desc *d = (const lks_pool2d_desc *)desc;
    lks_pool_axis axes[2] = {};
    lks_status status = LKS_OK;
    pool_op *op = (pool_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "pool2d: cannot allocate the operation");
    op->op.device = device;
    op->shape.channels = (int32_t)d->channels;
    op->shape.kernel_width = (int32_t)d->kernel[1];
    op->shape.max = d->kind == LKS_POOL_MAX;
    op->in_count = d->channels * d->in_size[0] * d->in_size[1];
    op->out_count = d->channels * d->out_size[0] * d->out_size[1];
    if (op->in_count > INT32_MAX || op->out_count > INT32_MAX)
        status = lks_fail(LKS_EUNSUPPORTED, "pool2d: an image of more than 2^31 numbers");
    for (int a = 0; a < 2 && status == LKS_OK; a++)
        status = lks_pool_axis_create(d, a, &axes[a]);
    if (status == LKS_OK) status = create_tables(op, device, axes);
    for (int a = 0; a < 2; a++)
        lks_pool_axis_destroy(&axes[a]);
    if (status != LKS_OK) {
        destroy(&op->op);
        return status;
    }
    if (op->shape.max)
        op->op.needs.saved_bytes = (size_t)(max_batch * op->out_count) * sizeof(uint16_t);
    *out = &op->op;
    return LKS_OK;
}

template <typename T, int N>
static lks_status run(const pool_op *op, lks_stream *stream, int64_t batch, const T *x, T *y,
                      uint16_t *tap) {
    const int64_t places = batch * op->out_count / N;
    return lks_cuda_launch(stream, "pool2d", pool<T, N>,
                           lks_cuda_blocks(stream, places, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0,
                           op->shape, places, x, y, tap);
}

template <typename T, int N>
static lks_status run_backward(const pool_op *op, lks_stream *stream, int64_t batch, const T *dy,
                               const uint16_t *tap, T *dx) {
    const int64_t places = batch * op->in_count / N;
    return lks_cuda_launch(stream, "pool2d gradient", pool_backward<T, N>,
                           lks_cuda_blocks(stream, places, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0,
                           op->shape, places, dy, tap, dx);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const pool_op *op = (const pool_op *)base;
    return lks_cuda_typed(base->device, [&](auto zero) {
        typedef decltype(zero) T;
        const bool aligned = lks_cuda_aligned(args->x, args->y);
        return lks_cuda_in_packs<T>(op->shape.channels, aligned, [&](auto n) {
            return run<T, n>(op, stream, args->batch, (const T *)args->x, (T *)args->y,
                             op->shape.max ? (uint16_t *)args->saved : nullptr);
        });
    });
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const pool_op *op = (const pool_op *)base;
    if (!args->dx) return LKS_OK;
    return lks_cuda_typed(base->device, [&](auto zero) {
        typedef decltype(zero) T;
        const bool aligned = lks_cuda_aligned(args->dy, args->dx);
        return lks_cuda_in_packs<T>(op->shape.channels, aligned, [&](auto n) {
            return run_backward<T, n>(op, stream, args->batch, (const T *)args->dy,
                                      op->shape.max ? (const uint16_t *)args->saved : nullptr,
                                      (T *)args->dx);
        });
    });
}

extern "C" const lks_op_type lks_cuda_pool2d = {create, forward, backward, destroy};
