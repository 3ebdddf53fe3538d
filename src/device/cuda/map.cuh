/* Functions of each element of one or two arrays, in packs of 16 bytes. Included by the .cu files
 * of src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_MAP_CUH
#define LKS_DEVICE_CUDA_MAP_CUH

#include "device/cuda/kernel.cuh"

/* out[i] = f(a[i]); out may be a. The first `packs` packs whole, which must be aligned, the rest
 * one by one. */
template <typename T, typename F>
static __global__ void lks_map_kernel(int64_t count, int64_t packs, const T *a, T *out, F f) {
    enum { PACK = lks_pack<T>::COUNT };
    for (int64_t p = lks_thread(); p < packs; p += lks_threads()) {
        float v[PACK];
        lks_load<T, PACK>(a + p * PACK, v);
        for (int j = 0; j < PACK; j++)
            v[j] = f(v[j]);
        lks_store<T, PACK>(out + p * PACK, v);
    }
    for (int64_t i = packs * PACK + lks_thread(); i < count; i += lks_threads())
        lks_set(&out[i], f(lks_to_float(a[i])));
}

/* out[i] = f(a[i], b[i]); out may be a or b. */
template <typename T, typename F>
static __global__ void lks_map2_kernel(int64_t count, int64_t packs, const T *a, const T *b, T *out,
                                       F f) {
    enum { PACK = lks_pack<T>::COUNT };
    for (int64_t p = lks_thread(); p < packs; p += lks_threads()) {
        float v[PACK], w[PACK];
        lks_load<T, PACK>(a + p * PACK, v);
        lks_load<T, PACK>(b + p * PACK, w);
        for (int j = 0; j < PACK; j++)
            v[j] = f(v[j], w[j]);
        lks_store<T, PACK>(out + p * PACK, v);
    }
    for (int64_t i = packs * PACK + lks_thread(); i < count; i += lks_threads())
        lks_set(&out[i], f(lks_to_float(a[i]), lks_to_float(b[i])));
}

template <typename T, typename F>
static lks_status lks_map(lks_stream *stream, const char *what, int64_t count, const void *a,
                          void *out, F f) {
    const int64_t packs = lks_cuda_aligned(a, out) ? count / lks_pack<T>::COUNT : 0;
    const int64_t items = packs > 0 ? packs : count;
    return lks_cuda_launch(stream, what, lks_map_kernel<T, F>,
                           lks_cuda_blocks(stream, items, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0, count,
                           packs, (const T *)a, (T *)out, f);
}

template <typename T, typename F>
static lks_status lks_map2(lks_stream *stream, const char *what, int64_t count, const void *a,
                           const void *b, void *out, F f) {
    const int64_t packs = lks_cuda_aligned(a, b, out) ? count / lks_pack<T>::COUNT : 0;
    const int64_t items = packs > 0 ? packs : count;
    return lks_cuda_launch(stream, what, lks_map2_kernel<T, F>,
                           lks_cuda_blocks(stream, items, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0, count,
                           packs, (const T *)a, (const T *)b, (T *)out, f);
}

/* Copies count elements of the device's type on the device; nothing where from is to. */
static inline lks_status lks_cuda_copy(lks_stream *stream, int64_t count, const void *from,
                                       void *to) {
    const size_t bytes = (size_t)count * lks_dtype_bytes(lks_cuda_dtype(stream->device));
    if (from == to || bytes == 0) return LKS_OK;
    return lks_cuda_memory_ops.copy(stream->device, stream, to, from, bytes, LKS_COPY_ON_DEVICE);
}

#endif
