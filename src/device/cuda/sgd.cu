/* torch.optim.SGD's update. */
#include "device/cuda/update.cuh"

namespace {

struct sgd_options {
    double weight_decay, dampening;
    bool nesterov;
};

template <bool MOMENTUM> struct sgd_rule {
    enum { STATES = MOMENTUM ? 1 : 0 }; /* momentum_buffer */
    typedef sgd_options Options;
    float lr, weight_decay, momentum, undamped; /* undamped: 1 - dampening */
    bool nesterov, first;

    static __device__ sgd_rule make(const sgd_options &options, const lks_update_rates &rates) {
        return sgd_rule{(float)rates.lr,       (float)options.weight_decay,
                        (float)rates.momentum, (float)(1 - options.dampening),
                        options.nesterov,      rates.step == 1};
    }
    /* In the first step the buffer, which nobody has set, becomes the gradient, undamped. */
    __device__ float apply(float p, float grad, float *s) const {
        const float g = grad + weight_decay * p;
        if (!MOMENTUM) return p - lr * g;
        const float b = first ? g : s[0] * momentum + undamped * g;
        s[0] = b;
        return p - lr * (nesterov ? g + momentum * b : b);
    }
};

} // namespace

lks_status lks_cuda_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                        const lks_sgd_update *sgd) {
    (void)device;
    const sgd_options options = {update->weight_decay, sgd->dampening, sgd->nesterov};
    if (!sgd->momentum_buffer)
        return lks_cuda_update<sgd_rule<false>>(stream, "sgd", update, 0, nullptr, options);
    return lks_cuda_update<sgd_rule<true>>(stream, "sgd", update, sgd->momentum,
                                           &sgd->momentum_buffer, options);
}
