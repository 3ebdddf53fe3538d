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
template <typename Work> static lks_status with_activation(const eltwise_op *op, Work &&work) {
    switch (op->activation) {
    case LKS_ACTIVATION_RELU:
        return work(lks_relu());
    case LKS_ACTIVATION_LEAKY_RELU:
        if (op->alpha >= 0.0f) return work(lks_leaky_relu<true>{op->alpha});
        return work(lks_leaky_relu<false>{op->alpha});
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

/* ---- the operation ---- */

static lks_status create(lks_device *device, const void *desc, int64_t max_batch, lks_op **out) {
    (void)device;
    (void)max_batch;
    const lks_eltwise_desc *d = (const lks_eltwise_desc *)desc;
    eltwise_op *op = (eltwise_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "eltwise: cannot allocate the operation");
    op->count = d->count;
    op->activation = d->activation;
    op->alpha = (float)d->alpha;
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    with_activation(op, [&](auto activation) {
        const bool from_y = decltype(activation)::FROM_Y;
        op->op.needs.backward_needs_x = !from_y;
        op->op.needs.backward_needs_y = op->op.needs.in_place = from_y;
        return LKS_OK;
    });
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const eltwise_op *op = (const eltwise_op *)base;
    const int64_t count = args->batch * op->count;
    if (op->activation == LKS_ACTIVATION_NONE)
        return lks_cuda_copy(stream, count, args->x, args->y);
    return with_activation(op, [&](auto activation) {
        return lks_cuda_typed(base->device, [&](auto zero) {
            return lks_map<decltype(zero)>(stream, "eltwise", count, args->x, args->y,
                                           forward_of<decltype(activation)>{activation});
        });
    });
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const eltwise_op *op = (const eltwise_op *)base;
    const int64_t count = args->batch * op->count;
    if (!args->dx) return LKS_OK;
    if (op->activation == LKS_ACTIVATION_NONE)
        return lks_cuda_copy(stream, count, args->dy, args->dx);
    const void *v = base->needs.backward_needs_y ? args->y : args->x;
    return with_activation(op, [&](auto activation) {
        return lks_cuda_typed(base->device, [&](auto zero) {
            return lks_map2<decltype(zero)>(stream, "eltwise gradient", count, v, args->dy,
                                            args->dx,
                                            backward_of<decltype(activation)>{activation});
        });
    });
}

extern "C" const lks_op_type lks_cuda_eltwise = {create, forward, backward, destroy};
