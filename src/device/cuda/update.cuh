/* What the optimizer updates share: one launch that reads every array once and writes it once.
 * Included by the .cu files of src/device/cuda alone.
 *
 * An optimizer is a Rule, the float32 scalars of one step's update:
 *     STATES                      how many state arrays it has
 *     Options                     what the scalars are computed from, in double
 *     make(options, rates)        the scalars of this step, made by one thread of a block
 *     apply(p, g, s)              element's new parameter; g: the gradient as the formulas mean it,
 *                                 without weight decay; s[STATES]: its states, which are updated */
#ifndef LKS_DEVICE_CUDA_UPDATE_CUH
#define LKS_DEVICE_CUDA_UPDATE_CUH

#include "device/cuda/run.cuh"

enum { LKS_UPDATE_PACK = lks_pack<float>::COUNT, LKS_UPDATE_MAX_STATES = 3 };

/* What may differ from step to step: in the launch, or where the update has its pointers, there. */
struct lks_update_rates {
    double lr, momentum, step;
    const double *divisor; /* device memory */
    double grad_scale, clip_value;
    bool maximize;

    __device__ void read(const double *rates, const lks_update_control *control) {
        if (rates) lr = rates[0];
        if (rates && !isnan(rates[1])) momentum = rates[1];
        if (!control) return;
        grad_scale = control->grad_scale;
        step = (double)control->step;
    }
};

/* How an update sees the gradient. */
struct lks_update_gradient {
    float factor; /* grad_scale / *divisor with the sign of maximize, rounded once from float64 */
    float clip;   /* clip_value, INFINITY for none */

    static __device__ lks_update_gradient make(const lks_update_rates &rates) {
        const double factor = rates.grad_scale / *rates.divisor;
        return lks_update_gradient{(float)(rates.maximize ? -factor : factor),
                                   rates.clip_value > 0 ? (float)rates.clip_value : INFINITY};
    }
    /* Clamped after the sign of maximize, which comes to the same. Written so that NaN fails both
     * comparisons. */
    __device__ float apply(float grad) const {
        const float g = grad * factor;
        const float below = clip < g ? clip : g;
        return -clip > below ? -clip : below;
    }
};

/* a + w (b - a), in the form that is exact at the nearer end, as torch.lerp. */
static __device__ inline float lks_lerp(float a, float b, float w) {
    return w < 0.5f ? a + w * (b - a) : b - (b - a) * (1.0f - w);
}

template <typename Grad, int STATES> struct lks_update_arrays {
    float *param;
    const Grad *grad;
    __nv_bfloat16 *copy; /* NULL: not wanted */
    float *state[STATES > 0 ? STATES : 1];
};

/* N elements from `at` on; every element's result is its own, however it is reached. */
template <int N, typename Grad, typename Rule>
static __device__ void lks_update_elements(const lks_update_arrays<Grad, Rule::STATES> &arrays,
                                           const lks_update_gradient &gradient, const Rule &rule,
                                           int64_t at) {
    float p[N], g[N], s[Rule::STATES + 1][N];
    lks_load<float, N>(arrays.param + at, p);
    lks_load<Grad, N>(arrays.grad + at, g);
    for (int k = 0; k < Rule::STATES; k++)
        lks_load<float, N>(arrays.state[k] + at, s[k]);
    for (int j = 0; j < N; j++) {
        float own[Rule::STATES + 1];
        for (int k = 0; k < Rule::STATES; k++)
            own[k] = s[k][j];
        p[j] = rule.apply(p[j], gradient.apply(g[j]), own);
        for (int k = 0; k < Rule::STATES; k++)
            s[k][j] = own[k];
    }
    lks_store<float, N>(arrays.param + at, p);
    if (arrays.copy) lks_store<__nv_bfloat16, N>(arrays.copy + at, p);
    for (int k = 0; k < Rule::STATES; k++)
        lks_store<float, N>(arrays.state[k] + at, s[k]);
}

template <typename Grad, typename Rule>
static __global__ void lks_update_kernel(lks_run run, lks_update_arrays<Grad, Rule::STATES> arrays,
                                         lks_update_rates rates, const double *device_rates,
                                         const lks_update_control *control,
                                         typename Rule::Options options) {
    /* Powers and roots in double once for each block, not for each thread. */
    static __shared__ Rule shared_rule;
    static __shared__ lks_update_gradient shared_gradient;
    if (control && control->skip) return;
    if (threadIdx.x == 0) {
        rates.read(device_rates, control);
        shared_rule = Rule::make(options, rates);
        shared_gradient = lks_update_gradient::make(rates);
    }
    __syncthreads();
    const Rule rule = shared_rule;
    const lks_update_gradient gradient = shared_gradient;
    lks_each<LKS_UPDATE_PACK>(run, [&](auto width, int64_t at) {
        lks_update_elements<width>(arrays, gradient, rule, at);
    });
}

/* momentum: as configured; states: [STATES] */
template <typename Grad, typename Rule>
static lks_status
lks_cuda_update_from(lks_stream *stream, const char *what, const lks_update *update,
                     double momentum, float *const *states, const typename Rule::Options &options) {
    lks_update_arrays<Grad, Rule::STATES> arrays = {};
    const float *state[LKS_UPDATE_MAX_STATES] = {};
    arrays.param = update->param;
    arrays.grad = (const Grad *)update->grad;
    arrays.copy = (__nv_bfloat16 *)update->copy;
    for (int k = 0; k < Rule::STATES; k++)
        state[k] = arrays.state[k] = states[k];
    const lks_update_rates rates = {update->lr,      momentum,           (double)update->step,
                                    update->divisor, update->grad_scale, update->clip_value,
                                    update->maximize};
    const lks_run run = lks_cuda_run<LKS_UPDATE_PACK>(update->count, arrays.param, arrays.grad,
                                                      arrays.copy, state[0], state[1], state[2]);
    return lks_cuda_launch(stream, what, lks_update_kernel<Grad, Rule>,
                           lks_cuda_run_blocks(stream, run), LKS_CUDA_BLOCK, 0, run, arrays, rates,
                           update->rates, update->control, options);
}

template <typename Rule>
static lks_status lks_cuda_update(lks_stream *stream, const char *what, const lks_update *update,
                                  double momentum, float *const *states,
                                  const typename Rule::Options &options) {
    return lks_cuda_of_type(update->grad_type, [&](auto zero) {
        return lks_cuda_update_from<decltype(zero), Rule>(stream, what, update, momentum, states,
                                                          options);
    });
}

#endif
