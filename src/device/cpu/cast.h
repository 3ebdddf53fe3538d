/* Between bfloat16 and float32, serially: for kernels that work on blocks. Included by
 * src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_CAST_H
#define LKS_DEVICE_CPU_CAST_H

#include <stdint.h>

#include "device/backend.h"

enum { LKS_CPU_CAST_BLOCK = 2048 }; /* elements of a block whose float32 stay in the first cache */

void lks_cpu_widen(int64_t n, const uint16_t *from, float *to);
void lks_cpu_narrow(int64_t n, const float *from, uint16_t *to);

/* Elements [at, at + n) of an array of `type` as float32: where they are, or widened to room[n]. */
const float *lks_cpu_floats(lks_dtype type, const void *array, int64_t at, int64_t n, float *room);

#endif
