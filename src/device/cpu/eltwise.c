/* Activations, element by element. */
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/cpu/vecmath.h"

/* y[n] = f(x[n]); y may be x. */
typedef void (*forward_range)(int64_t n, const float *x, float *y, float alpha);
/* dx[n] = f'(v[n]) dy[n], where v is x or y as the activation's entry says; dx may be dy. */
typedef void (*backward_range)(int64_t n, const float *v, const float *dy, float *dx, float alpha);

typedef struct activation {
    forward_range forward;
    backward_range backward;
    bool from_y; /* backward reads y: then forward may overwrite x */
    int grain;   /* elements worth a second thread */
} activation;

typedef struct eltwise_op {
    lks_op op;
    lks_dtype type;
    int64_t count; /* elements of a sample */
    float alpha;
    activation activation;
} eltwise_op;

typedef struct eltwise_job {
    const eltwise_op *op;
    const void *in, *dy;
    void *out;
} eltwise_job;

/* ---- ranges. Comparisons are written so that NaN passes through. ---- */

LKS_CPU_CLONES
static void relu(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

LKS_CPU_CLONES
static void relu_backward(int64_t n, const float *y, const float *dy, float *dx, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = dy[i]; /* read unconditionally, which vectorises everywhere */
        dx[i] = y[i] <= 0.0f ? 0.0f : g;
    }
}

LKS_CPU_CLONES
static void leaky_relu(int64_t n, const float *x, float *y, float alpha) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0.0f ? x[i] : x[i] * alpha;
}

/* Where alpha >= 0, y > 0 just where x > 0, and y stands for x. */
LKS_CPU_CLONES
static void leaky_relu_backward(int64_t n, const float *v, const float *dy, float *dx,
                                float alpha) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = v[i] > 0.0f ? dy[i] : dy[i] * alpha;
}

LKS_CPU_CLONES
static void gelu(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * lks_normal_cdff(x[i], lks_expf(-0.5f * x[i] * x[i]));
}

LKS_CPU_CLONES
static void gelu_backward(int64_t n, const float *x, const float *dy, float *dx, float alpha) {
    (void)alpha;
    const float density_scale = 0.3989422804f; /* 1 / sqrt(2 pi) */
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float e = lks_expf(-0.5f * x[i] * x[i]);
        dx[i] = dy[i] * (lks_normal_cdff(x[i], e) + x[i] * density_scale * e);
    }
}

static const float gelu_scale = 0.7978845608f; /* sqrt(2 / pi) */
static const float gelu_cubic = 0.044715f;

LKS_CPU_CLONES
static void gelu_tanh(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i];
        y[i] = 0.5f * v * (1.0f + lks_tanhf(gelu_scale * (v + gelu_cubic * v * v * v)));
    }
}

LKS_CPU_CLONES
static void gelu_tanh_backward(int64_t n, const float *x, const float *dy, float *dx, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i];
        const float t = lks_tanhf(gelu_scale * (v + gelu_cubic * v * v * v));
        const float slope = gelu_scale * (1.0f + 3.0f * gelu_cubic * v * v);
        dx[i] = dy[i] * (0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * slope);
    }
}

LKS_CPU_CLONES
static void silu(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * lks_sigmoidf(x[i]);
}

LKS_CPU_CLONES
static void silu_backward(int64_t n, const float *x, const float *dy, float *dx, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float s = lks_sigmoidf(x[i]);
        dx[i] = dy[i] * s * (1.0f + x[i] * (1.0f - s));
    }
}

LKS_CPU_CLONES
static void tanh_forward(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = lks_tanhf(x[i]);
}

LKS_CPU_CLONES
static void tanh_backward(int64_t n, const float *y, const float *dy, float *dx, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1.0f - y[i] * y[i]);
}

LKS_CPU_CLONES
static void sigmoid(int64_t n, const float *x, float *y, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = lks_sigmoidf(x[i]);
}

LKS_CPU_CLONES
static void sigmoid_backward(int64_t n, const float *y, const float *dy, float *dx, float alpha) {
    (void)alpha;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1.0f - y[i]) * y[i];
}

/* ---- the operation ---- */

