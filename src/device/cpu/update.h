/* What the optimizer updates share. Included by src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_UPDATE_H
#define LKS_DEVICE_CPU_UPDATE_H

#include <math.h>

#include "device/cpu/parallel.h"

/* Takes into *now what the update says, with the numbers that stand in device memory in their
 * place. False: nothing is to be updated. */
static inline bool lks_cpu_update_now(const lks_update *update, lks_update *now) {
    *now = *update;
    if (update->rates) now->lr = update->rates[0];
    if (!update->control) return true;
    now->grad_scale = update->control->grad_scale;
    now->step = update->control->step;
    return update->control->skip == 0;
}

static inline double lks_cpu_momentum_now(const lks_update *update, double configured) {
    return update->rates && !isnan(update->rates[1]) ? update->rates[1] : configured;
}

/* How an update sees the gradient. */
typedef struct lks_cpu_gradient {
    float factor; /* grad_scale / *divisor with the sign of maximize, rounded once from float64 */
    float clip;   /* clip_value, INFINITY for none */
} lks_cpu_gradient;

static inline lks_cpu_gradient lks_cpu_gradient_of(const lks_update *update) {
    const double factor = update->grad_scale / *update->divisor;
    return (lks_cpu_gradient){
        .factor = (float)(update->maximize ? -factor : factor),
        .clip = update->clip_value > 0 ? (float)update->clip_value : INFINITY,
    };
}

/* The element `grad` as the update's formulas mean it, without weight decay. Clamped after the sign
 * of maximize, which comes to the same. Written so that NaN fails both comparisons. */
LKS_CPU_INLINE float lks_cpu_scaled(lks_cpu_gradient gradient, float grad) {
    const float g = grad * gradient.factor;
    const float below = gradient.clip < g ? gradient.clip : g;
    return -gradient.clip > below ? -gradient.clip : below;
}

/* Updates elements [at, at + n): param and grad begin there, the job's states at element 0. */
typedef void (*lks_cpu_update_part)(const void *job, int64_t at, int64_t n, float *param,
                                    const float *grad);

/* Runs `part` over all elements with the device's threads; gradients come as float32, and the copy
 * is written. */
void lks_cpu_update_run(const lks_device *device, const lks_update *update,
                        lks_cpu_update_part part, const void *job);

/* a + w (b - a), in the form that is exact at the nearer end, as torch.lerp. */
LKS_CPU_INLINE float lks_cpu_lerp(float a, float b, float w) {
    return w < 0.5f ? a + w * (b - a) : b - (b - a) * (1.0f - w);
}

#endif
