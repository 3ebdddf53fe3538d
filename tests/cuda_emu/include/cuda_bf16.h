/* Look-alike of <cuda_bf16.h>: bfloat16 with rounding to nearest, ties to even. */
#ifndef LKS_CUDA_EMU_BF16_H
#define LKS_CUDA_EMU_BF16_H

#include "cuda_runtime.h"

#ifdef __cplusplus

struct __nv_bfloat16_raw {
    unsigned short x;
};

struct __attribute__((aligned(2))) __nv_bfloat16 {
    unsigned short __x;

    __nv_bfloat16() = default;
    __nv_bfloat16(float v) : __x(from_float(v)) {
    }
    __nv_bfloat16(double v) : __x(from_float((float)v)) {
    }
    __nv_bfloat16(int v) : __x(from_float((float)v)) {
    }
    __nv_bfloat16(__nv_bfloat16_raw v) : __x(v.x) {
    }
    operator float() const {
        return __uint_as_float((unsigned)__x << 16);
    }

    static unsigned short from_float(float v) {
        unsigned bits = __float_as_uint(v);
        if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff; /* NaN, as the hardware makes it */
        return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
};
typedef __nv_bfloat16 nv_bfloat16;

struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;

    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {
    }
};
typedef __nv_bfloat162 nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float v) {
    return __nv_bfloat16(v);
}
inline __nv_bfloat16 __float2bfloat16_rn(float v) {
    return __nv_bfloat16(v);
}
inline __nv_bfloat16 __double2bfloat16(double v) {
    /* Rounded once: to odd in float32, then to nearest. */
    float f = (float)v;
    if ((double)f != v) {
        unsigned bits = __float_as_uint(f);
        bool away = (f < 0) != ((double)f > v); /* rounded away from zero */
        if (v == v && away && (double)f != v) bits -= 1;
        f = __uint_as_float(bits | 1u);
    }
    return __nv_bfloat16(f);
}
inline float __bfloat162float(__nv_bfloat16 v) {
    return (float)v;
}
inline __nv_bfloat162 __float2bfloat162_rn(float v) {
    return __nv_bfloat162(v, v);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return __nv_bfloat162(a, b);
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
    return __nv_bfloat162(v.x, v.y);
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
    return make_float2((float)v.x, (float)v.y);
}
inline float __low2float(__nv_bfloat162 v) {
    return (float)v.x;
}
inline float __high2float(__nv_bfloat162 v) {
    return (float)v.y;
}
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) {
    return v.x;
}
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) {
    return v.y;
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat162(a, b);
}
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat162(a, b);
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) {
    return v.__x;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
inline bool __hisnan(__nv_bfloat16 v) {
    return (v.__x & 0x7fffu) > 0x7f80u;
}

#endif /* __cplusplus */

#endif
