/* Arithmetic that CUDA has and the C library lacks. Approximate functions (__expf, ...) are exact
 * here: their error is for a real GPU to show. */
#ifndef LKS_CUDA_EMU_MATH_H
#define LKS_CUDA_EMU_MATH_H

#include <math.h>

#include <climits>
#include <cmath>

#include "emu_device.h"

#define LKS_EMU_MAKE(scalar, name)                                          \
    inline name##1 make_##name##1(scalar x) {                               \
        return name##1 {x};                                                 \
    }                                                                       \
    inline name##2 make_##name##2(scalar x, scalar y) {                     \
        return name##2 {x, y};                                              \
    }                                                                       \
    inline name##3 make_##name##3(scalar x, scalar y, scalar z) {           \
        return name##3 {x, y, z};                                           \
    }                                                                       \
    inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { \
        return name##4 {x, y, z, w};                                        \
    }
LKS_EMU_MAKE(signed char, char)
LKS_EMU_MAKE(unsigned char, uchar)
LKS_EMU_MAKE(short, short)
LKS_EMU_MAKE(unsigned short, ushort)
LKS_EMU_MAKE(int, int)
LKS_EMU_MAKE(unsigned, uint)
LKS_EMU_MAKE(long, long)
LKS_EMU_MAKE(unsigned long, ulong)
LKS_EMU_MAKE(long long, longlong)
LKS_EMU_MAKE(unsigned long long, ulonglong)
LKS_EMU_MAKE(float, float)
LKS_EMU_MAKE(double, double)
#undef LKS_EMU_MAKE

/* ---- min and max, as CUDA overloads them ---- */

#define LKS_EMU_MIN_MAX(T)    \
    inline T min(T a, T b) {  \
        return b < a ? b : a; \
    }                         \
    inline T max(T a, T b) {  \
        return a < b ? b : a; \
    }
LKS_EMU_MIN_MAX(int)
LKS_EMU_MIN_MAX(unsigned)
LKS_EMU_MIN_MAX(long)
LKS_EMU_MIN_MAX(unsigned long)
LKS_EMU_MIN_MAX(long long)
LKS_EMU_MIN_MAX(unsigned long long)
#undef LKS_EMU_MIN_MAX
#define LKS_EMU_MIXED_MIN_MAX(A, B, T) \
    inline T min(A a, B b) {           \
        return min((T)a, (T)b);        \
    }                                  \
    inline T max(A a, B b) {           \
        return max((T)a, (T)b);        \
    }
LKS_EMU_MIXED_MIN_MAX(int, unsigned, unsigned)
LKS_EMU_MIXED_MIN_MAX(unsigned, int, unsigned)
LKS_EMU_MIXED_MIN_MAX(long long, unsigned long long, unsigned long long)
LKS_EMU_MIXED_MIN_MAX(unsigned long long, long long, unsigned long long)
#undef LKS_EMU_MIXED_MIN_MAX
inline float min(float a, float b) {
    return fminf(a, b);
}
inline float max(float a, float b) {
    return fmaxf(a, b);
}
inline double min(double a, double b) {
    return fmin(a, b);
}
inline double max(double a, double b) {
    return fmax(a, b);
}

/* ---- bits ---- */

inline float __int_as_float(int v) {
    return emu::from_bits<float>(emu::to_bits(v));
}
inline int __float_as_int(float v) {
    return emu::from_bits<int>(emu::to_bits(v));
}
inline float __uint_as_float(unsigned v) {
    return emu::from_bits<float>(emu::to_bits(v));
}
inline unsigned __float_as_uint(float v) {
    return emu::from_bits<unsigned>(emu::to_bits(v));
}
inline double __longlong_as_double(long long v) {
    return emu::from_bits<double>(emu::to_bits(v));
}
inline long long __double_as_longlong(double v) {
    return emu::from_bits<long long>(emu::to_bits(v));
}
inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
inline int __popcll(unsigned long long v) {
    return __builtin_popcountll(v);
}
inline int __clz(int v) {
    return v ? __builtin_clz((unsigned)v) : 32;
}
inline int __clzll(long long v) {
    return v ? __builtin_clzll((unsigned long long)v) : 64;
}
inline int __ffs(int v) {
    return __builtin_ffs(v);
}
inline int __ffsll(long long v) {
    return __builtin_ffsll(v);
}
inline unsigned __brev(unsigned v) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (v >> i & 1u) << (31 - i);
    return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
inline int __mulhi(int a, int b) {
    return (int)((int64_t)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    by &= 31;
    return by ? high << by | low >> (32 - by) : high;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    by &= 31;
    return by ? low >> by | high << (32 - by) : low;
}

/* ---- floating point ---- */

inline float rsqrtf(float v) {
    return (float)(1.0 / sqrt((double)v));
}
inline double rsqrt(double v) {
    return 1.0 / sqrt(v);
}
inline float __expf(float v) {
    return expf(v);
}
inline float __exp10f(float v) {
    return exp10f(v);
}
inline float __logf(float v) {
    return logf(v);
}
inline float __log2f(float v) {
    return log2f(v);
}
inline float __powf(float a, float b) {
    return powf(a, b);
}
inline float __sinf(float v) {
    return sinf(v);
}
inline float __cosf(float v) {
    return cosf(v);
}
inline float __tanhf(float v) {
    return tanhf(v);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float __saturatef(float v) {
    return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f;
}
inline float normcdff(float v) {
    return (float)(0.5 * erfc(-(double)v * 0.70710678118654752440));
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
inline float __frcp_rn(float a) {
    return 1.0f / a;
}
inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}
inline float __frsqrt_rn(float a) {
    return rsqrtf(a);
}
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline double __dsub_rn(double a, double b) {
    return a - b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __ddiv_rn(double a, double b) {
    return a / b;
}
inline double __dsqrt_rn(double a) {
    return sqrt(a);
}
inline double __fma_rn(double a, double b, double c) {
    return fma(a, b, c);
}
inline int __float2int_rn(float v) {
    return (int)rintf(v);
}
inline int __float2int_rz(float v) {
    return (int)v;
}
inline int __float2int_rd(float v) {
    return (int)floorf(v);
}
inline unsigned __float2uint_rn(float v) {
    return (unsigned)rintf(v);
}
inline unsigned __float2uint_rz(float v) {
    return (unsigned)v;
}
inline float __int2float_rn(int v) {
    return (float)v;
}
inline float __uint2float_rn(unsigned v) {
    return (float)v;
}
inline float __ll2float_rn(long long v) {
    return (float)v;
}
inline float __double2float_rn(double v) {
    return (float)v;
}

#endif