/* NONE has no functions: a copy. */
static const activation activations[] = {
    [LKS_ACTIVATION_NONE] = {.from_y = true},
    [LKS_ACTIVATION_RELU] = {relu, relu_backward, .from_y = true, .grain = LKS_CPU_GRAIN},
    [LKS_ACTIVATION_LEAKY_RELU] = {leaky_relu, leaky_relu_backward, .from_y = true,
                                   .grain = LKS_CPU_GRAIN},
    [LKS_ACTIVATION_GELU] = {gelu, gelu_backward, .grain = LKS_CPU_EXP_GRAIN},
    [LKS_ACTIVATION_GELU_TANH] = {gelu_tanh, gelu_tanh_backward, .grain = LKS_CPU_EXP_GRAIN},
    [LKS_ACTIVATION_SILU] = {silu, silu_backward, .grain = LKS_CPU_EXP_GRAIN},
    [LKS_ACTIVATION_TANH] = {tanh_forward, tanh_backward, .from_y = true,
                             .grain = LKS_CPU_EXP_GRAIN},
    [LKS_ACTIVATION_SIGMOID] = {sigmoid, sigmoid_backward, .from_y = true,
                                .grain = LKS_CPU_EXP_GRAIN},
};

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)max_batch;
    const lks_eltwise_desc *d = desc;
    eltwise_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "eltwise: cannot allocate the operation");
    op->type = type;
    op->count = d->count;
    op->alpha = (float)d->alpha;
    op->activation = activations[d->activation];
    if (d->activation == LKS_ACTIVATION_LEAKY_RELU && !(op->alpha >= 0.0f))
        op->activation.from_y = false;

    const bool reads = op->activation.backward != NULL;
    op->op.needs = (lks_op_needs){.backward_needs_x = reads && !op->activation.from_y,
                                  .backward_needs_y = reads && op->activation.from_y,
                                  .in_place = op->activation.from_y,
                                  .backward_in_place = true};
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static void forward_part(const void *data, int64_t begin, int64_t end) {
    const eltwise_job *job = data;
    const eltwise_op *op = job->op;
    float in[LKS_CPU_CAST_BLOCK], out[LKS_CPU_CAST_BLOCK];
    for (int64_t at = begin; at < end; at += LKS_CPU_CAST_BLOCK) {
        const int64_t n = end - at < LKS_CPU_CAST_BLOCK ? end - at : LKS_CPU_CAST_BLOCK;
        op->activation.forward(n, lks_cpu_floats(op->type, job->in, at, n, in),
                               lks_cpu_results(op->type, job->out, at, out), op->alpha);
        lks_cpu_finish(op->type, job->out, at, n, out);
    }
}

static void backward_part(const void *data, int64_t begin, int64_t end) {
    const eltwise_job *job = data;
    const eltwise_op *op = job->op;
    float in[LKS_CPU_CAST_BLOCK], dy[LKS_CPU_CAST_BLOCK], out[LKS_CPU_CAST_BLOCK];
    for (int64_t at = begin; at < end; at += LKS_CPU_CAST_BLOCK) {
        const int64_t n = end - at < LKS_CPU_CAST_BLOCK ? end - at : LKS_CPU_CAST_BLOCK;
        op->activation.backward(n, lks_cpu_floats(op->type, job->in, at, n, in),
                                lks_cpu_floats(op->type, job->dy, at, n, dy),
                                lks_cpu_results(op->type, job->out, at, out), op->alpha);
        lks_cpu_finish(op->type, job->out, at, n, out);
    }
}

void lks_cpu_relu(const lks_device *device, lks_dtype type, int64_t count, void *y) {
    const eltwise_op op = {.type = type, .activation = activations[LKS_ACTIVATION_RELU]};
    const eltwise_job job = {.op = &op, .in = y, .out = y};
    lks_cpu_parallel(device, count, LKS_CPU_LINE_FLOATS, op.activation.grain, forward_part, &job);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const eltwise_op *op = (const eltwise_op *)base;
    const int64_t count = args->batch * op->count;
    const eltwise_job job = {.op = op, .in = args->x, .out = args->y};
    if (op->activation.forward)
        lks_cpu_parallel(base->device, count, LKS_CPU_LINE_FLOATS, op->activation.grain,
                         forward_part, &job);
    else
        lks_cpu_copy(base->device, op->type, count, args->x, args->y);
    return LKS_OK;
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    if (!args->dx) return LKS_OK;
    const eltwise_op *op = (const eltwise_op *)base;
    const int64_t count = args->batch * op->count;
    const eltwise_job job = {
        .op = op, .in = op->activation.from_y ? args->y : args->x, .dy = args->dy, .out = args->dx};
    if (op->activation.backward)
        lks_cpu_parallel(base->device, count, LKS_CPU_LINE_FLOATS, op->activation.grain,
                         backward_part, &job);
    else
        lks_cpu_copy(base->device, op->type, count, args->dy, args->dx);
    return LKS_OK;
}

const lks_op_type lks_cpu_eltwise = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
