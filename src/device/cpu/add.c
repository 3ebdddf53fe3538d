/* The join of a residual block and its mirror, the fork; and sums of vectors. */
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

typedef struct add_op {
    lks_op op;
    int64_t count; /* elements of a sample */
    bool relu;
} add_op;

typedef struct add_job {
    const float *a, *b;
    float *sum;
} add_job;

LKS_CPU_CLONES
static void add_range(int64_t n, const float *a, const float *b, float *sum) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] = a[i] + b[i];
}

static void add_part(const void *data, int64_t begin, int64_t end) {
    const add_job *job = data;
    add_range(end - begin, job->a + begin, job->b + begin, job->sum + begin);
}

typedef struct relu_job {
    const float *a, *b; /* summands; or y and dy */
    float *first, *second;
} relu_job;

LKS_CPU_CLONES
static void relu_part(const void *data, int64_t begin, int64_t end) {
    const relu_job *job = data;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        const float sum = job->a[i] + job->b[i];
        job->first[i] = sum <= 0.0f ? 0.0f : sum; /* NaN passes through */
    }
}

LKS_CPU_CLONES
static void relu_backward_part(const void *data, int64_t begin, int64_t end) {
    const relu_job *job = data;
#pragma omp simd
    for (int64_t i = begin; i < end; i++)
        job->first[i] = job->second[i] = job->a[i] <= 0.0f ? 0.0f : job->b[i];
}

static void add(lks_device *device, int64_t count, const float *a, const float *b, float *sum) {
    const add_job job = {a, b, sum};
    lks_cpu_parallel(device, count, LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, add_part, &job);
}

/* Of both kinds: they differ in what they do, not in what they are. */
static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    add_op *op = malloc(sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "add: cannot allocate the operation");
    const lks_add_desc *d = desc;
    op->relu = d->activation == LKS_ACTIVATION_RELU;
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

static lks_status add_forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const add_op *op = (const add_op *)base;
    const int64_t count = args->batch * op->count;
    (void)stream;
    const relu_job job = {args->x, args->x2, args->y, NULL};
    if (op->relu)
        lks_cpu_parallel(base->device, count, LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, relu_part, &job);
    else
        add(base->device, count, args->x, args->x2, args->y);
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
            lks_cpu_parallel(base->device, count, LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN,
                             relu_backward_part, &job);
        return LKS_OK;
    }
    for (int i = 0; i < 2; i++)
        if (to[i]) lks_cpu_copy(base->device, LKS_F32, count, args->dy, to[i]);
    return LKS_OK;
}

const lks_op_type lks_cpu_add = {
    .create = create, .forward = add_forward, .backward = add_backward, .destroy = destroy};

/* ---- fork ---- */

static lks_status fork_backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    if (args->dx)
        add(op->device, args->batch * ((const add_op *)op)->count, args->dy, args->dy2, args->dx);
    return LKS_OK;
}

const lks_op_type lks_cpu_fork = {.create = create, .backward = fork_backward, .destroy = destroy};

/* ---- vectors ---- */

typedef struct vector_job {
    lks_dtype x_type, y_type;
    const void *x;
    void *y;
} vector_job;

static void vector_part(const void *data, int64_t begin, int64_t end) {
    const vector_job *job = data;
    float x_room[LKS_CPU_CAST_BLOCK], y_room[LKS_CPU_CAST_BLOCK];
    for (int64_t at = begin; at < end; at += LKS_CPU_CAST_BLOCK) {
        const int64_t n = end - at < LKS_CPU_CAST_BLOCK ? end - at : LKS_CPU_CAST_BLOCK;
        const float *x = lks_cpu_floats(job->x_type, job->x, at, n, x_room);
        const float *y = lks_cpu_floats(job->y_type, job->y, at, n, y_room);
        float *sum = job->y_type == LKS_F32 ? (float *)job->y + at : y_room;
        add_range(n, y, x, sum);
        if (job->y_type == LKS_BF16) lks_cpu_narrow(n, sum, (uint16_t *)job->y + at);
    }
}

lks_status lks_cpu_vector_add(lks_device *device, lks_stream *stream, int64_t count,
                              lks_dtype x_type, const void *x, lks_dtype y_type, void *y) {
    (void)stream;
    const vector_job job = {x_type, y_type, x, y};
    lks_cpu_parallel(device, count, 2 * LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, vector_part, &job);
    return LKS_OK;
}
