/* CUDA's vector types, with its sizes and alignments. */
#ifndef LKS_CUDA_EMU_VECTOR_TYPES_H
#define LKS_CUDA_EMU_VECTOR_TYPES_H

#define LKS_EMU_ALIGN(n) __attribute__((aligned(n)))

#define LKS_EMU_VECTORS(scalar, name, a2, a4)  \
    typedef struct name##1 {                   \
        scalar x;                              \
    }                                          \
    name##1;                                   \
    typedef struct LKS_EMU_ALIGN(a2) name##2 { \
        scalar x, y;                           \
    }                                          \
    name##2;                                   \
    typedef struct name##3 {                   \
        scalar x, y, z;                        \
    }                                          \
    name##3;                                   \
    typedef struct LKS_EMU_ALIGN(a4) name##4 { \
        scalar x, y, z, w;                     \
    }                                          \
    name##4;

LKS_EMU_VECTORS(signed char, char, 2, 4)
LKS_EMU_VECTORS(unsigned char, uchar, 2, 4)
LKS_EMU_VECTORS(short, short, 4, 8)
LKS_EMU_VECTORS(unsigned short, ushort, 4, 8)
LKS_EMU_VECTORS(int, int, 8, 16)
LKS_EMU_VECTORS(unsigned, uint, 8, 16)
LKS_EMU_VECTORS(long, long, 16, 16)
LKS_EMU_VECTORS(unsigned long, ulong, 16, 16)
LKS_EMU_VECTORS(long long, longlong, 16, 16)
LKS_EMU_VECTORS(unsigned long long, ulonglong, 16, 16)
LKS_EMU_VECTORS(float, float, 8, 16)
LKS_EMU_VECTORS(double, double, 16, 16)

typedef struct dim3 {
    unsigned x, y, z;
#ifdef __cplusplus
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {
    }
    constexpr operator uint3() const {
        return uint3{x, y, z};
    }
#endif
} dim3;

#endif
