/* 2d convolution: the choice of a method, and what all methods do alike. */
#include "device/cpu/conv2d.h"

#include <string.h>

#include "device/cpu/columns.h"

static lks_status create_by(lks_device *device, lks_dtype type, const lks_op_type *winograd,
                            const lks_op_type *direct, const lks_conv2d_desc *d, int64_t max_batch,
                            lks_op **out) {
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "conv2d: activation %d cannot be fused",
                        (int)d->activation);
    const lks_op_type *method = lks_conv2d_winograd_fits(type, d, max_batch) ? winograd : direct;
    return method->create(device, d, max_batch, out);
}

static lks_status create(lks_device *device, const void *desc, int64_t max_batch, lks_op **out) {
    return create_by(device, LKS_F32, &lks_cpu_conv2d_winograd, &lks_cpu_conv2d_direct, desc,
                     max_batch, out);
}

static lks_status create_bf16(lks_device *device, const void *desc, int64_t max_batch,
                              lks_op **out) {
    return create_by(device, LKS_BF16, &lks_cpu_conv2d_winograd_bf16, &lks_cpu_conv2d_direct_bf16,
                     desc, max_batch, out);
}

void lks_conv2d_bias_backward(const lks_device *device, lks_dtype type, const lks_conv2d_desc *d,
                              const lks_op_args *args, void *scratch) {
    lks_cpu_bias_backward(device, type, args->batch * d->out_size[0] * d->out_size[1],
                          d->out_channels, d->activation == LKS_ACTIVATION_RELU ? args->y : NULL,
                          args->dy, d->bias ? lks_op_dparam(args, 1) : NULL, args->accumulate,
                          scratch);
}

void lks_conv2d_clear_gradients(const lks_conv2d_desc *d, const lks_op_args *args) {
    float *dweight = lks_op_dparam(args, 0), *dbias = d->bias ? lks_op_dparam(args, 1) : NULL;
    if (args->accumulate) return;
    const int64_t weights =
        d->out_channels * (d->in_channels / d->groups) * d->kernel[0] * d->kernel[1];
    if (dweight) memset(dweight, 0, (size_t)weights * sizeof(float));
    if (dbias) memset(dbias, 0, (size_t)d->out_channels * sizeof(float));
}

/* The operations that these make have the type of their method. */
const lks_op_type lks_cpu_conv2d = {.create = create};
const lks_op_type lks_cpu_conv2d_bf16 = {.create = create_bf16};
