/* What a kernel calls besides arithmetic: where it is, barriers, warps, atomics. */
#ifndef LKS_CUDA_EMU_DEVICE_H
#define LKS_CUDA_EMU_DEVICE_H

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vector_types.h"

/* Set by the emulator before a thread goes on; for the thread itself they never change, so a
 * compiler may keep them in registers. */
extern const __thread uint3 threadIdx, blockIdx;
extern const __thread uint3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace emu {

enum class Access { read, write, atomic };

void barrier(const char *what);
/* A kernel's access that the compiler's instrumentation does not show. */
void check(const void *memory, size_t bytes, Access access, size_t alignment);
unsigned lane();

/* All lanes of `mask` meet in the operation called `what`; the last one to arrive calls `finish`,
 * which gets what each lane brought and sets each lane's result. Lanes that come with another mask
 * or `finish` do not meet: the test fails. */
struct Gathered {
    unsigned mask;
    uint64_t value[32];
    const void *pointer[32];
    uint64_t result[32];
};
typedef void (*Finish)(Gathered &lanes);
uint64_t meet(const char *what, unsigned mask, uint64_t value, const void *pointer, Finish finish);
uint64_t shuffle(const char *what, unsigned mask, uint64_t value, int source);

template <typename T> inline uint64_t to_bits(T v) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle's operand");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &v, sizeof v);
    return bits;
}
template <typename T> inline T from_bits(uint64_t bits) {
    T v;
    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}

/* The lane that __shfl_*_sync reads; a lane outside the segment of `width` gives the own value. */
inline int segment_end(int width) {
    return (int)lane() | (width - 1);
}
inline int segment_start(int width) {
    return (int)lane() & ~(width - 1);
}

} // namespace emu

/* ---- barriers ---- */

inline void __syncthreads() {
    emu::barrier("__syncthreads");
}
int __syncthreads_count(int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_or(int predicate);
void __syncwarp(unsigned mask = 0xffffffffu);
inline void __threadfence() {
}
inline void __threadfence_block() {
}
inline void __threadfence_system() {
}

/* ---- warps ---- */

template <typename T> inline T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
    int from = emu::segment_start(width) + (source & (width - 1));
    return emu::from_bits<T>(emu::shuffle("__shfl_sync", mask, emu::to_bits(v), from));
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    int from = (int)emu::lane() - (int)by;
    if (from < emu::segment_start(width)) from = (int)emu::lane();
    return emu::from_bits<T>(emu::shuffle("__shfl_up_sync", mask, emu::to_bits(v), from));
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    int from = (int)emu::lane() + (int)by;
    if (from > emu::segment_end(width)) from = (int)emu::lane();
    return emu::from_bits<T>(emu::shuffle("__shfl_down_sync", mask, emu::to_bits(v), from));
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) {
    int from = (int)emu::lane() ^ with;
    if (from > emu::segment_end(width)) from = (int)emu::lane();
    return emu::from_bits<T>(emu::shuffle("__shfl_xor_sync", mask, emu::to_bits(v), from));
}

unsigned __ballot_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
unsigned __match_any_sync(unsigned mask, unsigned value);
unsigned __reduce_add_sync(unsigned mask, unsigned value);
int __reduce_add_sync(unsigned mask, int value);
unsigned __reduce_min_sync(unsigned mask, unsigned value);
int __reduce_min_sync(unsigned mask, int value);
unsigned __reduce_max_sync(unsigned mask, unsigned value);
int __reduce_max_sync(unsigned mask, int value);
unsigned __reduce_or_sync(unsigned mask, unsigned value);
unsigned __reduce_and_sync(unsigned mask, unsigned value);

/* ---- atomics: integers only, because a sum of floats would depend on the order ---- */

namespace emu {
/* Accesses that `check` has seen. */
uint64_t load(const void *from, size_t bytes);
void store(void *to, size_t bytes, uint64_t value);

template <typename T, typename F> inline T atomic(T *at, F change) {
    static_assert(std::is_integral<T>::value, "integer atomics only");
    check(at, sizeof *at, Access::atomic, sizeof *at);
    T old = from_bits<T>(load(at, sizeof *at)), changed = change(old);
    store(at, sizeof *at, to_bits(changed));
    return old;
}
} // namespace emu

#define LKS_EMU_ATOMICS(T)                                                        \
    inline T atomicAdd(T *at, T v) {                                              \
        return emu::atomic(at, [v](T old) { return (T)(old + v); });              \
    }                                                                             \
    inline T atomicExch(T *at, T v) {                                             \
        return emu::atomic(at, [v](T) { return v; });                             \
    }                                                                             \
    inline T atomicMax(T *at, T v) {                                              \
        return emu::atomic(at, [v](T old) { return old > v ? old : v; });         \
    }                                                                             \
    inline T atomicMin(T *at, T v) {                                              \
        return emu::atomic(at, [v](T old) { return old < v ? old : v; });         \
    }                                                                             \
    inline T atomicOr(T *at, T v) {                                               \
        return emu::atomic(at, [v](T old) { return (T)(old | v); });              \
    }                                                                             \
    inline T atomicAnd(T *at, T v) {                                              \
        return emu::atomic(at, [v](T old) { return (T)(old & v); });              \
    }                                                                             \
    inline T atomicCAS(T *at, T expected, T v) {                                  \
        return emu::atomic(at, [=](T old) { return old == expected ? v : old; }); \
    }
LKS_EMU_ATOMICS(int)
LKS_EMU_ATOMICS(unsigned)
LKS_EMU_ATOMICS(unsigned long long)
#undef LKS_EMU_ATOMICS
/* Wraps around: counts 0 .. limit. */
inline unsigned atomicInc(unsigned *at, unsigned limit) {
    return emu::atomic(at, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}

/* ---- loads and stores with cache hints ---- */

#define LKS_EMU_LOAD(name)                            \
    template <typename T> inline T name(const T *p) { \
        return *p;                                    \
    }
LKS_EMU_LOAD(__ldg)
LKS_EMU_LOAD(__ldca)
LKS_EMU_LOAD(__ldcg)
LKS_EMU_LOAD(__ldcs)
LKS_EMU_LOAD(__ldcv)
LKS_EMU_LOAD(__ldlu)
#undef LKS_EMU_LOAD
#define LKS_EMU_STORE(name)                             \
    template <typename T> inline void name(T *p, T v) { \
        *p = v;                                         \
    }
LKS_EMU_STORE(__stcg)
LKS_EMU_STORE(__stcs)
LKS_EMU_STORE(__stwb)
LKS_EMU_STORE(__stwt)
#undef LKS_EMU_STORE

#endif
