/* Kernels that work on rows of numbers side by side: a warp takes a short row, a block of threads a
 * long one, and reads it as often as it needs from the cache. Included by the .cu files of
 * src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_ROWS_CUH
#define LKS_DEVICE_CUDA_ROWS_CUH

#include "device/cuda/kernel.cuh"

enum { LKS_CUDA_WARP_ROW = 1024 }; /* elements up to which a warp takes a row */

/* Who works on a row: the whole block or one warp of it. N: elements of an access, which divides
 * the row's length where it is not 1. */
template <bool BLOCK, int N> struct lks_row_team {
    enum { WIDTH = N };
    static __device__ int thread() {
        return BLOCK ? (int)threadIdx.x : (int)threadIdx.x % LKS_CUDA_WARP;
    }
    static __device__ int threads() {
        return BLOCK ? (int)blockDim.x : (int)LKS_CUDA_WARP;
    }
    /* The loop over rows is for (row = first(); row < rows; row += stride()). */
    static __device__ int64_t first() {
        if (BLOCK) return blockIdx.x;
        return lks_thread() / LKS_CUDA_WARP;
    }
    static __device__ int64_t stride() {
        if (BLOCK) return gridDim.x;
        return lks_threads() / LKS_CUDA_WARP;
    }

    template <typename V> static __device__ V sum(V value) {
        if constexpr (BLOCK)
            return lks_block_sum(value);
        else
            return lks_warp_reduce(value, lks_plus());
    }
    static __device__ float max(float value) {
        if constexpr (BLOCK)
            return lks_block_reduce(value, -INFINITY, lks_larger());
        else
            return lks_warp_reduce(value, lks_larger());
    }

    /* Calls f(i, values) for the N elements of the row from i on, this thread's part of them. */
    template <typename T, typename F> static __device__ void each(const T *row, int64_t size, F f) {
        for (int64_t i = (int64_t)thread() * N; i < size; i += (int64_t)threads() * N) {
            float values[N];
            lks_load<T, N>(row + i, values);
            f(i, values);
        }
    }
    /* The same, and writes what f makes of the values; out may be row. */
    template <typename T, typename F>
    static __device__ void map(const T *row, T *out, int64_t size, F f) {
        each(row, size, [&](int64_t i, float *values) {
            f(i, values);
            lks_store<T, N>(out + i, values);
        });
    }
};

/* Calls work(team) with the team for rows of `size` elements; aligned: may rows be read in packs,
 * if they have whole ones? */
template <typename T, typename Work>
static lks_status lks_with_row_team(int64_t size, bool aligned, Work work) {
    return lks_cuda_in_packs<T>(size, aligned, [&](auto n) {
        return size > LKS_CUDA_WARP_ROW ? work(lks_row_team<true, n>())
                                        : work(lks_row_team<false, n>());
    });
}

/* Rows that a block of LKS_CUDA_BLOCK threads takes at a time. */
static inline int64_t lks_rows_of_block(int64_t size) {
    return size > LKS_CUDA_WARP_ROW ? 1 : LKS_CUDA_BLOCK / LKS_CUDA_WARP;
}

#endif
