/* bfloat16, kept as uint16_t: the upper half of a float32. */
#ifndef LKS_BASE_BF16_H
#define LKS_BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float lks_bf16_to_float(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even; what is beyond the largest becomes infinite, NaN stays NaN. */
static inline uint16_t lks_bf16_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t quiet = bits >> 16 | 0x40; /* rounding could carry a NaN into infinity */
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

#endif
