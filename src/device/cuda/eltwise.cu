/* Activations, element by element. */
#include <stdlib.h>

#include "device/cuda/activation.cuh"
#include "device/cuda/map.cuh"

namespace {

struct eltwise_op {
    lks_op op;
    int64_t count; /* elements of a sample */
    lks_activation activation;
    float alpha;
};

} // namespace

/* ---- one activation as the map's function ---- */

namespace {

template <typename A> struct forward_of {
    A activation;
    __device__ float operator()(float x) const {
        return activation.forward(x);
    }
};

template <typename A> struct backward_of {
    A activation;
    __device__ float operator()(float v, float dy) const {
        return activation.backward(v, dy);
    }
};

} // namespace

/* Calls work(activation) with the struct of activation.cuh that the operation has. NONE has none.
 */
template <typename Work>
static lks_status with_activation(lks_activation activation, float alpha, Work &&work) {
    switch (activation) {
    case LKS_ACTIVATION_RELU:
        return work(lks_relu());
    case LKS_ACTIVATION_LEAKY_RELU:
        if (alpha >= 0.0f) return work(lks_leaky_relu<true>{alpha});
        return work(lks_leaky_relu<false>{alpha});
    case LKS_ACTIVATION_GELU:
        return work(lks_gelu());
    case LKS_ACTIVATION_GELU_TANH:
        return work(lks_gelu_tanh());
    case LKS_ACTIVATION_SILU:
        return work(lks_silu());
    case LKS_ACTIVATION_TANH:
        return work(lks_tanh());
    case LKS_ACTIVATION_SIGMOID:
        return work(lks_sigmoid_activation());
    case LKS_ACTIVATION_NONE:
        break;
    }
    return LKS_OK;
}

lks_status lks_cuda_activate(lks_stream *stream, lks_activation activation, float alpha,
                             int64_t count, const void *x, void *y) {
    if (activation == LKS_ACTIVATION_NONE) return lks_cuda_copy(stream, count, x, y);
    return with_activation(activation, alpha, [&](auto function) {
        return lks_cuda_typed(stream->device, [&](auto zero) {
            return lks_map<decltype(zero)>(stream, "activation", count, x, y,
                                           forward_of<decltype(function)>{function});
        });
    });
}

lks_status lks_cuda_activate_backward(lks_stream *stream, lks_activation activation, float alpha,
                                      int64_t count, const void *v, const void *dy, void *dx) {
    if (activation == LKS_ACTIVATION_NONE) return lks_cuda_copy(stream, count, dy, dx);
    return with_activation(activation, alpha, [&](auto function) {
        return lks_cuda_typed(stream->device, [&](auto zero) {
            return lks_map2<decltype(zero)>(stream, "gradient of an activation", count, v, dy, dx,
                                            backward_of<decltype(function)>{function});
        });
    });
}

bool lks_cuda_slope_from_y(lks_activation activation, float alpha) {
    bool from_y = true;
    with_activation(activation, alpha, [&](auto function) {
        from_y = decltype(function)::FROM_Y;
        return LKS_OK;
    });
    return from_y;
}

/* ---- the operation ---- */

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    const lks_eltwise_desc *d = (const lks_eltwise_desc *)desc;
    eltwise_op *op = (eltwise_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "eltwise: cannot allocate the operation");
    op->count = d->count;
    op->activation = d->activation;
    op->alpha = (float)d->alpha;
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    if (op->activation != LKS_ACTIVATION_NONE) {
        const bool from_y = lks_cuda_slope_from_y(op->activation, op->alpha);
        op->op.needs.backward_needs_x = !from_y;
        op->op.needs.backward_needs_y = op->op.needs.in_place = from_y;
    }
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const eltwise_op *op = (const eltwise_op *)base;
    return lks_cuda_activate(stream, op->activation, op->alpha, args->batch * op->count, args->x,
                             args->y);
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const eltwise_op *op = (const eltwise_op *)base;
    if (!args->dx) return LKS_OK;
    return lks_cuda_activate_backward(stream, op->activation, op->alpha, args->batch * op->count,
                                      base->needs.backward_needs_y ? args->y : args->x, args->dy,
                                      args->dx);
}

extern "C" const lks_op_type lks_cuda_eltwise = {create, forward, backward, destroy};
