/* The join of a residual block and its mirror, the fork; and sums of vectors. */
#include <stdlib.h>

#include "device/cuda/map.cuh"

namespace {

struct add_op {
    lks_op op;
    int64_t count; /* elements of a sample */
};

} // namespace

static lks_status add(const lks_op *op, lks_stream *stream, int64_t batch, const void *a,
                      const void *b, void *sum) {
    const int64_t count = batch * ((const add_op *)op)->count;
    return lks_cuda_typed(op->device, [&](auto zero) {
        return lks_map2<decltype(zero)>(stream, "add", count, a, b, sum, lks_plus());
    });
}

/* Of both kinds: they differ in what they do, not in what they are. */
static lks_status create(lks_device *device, const void *desc, int64_t max_batch, lks_op **out) {
    (void)device;
    (void)max_batch;
    add_op *op = (add_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "add: cannot allocate the operation");
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    op->count = ((const lks_add_desc *)desc)->count;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

/* ---- add ---- */

static lks_status add_forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    return add(op, stream, args->batch, args->x, args->x2, args->y);
}

static lks_status add_backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    const int64_t count = args->batch * ((const add_op *)op)->count;
    void *const to[] = {args->dx, args->dx2};
    lks_status status = LKS_OK;
    for (int i = 0; i < 2 && status == LKS_OK; i++)
        if (to[i]) status = lks_cuda_copy(stream, count, args->dy, to[i]);
    return status;
}

extern "C" const lks_op_type lks_cuda_add = {create, add_forward, add_backward, destroy};

/* ---- fork ---- */

static lks_status fork_backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    if (!args->dx) return LKS_OK;
    return add(op, stream, args->batch, args->dy, args->dy2, args->dx);
}

extern "C" const lks_op_type lks_cuda_fork = {create, nullptr, fork_backward, destroy};

/* ---- vectors ---- */

enum { PACK = 4 }; /* 16 bytes of float32, 8 of bfloat16 */

template <typename X, typename Y> static __global__ void add_vector(lks_run run, const X *x, Y *y) {
    lks_each<PACK>(run, [&](auto width, int64_t at) {
        float sum[width], more[width];
        lks_load<Y, width>(y + at, sum);
        lks_load<X, width>(x + at, more);
        for (int j = 0; j < width; j++)
            sum[j] += more[j];
        lks_store<Y, width>(y + at, sum);
    });
}

template <typename X, typename Y>
static lks_status add_to(lks_stream *stream, int64_t count, const X *x, Y *y) {
    const lks_run run = lks_cuda_run<PACK>(count, x, y);
    return lks_cuda_launch(stream, "add", add_vector<X, Y>, lks_cuda_run_blocks(stream, run),
                           LKS_CUDA_BLOCK, 0, run, x, y);
}

lks_status lks_cuda_vector_add(lks_device *device, lks_stream *stream, int64_t count,
                               lks_dtype x_type, const void *x, lks_dtype y_type, void *y) {
    (void)device;
    return lks_cuda_of_type(x_type, [&](auto x_zero) {
        return lks_cuda_of_type(y_type, [&](auto y_zero) {
            return add_to(stream, count, (const decltype(x_zero) *)x, (decltype(y_zero) *)y);
        });
    });
}
