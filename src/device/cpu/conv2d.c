/* 2d convolution: the choice of a method, and what all methods do alike. */
#include "device/cpu/conv2d.h"

#include <string.h>

#include "device/cpu/columns.h"

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    const lks_conv2d_desc *d = desc;
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "conv2d: activation %d cannot be fused",
                        (int)d->activation);
    const bool winograd = lks_conv2d_winograd_fits(type, d, max_batch);
    return lks_op_make(winograd ? &lks_cpu_conv2d_winograd : &lks_cpu_conv2d_direct, device, type,
                       d, max_batch, out);
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
