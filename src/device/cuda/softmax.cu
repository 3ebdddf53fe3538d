/* Softmax along the middle of [rows, size, inner]. Where inner is 1 a row is contiguous; otherwise
 * each thread takes a column, or as many as an access has, its neighbours the columns beside. */
#include <stdlib.h>

#include "device/cuda/rows.cuh"

namespace {

struct softmax_op {
    lks_op op;
    int64_t outer, size, inner;
};

} // namespace

/* ---- contiguous rows ---- */

template <typename T, typename Team>
static __global__ void softmax_rows(Team team, int64_t rows, int64_t size, const T *x, T *y) {
    for (int64_t r = team.first(); r < rows; r += team.stride()) {
        const T *row = x + r * size;
        float max = -INFINITY, sum = 0.0f;
        team.each(row, size, [&](int64_t, const float *v) {
            for (int j = 0; j < Team::WIDTH; j++)
                max = v[j] > max ? v[j] : max;
        });
        max = team.max(max);
        team.each(row, size, [&](int64_t, const float *v) {
            for (int j = 0; j < Team::WIDTH; j++)
                sum += expf(v[j] - max);
        });
        const float scale = 1.0f / team.sum(sum);
        team.map(row, y + r * size, size, [&](int64_t, float *v) {
            for (int j = 0; j < Team::WIDTH; j++)
                v[j] = expf(v[j] - max) * scale;
        });
    }
}

/* dx = y (dy - sum(y dy)) */
template <typename T, typename Team>
static __global__ void softmax_rows_backward(Team team, int64_t rows, int64_t size, const T *y,
                                             const T *dy, T *dx) {
    for (int64_t r = team.first(); r < rows; r += team.stride()) {
        const T *out = y + r * size, *gradient = dy + r * size;
        float dot = 0.0f;
        team.each(out, size, [&](int64_t i, const float *v) {
            float g[Team::WIDTH];
            lks_load<T, Team::WIDTH>(gradient + i, g);
            for (int j = 0; j < Team::WIDTH; j++)
                dot += v[j] * g[j];
        });
        dot = team.sum(dot);
        team.map(out, dx + r * size, size, [&](int64_t i, float *v) {
            float g[Team::WIDTH];
            lks_load<T, Team::WIDTH>(gradient + i, g);
            for (int j = 0; j < Team::WIDTH; j++)
                v[j] *= g[j] - dot;
        });
    }
}

/* ---- columns: `inner` apart; a thread takes N of them side by side, which divides inner ---- */

/* The first element of a thread's columns. */
static __device__ int64_t column_base(int64_t column, int64_t size, int64_t inner) {
    return column / inner * size * inner + column % inner;
}

template <typename T, int N>
static __global__ void softmax_columns(int64_t columns, int64_t size, int64_t inner, const T *x,
                                       T *y) {
    for (int64_t c = lks_thread() * N; c < columns; c += lks_threads() * N) {
        const int64_t base = column_base(c, size, inner);
        float v[N], max[N], sum[N] = {};
        for (int j = 0; j < N; j++)
            max[j] = -INFINITY;
        for (int64_t i = 0; i < size; i++) {
            lks_load<T, N>(x + base + i * inner, v);
            for (int j = 0; j < N; j++)
                max[j] = v[j] > max[j] ? v[j] : max[j];
        }
        for (int64_t i = 0; i < size; i++) {
            lks_load<T, N>(x + base + i * inner, v);
            for (int j = 0; j < N; j++)
                sum[j] += expf(v[j] - max[j]);
        }
        for (int j = 0; j < N; j++)
            sum[j] = 1.0f / sum[j];
        for (int64_t i = 0; i < size; i++) {
            lks_load<T, N>(x + base + i * inner, v);
            for (int j = 0; j < N; j++)
                v[j] = expf(v[j] - max[j]) * sum[j];
            lks_store<T, N>(y + base + i * inner, v);
        }
    }
}

