/* What the optimizer updates share. Included by src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_UPDATE_H
#define LKS_DEVICE_CPU_UPDATE_H

#include "device/backend.h"

/* The factor of the gradient: grad_scale / *divisor, with the sign of maximize; computed in float64
 * and rounded once. */
static inline float lks_cpu_grad_factor(const lks_update *update) {
    const double factor = update->grad_scale / *update->divisor;
    return (float)(update->maximize ? -factor : factor);
}

#endif
