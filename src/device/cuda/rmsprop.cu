/* torch.optim.RMSprop's update. */
#include "device/cuda/update.cuh"

namespace {

struct rmsprop_options {
    double weight_decay, alpha, eps;
};

template <bool CENTERED, bool MOMENTUM> struct rmsprop_rule {
    /* square_avg, grad_avg if centered, momentum_buffer if there is momentum */
    enum { STATES = 1 + CENTERED + MOMENTUM, MEAN = 1, BUFFER = 1 + CENTERED };
    typedef rmsprop_options Options;
    float lr, weight_decay, momentum, eps;
    float alpha, weight; /* weight: 1 - alpha */

    static __device__ rmsprop_rule make(const rmsprop_options &options,
                                        const lks_update_rates &rates) {
        return rmsprop_rule{(float)rates.lr,       (float)options.weight_decay,
                            (float)rates.momentum, (float)options.eps,
                            (float)options.alpha,  (float)(1 - options.alpha)};
    }
    /* Rounding may bring the variance of a constant gradient below zero, of which PyTorch takes the
     * root: NaN. Here it is zero then. */
    __device__ float apply(float p, float grad, float *s) const {
        const float g = grad + weight_decay * p;
        float square = s[0] * alpha + weight * g * g;
        s[0] = square;
        if (CENTERED) {
            s[MEAN] = lks_lerp(s[MEAN], g, weight);
            square -= s[MEAN] * s[MEAN];
            square = square < 0.0f ? 0.0f : square;
        }
        const float root = sqrtf(square) + eps;
        if (!MOMENTUM) return p - lr * g / root;
        s[BUFFER] = s[BUFFER] * momentum + g / root;
        return p - lr * s[BUFFER];
    }
};

} // namespace

lks_status lks_cuda_rmsprop(lks_device *device, lks_stream *stream, const lks_update *update,
                            const lks_rmsprop_update *rmsprop) {
    (void)device;
    const char *what = "rmsprop";
    const rmsprop_options options = {update->weight_decay, rmsprop->alpha, rmsprop->eps};
    const double momentum = rmsprop->momentum;
    float *square = rmsprop->square_avg, *mean = rmsprop->grad_avg;
    float *buffer = rmsprop->momentum_buffer;
    float *const both[] = {square, mean, buffer}, *const with_buffer[] = {square, buffer};
    if (mean && buffer)
        return lks_cuda_update<rmsprop_rule<true, true>>(stream, what, update, momentum, both,
                                                         options);
    if (mean)
        return lks_cuda_update<rmsprop_rule<true, false>>(stream, what, update, momentum, both,
                                                          options);
    if (buffer)
        return lks_cuda_update<rmsprop_rule<false, true>>(stream, what, update, momentum,
                                                          with_buffer, options);
    return lks_cuda_update<rmsprop_rule<false, false>>(stream, what, update, momentum, both,
                                                       options);
}