template <typename T, int N>
static __global__ void softmax_columns_backward(int64_t columns, int64_t size, int64_t inner,
                                                const T *y, const T *dy, T *dx) {
    for (int64_t c = lks_thread() * N; c < columns; c += lks_threads() * N) {
        const int64_t base = column_base(c, size, inner);
        float v[N], g[N], dot[N] = {};
        for (int64_t i = 0; i < size; i++) {
            lks_load<T, N>(y + base + i * inner, v);
            lks_load<T, N>(dy + base + i * inner, g);
            for (int j = 0; j < N; j++)
                dot[j] += v[j] * g[j];
        }
        for (int64_t i = 0; i < size; i++) {
            lks_load<T, N>(y + base + i * inner, v);
            lks_load<T, N>(dy + base + i * inner, g);
            for (int j = 0; j < N; j++)
                v[j] *= g[j] - dot[j];
            lks_store<T, N>(dx + base + i * inner, v);
        }
    }
}

/* ---- the operation ---- */

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    const lks_softmax_desc *d = (const lks_softmax_desc *)desc;
    softmax_op *op = (softmax_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "softmax: cannot allocate the operation");
    op->op.needs.backward_needs_y = true;
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    op->outer = d->outer;
    op->size = d->size;
    op->inner = d->inner;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

template <typename T>
static lks_status run_forward(const softmax_op *op, lks_stream *stream, int64_t rows, const T *x,
                              T *y) {
    const int64_t size = op->size, inner = op->inner;
    if (inner > 1)
        return lks_cuda_in_packs<T>(inner, lks_cuda_aligned(x, y), [&](auto n) {
            return lks_cuda_launch(stream, "softmax", softmax_columns<T, n>,
                                   lks_cuda_blocks(stream, rows * inner / n, LKS_CUDA_BLOCK),
                                   LKS_CUDA_BLOCK, 0, rows * inner, size, inner, x, y);
        });
    return lks_with_row_team<T>(size, lks_cuda_aligned(x, y), [&](auto team) {
        return lks_cuda_launch(stream, "softmax", softmax_rows<T, decltype(team)>,
                               lks_cuda_blocks(stream, rows, lks_rows_of_block(size)),
                               LKS_CUDA_BLOCK, 0, team, rows, size, x, y);
    });
}

template <typename T>
static lks_status run_backward(const softmax_op *op, lks_stream *stream, int64_t rows, const T *y,
                               const T *dy, T *dx) {
    const int64_t size = op->size, inner = op->inner;
    if (inner > 1)
        return lks_cuda_in_packs<T>(inner, lks_cuda_aligned(y, dy, dx), [&](auto n) {
            return lks_cuda_launch(stream, "softmax gradient", softmax_columns_backward<T, n>,
                                   lks_cuda_blocks(stream, rows * inner / n, LKS_CUDA_BLOCK),
                                   LKS_CUDA_BLOCK, 0, rows * inner, size, inner, y, dy, dx);
        });
    return lks_with_row_team<T>(size, lks_cuda_aligned(y, dy, dx), [&](auto team) {
        return lks_cuda_launch(stream, "softmax gradient", softmax_rows_backward<T, decltype(team)>,
                               lks_cuda_blocks(stream, rows, lks_rows_of_block(size)),
                               LKS_CUDA_BLOCK, 0, team, rows, size, y, dy, dx);
    });
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const softmax_op *op = (const softmax_op *)base;
    return lks_cuda_typed(base->device, [&](auto zero) {
        typedef decltype(zero) T;
        return run_forward(op, stream, args->batch * op->outer, (const T *)args->x, (T *)args->y);
    });
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const softmax_op *op = (const softmax_op *)base;
    if (!args->dx) return LKS_OK;
    return lks_cuda_typed(base->device, [&](auto zero) {
        typedef decltype(zero) T;
        return run_backward(op, stream, args->batch * op->outer, (const T *)args->y,
                            (const T *)args->dy, (T *)args->dx);
    });
}

extern "C" const lks_op_type lks_cuda_softmax = {create, forward, backward, destroy};
