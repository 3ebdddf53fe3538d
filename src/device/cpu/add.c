/* The join of a residual block and its mirror, the fork; and sums of vectors. */
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

typedef struct add_op {
    lks_op op;
    lks_dtype type;
    int64_t count; /* elements of a sample */
    bool relu;
} add_op;

/* sum = a + b, whose element types are a_type and type; with relu, max(0, that). sum may be a or
 * b of its type. */
typedef struct add_job {
    lks_dtype a_type, type;
    bool relu;
    const void *a, *b;
    void *sum;
} add_job;

LKS_CPU_CLONES
static void add_range(int64_t n, const float *a, const float *b, float *sum) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] = a[i] + b[i];
}

LKS_CPU_CLONES
static void add_relu_range(int64_t n, const float *a, const float *b, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float sum = a[i] + b[i];
        y[i] = sum <= 0.0f ? 0.0f : sum; /* NaN passes through */
    }
}

static void add_part(const void *data, int64_t begin, int64_t end) {
    const add_job *job = data;
    float a_room[LKS_CPU_CAST_BLOCK], b_room[LKS_CPU_CAST_BLOCK], sum_room[LKS_CPU_CAST_BLOCK];
    for (int64_t at = begin; at < end; at += LKS_CPU_CAST_BLOCK) {
        const int64_t n = end - at < LKS_CPU_CAST_BLOCK ? end - at : LKS_CPU_CAST_BLOCK;
        const float *a = lks_cpu_floats(job->a_type, job->a, at, n, a_room);
        const float *b = lks_cpu_floats(job->type, job->b, at, n, b_room);
        float *sum = lks_cpu_results(job->type, job->sum, at, sum_room);
        if (job->relu)
            add_relu_range(n, a, b, sum);
        else
            add_range(n, a, b, sum);
        lks_cpu_finish(job->type, job->sum, at, n, sum);
    }
}

static void add(const lks_device *device, int64_t count, const add_job *job) {
    lks_cpu_parallel(device, count, 2 * LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, add_part, job);
}

/* first = second = 0 where y <= 0, else dy; each may be dy. */
typedef struct relu_job {
    const void *y, *dy;
    void *first, *second;
} relu_job;

LKS_CPU_INLINE void relu_backward(lks_dtype type, const relu_job *job, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        const float g = lks_cpu_load(type, job->dy, i);
        const float passed = lks_cpu_load(type, job->y, i) <= 0.0f ? 0.0f : g;
        lks_cpu_store(type, job->first, i, passed);
        lks_cpu_store(type, job->second, i, passed);
    }
}

LKS_CPU_CLONES
static void relu_backward_f32(const void *job, int64_t begin, int64_t end) {
    relu_backward(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void relu_backward_bf16(const void *job, int64_t begin, int64_t end) {
    relu_backward(LKS_BF16, job, begin, end);
}

/* Of both kinds: they differ in what they do, not in what they are. */
static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)max_batch;
    add_op *op = malloc(sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "add: cannot allocate the operation");
    const lks_add_desc *d = desc;
    op->relu = d->activation == LKS_ACTIVATION_RELU;
    op->type = type;
    op->count = d->count;
    op->op = (lks_op){.needs = {
                          .in_place = true,
                          .backward_in_place = true,
                          .backward_needs_y = op->relu,
                      }};
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

/* ---- add ---- */

static add_job make_job(const add_op *op, const void *a, const void *b, void *sum) {
    return (add_job){op->type, op->type, op->relu, a, b, sum};
}

static lks_status add_forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const add_op *op = (const add_op *)base;
    const add_job job = make_job(op, args->x, args->x2, args->y);
    (void)stream;
    add(base->device, args->batch * op->count, &job);
    return LKS_OK;
}

static lks_status add_backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const add_op *op = (const add_op *)base;
    const int64_t count = args->batch * op->count;
    void *const to[] = {args->dx, args->dx2};
    (void)stream;
    if (op->relu) {
        const relu_job job = {args->y, args->dy, to[0] ? to[0] : to[1], to[1] ? to[1] : to[0]};
        if (job.first)
            lks_cpu_parallel(base->device, count, 2 * LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN,
                             op->type == LKS_F32 ? relu_backward_f32 : relu_backward_bf16, &job);
        return LKS_OK;
    }
    for (int i = 0; i < 2; i++)
        if (to[i]) lks_cpu_copy(base->device, op->type, count, args->dy, to[i]);
    return LKS_OK;
}

const lks_op_type lks_cpu_add = {
    .create = create, .forward = add_forward, .backward = add_backward, .destroy = destroy};

/* ---- fork ---- */

static lks_status fork_backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    const add_op *op = (const add_op *)base;
    const add_job job = make_job(op, args->dy, args->dy2, args->dx);
    if (args->dx) add(base->device, args->batch * op->count, &job);
    return LKS_OK;
}

const lks_op_type lks_cpu_fork = {.create = create, .backward = fork_backward, .destroy = destroy};

/* ---- vectors ---- */

lks_status lks_cpu_vector_add(lks_device *device, lks_stream *stream, int64_t count,
                              lks_dtype x_type, const void *x, lks_dtype y_type, void *y) {
    (void)stream;
    const add_job job = {.a_type = x_type, .type = y_type, .a = x, .b = y, .sum = y};
    add(device, count, &job);
    return LKS_OK;
}
