/* The updates of torch.optim.Adam and AdamW, with and without amsgrad. */
#include "device/cuda/update.cuh"

namespace {

struct adam_options {
    double weight_decay, beta2, eps;
    bool decoupled;
};

template <bool AMSGRAD> struct adam_rule {
    enum { STATES = AMSGRAD ? 3 : 2 }; /* exp_avg, exp_avg_sq, max_exp_avg_sq */
    typedef adam_options Options;
    float param_scale;  /* decoupled decay: 1 - lr weight_decay, else 1 */
    float weight_decay; /* added to the gradient, 0 when decoupled */
    float weight1;      /* 1 - beta1, which is the rates' momentum */
    float beta2, weight2;
    float step_size;     /* lr / (1 - beta1^t) */
    float inverse_root2; /* 1 / sqrt(1 - beta2^t) */
    float eps;

    static __device__ adam_rule make(const adam_options &options, const lks_update_rates &rates) {
        const double bias1 = 1 - pow(rates.momentum, rates.step);
        const double bias2 = 1 - pow(options.beta2, rates.step);
        const double decay = options.weight_decay;
        return adam_rule{options.decoupled ? (float)(1 - rates.lr * decay) : 1.0f,
                         options.decoupled ? 0.0f : (float)decay,
                         (float)(1 - rates.momentum),
                         (float)options.beta2,
                         (float)(1 - options.beta2),
                         (float)(rates.lr / bias1),
                         (float)(1 / sqrt(bias2)),
                         (float)options.eps};
    }
    __device__ float apply(float p, float grad, float *s) const {
        const float g = grad + weight_decay * p;
        const float m = lks_lerp(s[0], g, weight1), v = s[1] * beta2 + weight2 * g * g;
        float square = v;
        s[0] = m;
        s[1] = v;
        if (AMSGRAD) s[2] = square = v <= s[2] ? s[2] : v; /* NaN of v passes through */
        return p * param_scale - step_size * m / (sqrtf(square) * inverse_root2 + eps);
    }
};

} // namespace

lks_status lks_cuda_adam(lks_device *device, lks_stream *stream, const lks_update *update,
                         const lks_adam_update *adam) {
    (void)device;
    const adam_options options = {update->weight_decay, adam->beta2, adam->eps, adam->decoupled};
    float *const states[] = {adam->exp_avg, adam->exp_avg_sq, adam->max_exp_avg_sq};
    if (adam->max_exp_avg_sq)
        return lks_cuda_update<adam_rule<true>>(stream, "adam", update, adam->beta1, states,
                                                options);
    return lks_cuda_update<adam_rule<false>>(stream, "adam", update, adam->beta1, states, options);
}
