/* Arrays that a kernel walks through side by side, element by element, wherever they begin: in
 * packs from the first place on at which packs of all of them are aligned, and one by one before
 * and behind. Included by the .cu files of src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_RUN_CUH
#define LKS_DEVICE_CUDA_RUN_CUH

#include "device/cuda/kernel.cuh"

struct lks_run {
    int64_t count, head, packs; /* elements; those in front of the packs; packs */
};

template <int N, typename T> static bool lks_starts_pack(const T *array, int64_t at) {
    enum { BYTES = (int)lks_access<T, N>::COUNT * (int)sizeof(T) };
    return (uintptr_t)(array + at) % BYTES == 0;
}

/* N: elements of a pack. An array that is NULL has no say. Where the arrays lie so differently that
 * there is no such place, all elements go one by one. */
template <int N, typename... Ts> static lks_run lks_cuda_run(int64_t count, const Ts *...arrays) {
    for (int64_t head = 0; head < N && head + N <= count; head++)
        if (((!arrays || lks_starts_pack<N>(arrays, head)) && ...))
            return lks_run{count, head, (count - head) / N};
    return lks_run{count, 0, 0};
}

/* As lks_cuda_blocks. */
static inline unsigned lks_cuda_run_blocks(const lks_stream *stream, const lks_run &run) {
    return lks_cuda_blocks(stream, run.packs > 0 ? run.packs : run.count, LKS_CUDA_BLOCK);
}

/* Calls f(width, at) for this thread's part of the run: the `width` elements from `at` on, width
 * being a compile-time number, N or 1. */
template <int N, typename F> static __device__ void lks_each(const lks_run &run, F f) {
    for (int64_t p = lks_thread(); p < run.packs; p += lks_threads())
        f(lks_number<N>(), run.head + p * N);
    for (int64_t i = lks_thread(); i < run.count - run.packs * N; i += lks_threads())
        f(lks_number<1>(), i < run.head ? i : i + run.packs * N);
}

#endif
