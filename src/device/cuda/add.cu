/* The join of a residual block and its mirror, the fork; and sums of vectors. */
#include <stdlib.h>

#include "device/cuda/activation.cuh"
#include "device/cuda/map.cuh"

namespace {

struct add_op {
    lks_op op;
    int64_t count; /* elements of a sample */
    bool relu;
};

struct relu_of_sum {
    lks_relu relu;
    __device__ float operator()(float a, float b) const {
        return relu.forward(a + b);
    }
};

} // namespace

static lks_status add(const add_op *op, lks_stream *stream, int64_t batch, const void *a,
                      const void *b, void *sum) {
    const int64_t count = batch * op->count;
    return lks_cuda_typed(op->op.device, [&](auto zero) {
        typedef decltype(zero) T;
        return op->relu ? lks_map2<T>(stream, "add", count, a, b, sum, relu_of_sum())
                        : lks_map2<T>(stream, "add", count, a, b, sum, lks_plus());
    });
}

/* Of both kinds: they differ in what they do, not in what they are. */
static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    add_op *op = (add_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "add: cannot allocate the operation");
    const lks_add_desc *d = (const lks_add_desc *)desc;
    op->count = d->count;
    op->relu = d->activation == LKS_ACTIVATION_RELU;
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    op->op.needs.backward_needs_y = op->relu;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

/* ---- add ---- */

static lks_status add_forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    return add((const add_op *)op, stream, args->batch, args->x, args->x2, args->y);
}

/* The gradient of the sum to dx and dx2, NULL where it is not wanted; either may be dy. */
template <typename T>
static __global__ void pass_relu(lks_run run, const T *y, const T *dy, T *dx, T *dx2) {
    const lks_relu relu;
    lks_each<lks_pack<T>::COUNT>(run, [&](auto width, int64_t at) {
        float out[width], gradient[width];
        lks_load<T, width>(y + at, out);
        lks_load<T, width>(dy + at, gradient);
        for (int j = 0; j < width; j++)
            gradient[j] = relu.backward(out[j], gradient[j]);
        if (dx) lks_store<T, width>(dx + at, gradient);
        if (dx2) lks_store<T, width>(dx2 + at, gradient);
    });
}

template <typename T>
static lks_status pass_to_both(lks_stream *stream, int64_t count, const T *y, const T *dy, T *dx,
                               T *dx2) {
    const lks_run run = lks_cuda_run<lks_pack<T>::COUNT>(count, y, dy, dx, dx2);
    return lks_cuda_launch(stream, "add", pass_relu<T>, lks_cuda_run_blocks(stream, run),
                           LKS_CUDA_BLOCK, 0, run, y, dy, dx, dx2 == dx ? nullptr : dx2);
}

static lks_status add_backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const add_op *op = (const add_op *)base;
    const int64_t count = args->batch * op->count;
    void *const to[] = {args->dx, args->dx2};
    lks_status status = LKS_OK;
    if (op->relu)
        return lks_cuda_typed(base->device, [&](auto zero) {
            typedef decltype(zero) T;
            return pass_to_both(stream, count, (const T *)args->y, (const T *)args->dy,
                                (T *)args->dx, (T *)args->dx2);
        });
    for (int i = 0; i < 2 && status == LKS_OK; i++)
        if (to[i]) status = lks_cuda_copy(stream, count, args->dy, to[i]);
    return status;
}

extern "C" const lks_op_type lks_cuda_add = {create, add_forward, add_backward, destroy};

/* ---- fork ---- */

static lks_status fork_backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    if (!args->dx) return LKS_OK;
    return add((const add_op *)op, stream, args->batch, args->dy, args->dy2, args->dx);
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
