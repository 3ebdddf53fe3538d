/* Layer norm of rows, or of the sums of two. */
#include <stdlib.h>

#include "device/cuda/column_sums.cuh"
#include "device/cuda/rows.cuh"

namespace {

struct norm_op {
    lks_op op;
    lks_layer_norm_desc desc;
};

/* Pointers are NULL where the operation has no such thing. */
template <typename T> struct norm_job {
    int64_t rows, width;
    double eps;
    const T *x, *x2, *weight, *bias, *dy; /* x: in backward, what was normalised */
    T *y, *dx, *dx2;
    T *sum;               /* [rows, width], saved: x + x2; NULL: there is no x2 */
    float *mean, *invstd; /* [rows], saved */
};

} // namespace

/* N values of a parameter, or what stands for it. */
template <int N, typename T>
static __device__ void load_or(const T *from, int64_t i, float standard, float *out) {
    if (from)
        lks_load<T, N>(from + i, out);
    else
        for (int j = 0; j < N; j++)
            out[j] = standard;
}

/* sum = a + b; returns sum, of which each thread may read again what it has written. */
template <int N, typename T, typename Team>
static __device__ const T *add_rows(Team team, int64_t width, const T *a, const T *b, T *sum) {
    team.map(a, sum, width, [&](int64_t i, float *v) {
        float more[N];
        lks_load<T, N>(b + i, more);
        for (int j = 0; j < N; j++)
            v[j] += more[j];
    });
    return sum;
}

template <typename T, typename Team> static __global__ void normalise(Team team, norm_job<T> job) {
    enum { N = Team::WIDTH };
    const int64_t width = job.width;
    for (int64_t r = team.first(); r < job.rows; r += team.stride()) {
        const T *x = job.x + r * width;
        float sum = 0.0f, squares = 0.0f;
        if (job.sum) x = add_rows<N>(team, width, x, job.x2 + r * width, job.sum + r * width);
        team.each(x, width, [&](int64_t, const float *v) {
            for (int j = 0; j < N; j++)
                sum += v[j];
        });
        const float mean = team.sum(sum) / (float)width;
        team.each(x, width, [&](int64_t, const float *v) {
            for (int j = 0; j < N; j++)
                squares += (v[j] - mean) * (v[j] - mean);
        });
        const double variance = (double)team.sum(squares) / (double)width;
        const float invstd = (float)(1 / sqrt(variance + job.eps));
        team.map(x, job.y + r * width, width, [&](int64_t i, float *v) {
            float weight[N], bias[N];
            load_or<N>(job.weight, i, 1.0f, weight);
            load_or<N>(job.bias, i, 0.0f, bias);
            for (int j = 0; j < N; j++)
                v[j] = (v[j] - mean) * invstd * weight[j] + bias[j];
        });
        if (team.thread() != 0) continue;
        job.mean[r] = mean;
        job.invstd[r] = invstd;
    }
}

/* dx = invstd (g - mean(g) - xhat mean(g xhat)), with g = dy weight and xhat = (x - mean) invstd.
 */
template <typename T, typename Team>
static __global__ void normalise_backward(Team team, norm_job<T> job) {
    enum { N = Team::WIDTH };
    const int64_t width = job.width;
    for (int64_t r = team.first(); r < job.rows; r += team.stride()) {
        const T *x = job.x + r * width, *dy = job.dy + r * width;
        const float mean = job.mean[r], invstd = job.invstd[r];
        float sum = 0.0f, product = 0.0f;
        team.each(dy, width, [&](int64_t i, const float *v) {
            float weight[N], input[N];
            load_or<N>(job.weight, i, 1.0f, weight);
            lks_load<T, N>(x + i, input);
            for (int j = 0; j < N; j++) {
                const float g = v[j] * weight[j];
                sum += g;
                product += g * (input[j] - mean);
            }
        });
        const float constant = team.sum(sum) / (float)width;
        const float slope = team.sum(product) * invstd * invstd / (float)width;
        team.map(dy, job.dx + r * width, width, [&](int64_t i, float *v) {
            float weight[N], input[N];
            load_or<N>(job.weight, i, 1.0f, weight);
            lks_load<T, N>(x + i, input);
            for (int j = 0; j < N; j++)
                v[j] = (v[j] * weight[j] - constant - (input[j] - mean) * slope) * invstd;
            if (job.dx2) lks_store<T, N>(job.dx2 + r * width + i, v);
        });
    }
}

namespace {

/* The terms of the parameters' gradients: dy xhat, and dy. */
template <typename T, int N> struct parameter_terms {
    const T *x, *dy;
    const float *mean, *invstd;
    __device__ void set(int64_t) {
    }
    __device__ void add(int64_t row, int64_t at, double *a, double *b) const {
        float v[N], g[N];
        lks_load<T, N>(x + at, v);
        lks_load<T, N>(dy + at, g);
        for (int i = 0; i < N; i++) {
            a[i] += (double)(g[i] * ((v[i] - mean[row]) * invstd[row]));
            b[i] += (double)g[i];
        }
    }
};

struct store_gradients {
    float *dweight, *dbias;
    bool accumulate;
    __device__ void operator()(int64_t column, double a, double b) const {
        lks_column_store(a, accumulate, dweight, column);
        lks_column_store(b, accumulate, dbias, column);
    }
};

} // namespace

