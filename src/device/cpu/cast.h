/* Between bfloat16 and float32, serially: for kernels that take both. Included by src/device/cpu
 * alone. */
#ifndef LKS_DEVICE_CPU_CAST_H
#define LKS_DEVICE_CPU_CAST_H

#include <stdint.h>

#include "device/cpu/parallel.h"

/* Element i of an array, LKS_F32 or LKS_BF16, as float32; and back, rounded. In loops `type` is a
 * constant of the caller, so that they vectorise. */
LKS_CPU_INLINE float lks_cpu_load(lks_dtype type, const void *array, int64_t i) {
    return type == LKS_F32 ? ((const float *)array)[i]
                           : lks_bf16_to_float(((const uint16_t *)array)[i]);
}

LKS_CPU_INLINE void lks_cpu_store(lks_dtype type, void *array, int64_t i, float value) {
    if (type == LKS_F32)
        ((float *)array)[i] = value;
    else
        ((uint16_t *)array)[i] = lks_bf16_of_float(value);
}

enum { LKS_CPU_CAST_BLOCK = 2048 }; /* elements of a block whose float32 stay in the first cache */

void lks_cpu_widen(int64_t n, const uint16_t *from, float *to);
void lks_cpu_narrow(int64_t n, const float *from, uint16_t *to);

/* Elements [at, at + n) of an array of `type` as float32: where they are, or widened to room[n]. */
const float *lks_cpu_floats(lks_dtype type, const void *array, int64_t at, int64_t n, float *room);
/* Where such elements are computed: in their place, or in `room`, from which lks_cpu_finish rounds
 * them. */
float *lks_cpu_results(lks_dtype type, void *array, int64_t at, float *room);
void lks_cpu_finish(lks_dtype type, void *array, int64_t at, int64_t n, const float *room);

#endif
