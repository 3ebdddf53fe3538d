#include "device/pool2d.h"

#include <stdlib.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Window `o` of an axis; PyTorch's sizes: a window's padded part counts up to in + padding. */
static lks_pool_window make_window(const lks_pool2d_desc *d, int i, int64_t o) {
    const int64_t in = d->in_size[i], out = d->out_size[i];
    if (d->kind == LKS_POOL_ADAPTIVE_AVG) {
        const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
        return (lks_pool_window){.begin = begin, .last = end - begin, .extent = end - begin};
    }
    const int64_t step = d->kind == LKS_POOL_MAX ? d->dilation[i] : 1;
    lks_pool_window w = {.begin = o * d->stride[i] - d->padding[i]};
    w.first = w.begin < 0 ? (-w.begin + step - 1) / step : 0;
    w.last = most(w.first, least(d->kernel[i], (in - w.begin + step - 1) / step));
    w.extent =
        d->count_include_pad ? least(d->kernel[i], in + d->padding[i] - w.begin) : w.last - w.first;
    return w;
}

lks_status lks_pool_axis_create(const lks_pool2d_desc *d, int i, lks_pool_axis *out) {
    *out = (lks_pool_axis){.in = d->in_size[i], .out = d->out_size[i], .step = 1};
    if (d->kind == LKS_POOL_MAX) out->step = d->dilation[i];
    out->window = calloc((size_t)out->out, sizeof *out->window);
    out->cover = calloc((size_t)out->in, sizeof *out->cover);
    if (!out->window || !out->cover)
        return lks_fail(LKS_ENOMEM, "pool2d: cannot allocate tables for %lld outputs",
                        (long long)out->out);
    for (int64_t o = 0; o < out->out; o++) {
        const lks_pool_window w = out->window[o] = make_window(d, i, o);
        if (w.first >= w.last)
            return lks_fail(LKS_EINVAL, "pool2d: window %lld of an axis of %lld covers no input",
                            (long long)o, (long long)out->in);
        for (int64_t p = w.begin + w.first * out->step; p <= w.begin + (w.last - 1) * out->step;
             p++) {
            if (out->cover[p].last == 0) out->cover[p].first = o;
            out->cover[p].last = o + 1;
        }
    }
    return LKS_OK;
}

void lks_pool_axis_destroy(lks_pool_axis *axis) {
    free(axis->window);
    free(axis->cover);
}
