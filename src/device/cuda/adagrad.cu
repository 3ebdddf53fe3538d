/* torch.optim.Adagrad's update. */
#include "device/cuda/update.cuh"

namespace {

struct adagrad_options {
    double weight_decay, lr_decay, eps;
};

struct adagrad_rule {
    enum { STATES = 1 }; /* sum */
    typedef adagrad_options Options;
    float rate; /* lr / (1 + (step - 1) lr_decay) */
    float weight_decay, eps;

    static __device__ adagrad_rule make(const adagrad_options &options,
                                        const lks_update_rates &rates) {
        const double decay = 1 + (rates.step - 1) * options.lr_decay;
        return adagrad_rule{(float)(rates.lr / decay), (float)options.weight_decay,
                            (float)options.eps};
    }
    __device__ float apply(float p, float grad, float *s) const {
        const float g = grad + weight_decay * p;
        s[0] += g * g;
        return p - rate * g / (sqrtf(s[0]) + eps);
    }
};

} // namespace

lks_status lks_cuda_adagrad(lks_device *device, lks_stream *stream, const lks_update *update,
                            const lks_adagrad_update *adagrad) {
    (void)device;
    const adagrad_options options = {update->weight_decay, adagrad->lr_decay, adagrad->eps};
    return lks_cuda_update<adagrad_rule>(stream, "adagrad", update, 0, &adagrad->sum, options);
}
