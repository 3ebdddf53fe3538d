/* Elementary functions of float32 that a compiler can vectorise: no branches, no tables, no calls.
 * Included by src/device/cpu alone. Errors are the largest found over the whole range, against
 * float64. */
#ifndef LKS_DEVICE_CPU_VECMATH_H
#define LKS_DEVICE_CPU_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "device/cpu/parallel.h"

LKS_CPU_INLINE uint32_t lks_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

LKS_CPU_INLINE float lks_float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 2^k for -126 <= k <= 127. */
LKS_CPU_INLINE float lks_exp2_int(int32_t k) {
    return lks_float_of_bits((uint32_t)(k + 127) << 23);
}

/* e^x within 2 ulp; overflows to inf, underflows gradually to 0, keeps NaN. x = k ln 2 + r with
 * |r| <= ln(2)/2: reduction by Cody and Waite (ln 2 in two parts, k times the upper part is exact),
 * then Taylor's series to degree 7, whose rest is below 6e-9. */
LKS_CPU_INLINE float lks_expf(float x) {
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer in the lowest bits */
    x = x > 89.0f ? 89.0f : x;     /* e^89 > FLT_MAX */
    x = x < -104.0f ? -104.0f : x; /* e^-104 < FLT_TRUE_MIN / 2 */
    const float shifted = x * 0x1.715476p+0f + round;
    const float k = shifted - round;
    const float r = (x - k * 0x1.63p-1f) + k * 0x1.bd0106p-13f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    /* Two factors, as 2^k itself may be out of range where the result is not. */
    const int32_t whole = (int32_t)(lks_float_bits(shifted) - lks_float_bits(round));
    const int32_t half = whole >> 1;
    return p * lks_exp2_int(half) * lks_exp2_int(whole - half);
}

/* 1 / (1 + e^-x) within 3 ulp, without overflow on either side. */
LKS_CPU_INLINE float lks_sigmoidf(float x) {
    const float e = lks_expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* tanh x within 3 ulp. Near 0 Taylor's series to x^11, as the quotient loses its digits there. */
LKS_CPU_INLINE float lks_tanhf(float x) {
    const float e = lks_expf(-2.0f * fabsf(x));
    const float q = (1.0f - e) / (1.0f + e);
    const float u = x * x;
    float p = -1382.0f / 155925;
    p = p * u + 62.0f / 2835;
    p = p * u - 17.0f / 315;
    p = p * u + 2.0f / 15;
    p = p * u - 1.0f / 3;
    p = p * u + 1.0f;
    return u < 0.35f * 0.35f ? x * p : copysignf(q, x);
}

/* log(1 + e) for 0 <= e <= 1, within 3 ulp: 2 artanh(e / (2 + e)), whose argument is at most 1/3,
 * by its series to the 13th power, whose rest is below 2e-8 of the result. */
LKS_CPU_INLINE float lks_log1pf_unit(float e) {
    const float z = e / (2.0f + e);
    const float u = z * z;
    float p = 1.0f / 13;
    p = p * u + 1.0f / 11;
    p = p * u + 1.0f / 9;
    p = p * u + 1.0f / 7;
    p = p * u + 1.0f / 5;
    p = p * u + 1.0f / 3;
    p = p * u + 1.0f;
    return 2.0f * z * p;
}

/* The standard normal distribution function, (1 + erf(x / sqrt 2)) / 2, given e^(-x^2 / 2). The
 * ratio of tail to density is a polynomial of 1 / (1 + 0.3 |x|), fitted to the least relative error
 * on 0 <= |x| <= 14 (6e-8); beyond that the tail underflows. Together with the rounding of
 * x^2 / 2 in the argument's exponential the relative error is below 5e-6, and below 8e-7 for
 * |x| < 5. */
LKS_CPU_INLINE float lks_normal_cdff(float x, float exp_half_square) {
    const float t = 1.0f / (1.0f + 0.3f * fabsf(x));
    float p = 0.0383784026f;
    p = p * t - 0.169166639f;
    p = p * t + 0.22866109f;
    p = p * t - 0.0765075535f;
    p = p * t + 0.142536208f;
    p = p * t + 0.0946832597f;
    p = p * t + 0.121920399f;
    p = p * t + 0.11948768f;
    p = p * t + 7.16925342e-06f;
    const float tail = p * exp_half_square;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