/* ---- the operation ---- */

/* Means and so on of `rows` rows, with which saved memory begins; aligned for what follows. */
static size_t statistics_bytes(int64_t rows) {
    return lks_round_up((size_t)(2 * rows) * sizeof(float), 16);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    norm_op *op = (norm_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "layer_norm: cannot allocate the operation");
    op->desc = *(const lks_layer_norm_desc *)desc;
    const int64_t rows = max_batch * op->desc.rows_per_sample;
    op->op.needs.saved_bytes = statistics_bytes(rows);
    if (op->desc.adds_x2)
        op->op.needs.saved_bytes += (size_t)(rows * op->desc.width) * lks_dtype_bytes(type);
    op->op.needs.scratch_bytes = lks_column_sums_bytes(rows, op->desc.width);
    op->op.needs.backward_needs_x = !op->desc.adds_x2;
    op->op.needs.backward_in_place = true;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

template <typename T> static norm_job<T> make_job(const norm_op *op, const lks_op_args *args) {
    const lks_layer_norm_desc *d = &op->desc;
    norm_job<T> job = {};
    job.rows = args->batch * d->rows_per_sample;
    job.width = d->width;
    job.eps = d->eps;
    job.x = (const T *)args->x;
    if (d->affine) job.weight = (const T *)args->params[0];
    if (d->affine && d->bias) job.bias = (const T *)args->params[1];
    job.dy = (const T *)args->dy;
    job.y = (T *)args->y;
    job.dx = (T *)args->dx;
    job.mean = (float *)args->saved;
    job.invstd = job.mean + job.rows;
    if (!d->adds_x2) return job;
    job.x2 = (const T *)args->x2;
    job.sum = (T *)((char *)args->saved + statistics_bytes(job.rows));
    if (!job.dx) job.dx = (T *)args->dx2;
    if (job.dx != args->dx2) job.dx2 = (T *)args->dx2;
    return job;
}

template <typename T>
static lks_status run_forward(const norm_op *op, lks_stream *stream, const lks_op_args *args) {
    const norm_job<T> job = make_job<T>(op, args);
    const bool aligned =
        lks_cuda_aligned(job.x, job.x2, job.y) && lks_cuda_aligned(job.weight, job.bias);
    return lks_with_row_team<T>(job.width, aligned, [&](auto team) {
        return lks_cuda_launch(stream, "layer norm", normalise<T, decltype(team)>,
                               lks_cuda_blocks(stream, job.rows, lks_rows_of_block(job.width)),
                               LKS_CUDA_BLOCK, 0, team, job);
    });
}

template <typename T>
static lks_status run_input_gradient(const norm_job<T> &job, lks_stream *stream) {
    const bool aligned =
        lks_cuda_aligned(job.x, job.dy, job.weight) && lks_cuda_aligned(job.dx, job.dx2);
    return lks_with_row_team<T>(job.width, aligned, [&](auto team) {
        return lks_cuda_launch(stream, "layer norm gradient", normalise_backward<T, decltype(team)>,
                               lks_cuda_blocks(stream, job.rows, lks_rows_of_block(job.width)),
                               LKS_CUDA_BLOCK, 0, team, job);
    });
}

template <typename T>
static lks_status run_parameter_gradients(const norm_op *op, lks_stream *stream,
                                          const norm_job<T> &job, const lks_op_args *args) {
    double *partial = (double *)args->scratch;
    const char *what = "layer norm gradient";
    const bool aligned = lks_cuda_aligned(job.x, job.dy);
    lks_status status = lks_cuda_in_packs<T>(job.width, aligned, [&](auto n) {
        const parameter_terms<T, n> terms = {job.x, job.dy, job.mean, job.invstd};
        return lks_column_sums<n>(stream, what, job.rows, job.width, terms, partial);
    });
    if (status != LKS_OK) return status;
    const store_gradients finish = {
        lks_op_dparam(args, 0), op->desc.bias ? lks_op_dparam(args, 1) : nullptr, args->accumulate};
    return lks_column_finish(stream, what, lks_column_chunks(job.rows, job.width), job.width,
                             partial, finish);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    return lks_cuda_typed(base->device, [&](auto zero) {
        return run_forward<decltype(zero)>((const norm_op *)base, stream, args);
    });
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const norm_op *op = (const norm_op *)base;
    return lks_cuda_typed(base->device, [&](auto zero) {
        auto job = make_job<decltype(zero)>(op, args);
        lks_status status = LKS_OK;
        if (job.sum) job.x = job.sum;
        /* before dx, which may replace dy */
        if (op->desc.affine && args->dparams)
            status = run_parameter_gradients(op, stream, job, args);
        return status == LKS_OK && job.dx ? run_input_gradient(job, stream) : status;
    });
}

extern "C" const lks_op_type lks_cuda_layer_norm = {create, forward, backward, destroy};
