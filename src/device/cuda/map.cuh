/* Functions of each element of one or two arrays, in packs of 16 bytes. Included by the .cu files
 * of src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_MAP_CUH
#define LKS_DEVICE_CUDA_MAP_CUH

#include "device/cuda/run.cuh"

/* out[i] = f(a[i]); out may be a. */
template <typename T, typename F>
static __global__ void lks_map_kernel(lks_run run, const T *a, T *out, F f) {
    lks_each<lks_pack<T>::COUNT>(run, [&](auto width, int64_t at) {
        float v[width];
        lks_load<T, width>(a + at, v);
        for (int j = 0; j < width; j++)
            v[j] = f(v[j]);
        lks_store<T, width>(out + at, v);
    });
}

/* out[i] = f(a[i], b[i]); out may be a or b. */
template <typename T, typename F>
static __global__ void lks_map2_kernel(lks_run run, const T *a, const T *b, T *out, F f) {
    lks_each<lks_pack<T>::COUNT>(run, [&](auto width, int64_t at) {
        float v[width], w[width];
        lks_load<T, width>(a + at, v);
        lks_load<T, width>(b + at, w);
        for (int j = 0; j < width; j++)
            v[j] = f(v[j], w[j]);
        lks_store<T, width>(out + at, v);
    });
}

template <typename T, typename F>
static lks_status lks_map(lks_stream *stream, const char *what, int64_t count, const void *a,
                          void *out, F f) {
    const T *from = (const T *)a;
    T *to = (T *)out;
    const lks_run run = lks_cuda_run<lks_pack<T>::COUNT>(count, from, to);
    return lks_cuda_launch(stream, what, lks_map_kernel<T, F>, lks_cuda_run_blocks(stream, run),
                           LKS_CUDA_BLOCK, 0, run, from, to, f);
}

template <typename T, typename F>
static lks_status lks_map2(lks_stream *stream, const char *what, int64_t count, const void *a,
                           const void *b, void *out, F f) {
    const T *left = (const T *)a, *right = (const T *)b;
    T *to = (T *)out;
    const lks_run run = lks_cuda_run<lks_pack<T>::COUNT>(count, left, right, to);
    return lks_cuda_launch(stream, what, lks_map2_kernel<T, F>, lks_cuda_run_blocks(stream, run),
                           LKS_CUDA_BLOCK, 0, run, left, right, to, f);
}

/* Copies count elements of the device's type on the device; nothing where from is to. */
static inline lks_status lks_cuda_copy(lks_stream *stream, int64_t count, const void *from,
                                       void *to) {
    const size_t bytes = (size_t)count * lks_dtype_bytes(lks_device_dtype(stream->device));
    if (from == to || bytes == 0) return LKS_OK;
    return lks_cuda_memory_ops.copy(stream->device, stream, to, from, bytes, LKS_COPY_ON_DEVICE);
}

#endif
