/* What every back end may rely on: descriptions of operations that make sense. Which activations a
 * product can fuse is for the back end to say. */
#include "device/backend.h"

static lks_status check_linear(const void *desc) {
    const lks_linear_desc *d = desc;
    if (d->in_features < 1 || d->out_features < 1 || d->rows_per_sample < 1)
        return lks_fail(LKS_EINVAL,
                        "linear with in_features %lld, out_features %lld, %lld rows per sample: "
                        "each must be >= 1",
                        (long long)d->in_features, (long long)d->out_features,
                        (long long)d->rows_per_sample);
    return LKS_OK;
}

static lks_status check_conv2d(const void *desc) {
    static const char *const axis[] = {"height", "width"};
    const lks_conv2d_desc *d = desc;
    if (d->groups < 1 || d->in_channels < 1 || d->out_channels < 1 ||
        d->in_channels % d->groups != 0 || d->out_channels % d->groups != 0)
        return lks_fail(LKS_EINVAL,
                        "conv2d from %lld to %lld channels in %lld groups: the groups must divide "
                        "both",
                        (long long)d->in_channels, (long long)d->out_channels,
                        (long long)d->groups);
    for (int i = 0; i < 2; i++) {
        if (d->kernel[i] < 1 || d->stride[i] < 1 || d->dilation[i] < 1 || d->padding[i] < 0)
            return lks_fail(LKS_EINVAL,
                            "conv2d: kernel %lld, stride %lld, dilation %lld must be >= 1 and "
                            "padding %lld >= 0 (%s)",
                            (long long)d->kernel[i], (long long)d->stride[i],
                            (long long)d->dilation[i], (long long)d->padding[i], axis[i]);
        const int64_t room =
            d->in_size[i] + 2 * d->padding[i] - d->dilation[i] * (d->kernel[i] - 1) - 1;
        if (room < 0 || d->out_size[i] != room / d->stride[i] + 1)
            return lks_fail(LKS_EINVAL, "conv2d: the %s %lld does not give %lld", axis[i],
                            (long long)d->in_size[i], (long long)d->out_size[i]);
    }
    return LKS_OK;
}

static lks_status check_pool2d(const void *desc) {
    const lks_pool2d_desc *d = desc;
    if (d->channels < 1)
        return lks_fail(LKS_EINVAL, "pool2d over %lld channels", (long long)d->channels);
    for (int i = 0; i < 2; i++) {
        if (d->in_size[i] < 1 || d->out_size[i] < 1)
            return lks_fail(LKS_EINVAL, "pool2d from size %lld to size %lld",
                            (long long)d->in_size[i], (long long)d->out_size[i]);
        if (d->kind == LKS_POOL_ADAPTIVE_AVG) continue;
        if (d->kernel[i] < 1 || d->stride[i] < 1 || d->padding[i] < 0 ||
            (d->kind == LKS_POOL_MAX && d->dilation[i] < 1))
            return lks_fail(LKS_EINVAL,
                            "pool2d: kernel %lld, stride %lld and dilation %lld must be >= 1, "
                            "padding %lld >= 0",
                            (long long)d->kernel[i], (long long)d->stride[i],
                            (long long)d->dilation[i], (long long)d->padding[i]);
    }
    if (d->kind == LKS_POOL_MAX && d->kernel[0] * d->kernel[1] > UINT16_MAX)
        return lks_fail(LKS_EUNSUPPORTED, "pool2d: a window of %lld x %lld is too large",
                        (long long)d->kernel[0], (long long)d->kernel[1]);
    return LKS_OK;
}

static lks_status check_batch_norm(const void *desc) {
    const lks_batch_norm_desc *d = desc;
    if (d->channels < 1 || d->spatial < 1 || !(d->eps >= 0))
        return lks_fail(LKS_EINVAL,
                        "batch_norm over %lld channels of %lld values with eps %g: expected at "
                        "least 1, 1 and 0",
                        (long long)d->channels, (long long)d->spatial, d->eps);
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "batch_norm: activation %d cannot be fused",
                        (int)d->activation);
    return LKS_OK;
}

static lks_status check_layer_norm(const void *desc) {
    const lks_layer_norm_desc *d = desc;
    if (d->width < 1 || d->rows_per_sample < 1 || !(d->eps >= 0))
        return lks_fail(LKS_EINVAL,
                        "layer_norm of %lld rows of %lld numbers with eps %g: expected at least 1, "
                        "1 and 0",
                        (long long)d->rows_per_sample, (long long)d->width, d->eps);
    return LKS_OK;
}

static lks_status check_softmax(const void *desc) {
    const lks_softmax_desc *d = desc;
    if (d->outer < 1 || d->size < 1 || d->inner < 1)
        return lks_fail(LKS_EINVAL, "softmax over [%lld, %lld, %lld]: every size must be >= 1",
                        (long long)d->outer, (long long)d->size, (long long)d->inner);
    return LKS_OK;
}

static lks_status check_eltwise(const void *desc) {
    const lks_eltwise_desc *d = desc;
    if ((unsigned)d->activation > LKS_ACTIVATION_SIGMOID)
        return lks_fail(LKS_EUNSUPPORTED, "eltwise: activation %d is unknown", (int)d->activation);
    return LKS_OK;
}

static lks_status check_dropout(const void *desc) {
    const lks_dropout_desc *d = desc;
    if (!(d->p >= 0 && d->p <= 1))
        return lks_fail(LKS_EINVAL, "dropout: p is %g, expected 0 to 1", d->p);
    return LKS_OK;
}

static lks_status check_relayout(const void *desc) {
    const lks_relayout_desc *d = desc;
    if (d->channels < 1 || d->spatial < 1)
        return lks_fail(LKS_EINVAL, "relayout of %lld channels of %lld elements: both must be >= 1",
                        (long long)d->channels, (long long)d->spatial);
    return LKS_OK;
}

static lks_status check_add(const void *desc) {
    const lks_add_desc *d = desc;
    if (d->activation != LKS_ACTIVATION_NONE && d->activation != LKS_ACTIVATION_RELU)
        return lks_fail(LKS_EUNSUPPORTED, "add: activation %d cannot be fused", (int)d->activation);
    return LKS_OK;
}

static lks_status check_cast(const void *desc) {
    const lks_cast_desc *d = desc;
    const bool narrows = d->from == LKS_F32 && d->to == LKS_BF16;
    const bool widens = d->from == LKS_BF16 && d->to == LKS_F32;
    if (d->count < 0 || (!narrows && !widens))
        return lks_fail(LKS_EINVAL, "cast of %lld elements from %s to %s", (long long)d->count,
                        lks_dtype_name(d->from), lks_dtype_name(d->to));
    return LKS_OK;
}

lks_status lks_op_check(lks_op_kind kind, const void *desc) {
    static lks_status (*const check[LKS_OP_KIND_COUNT])(const void *desc) = {
        [LKS_OP_LINEAR] = check_linear,
        [LKS_OP_CONV2D] = check_conv2d,
        [LKS_OP_POOL2D] = check_pool2d,
        [LKS_OP_BATCH_NORM] = check_batch_norm,
        [LKS_OP_LAYER_NORM] = check_layer_norm,
        [LKS_OP_SOFTMAX] = check_softmax,
        [LKS_OP_ELTWISE] = check_eltwise,
        [LKS_OP_DROPOUT] = check_dropout,
        [LKS_OP_RELAYOUT] = check_relayout,
        [LKS_OP_ADD] = check_add,
        [LKS_OP_CAST] = check_cast,
    };
    return check[kind] ? check[kind](desc) : LKS_OK;
}
