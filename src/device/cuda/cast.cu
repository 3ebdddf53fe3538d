/* Between bfloat16 and float32. */
#include "device/cuda/kernel.cuh"

enum { PACK = 8 }; /* 16 bytes of bfloat16 */

/* Eight numbers: one access for bfloat16, two for float32. */
static __device__ inline void load_pack(const float *from, float *out) {
    lks_load<float, PACK / 2>(from, out);
    lks_load<float, PACK / 2>(from + PACK / 2, out + PACK / 2);
}

static __device__ inline void load_pack(const __nv_bfloat16 *from, float *out) {
    lks_load<__nv_bfloat16, PACK>(from, out);
}

static __device__ inline void store_pack(float *to, const float *values) {
    lks_store<float, PACK / 2>(to, values);
    lks_store<float, PACK / 2>(to + PACK / 2, values + PACK / 2);
}

static __device__ inline void store_pack(__nv_bfloat16 *to, const float *values) {
    lks_store<__nv_bfloat16, PACK>(to, values);
}

/* The first `packs` packs whole, which must be aligned, the rest one by one. */
template <typename From, typename To>
static __global__ void cast_kernel(int64_t count, int64_t packs, const From *from, To *to) {
    for (int64_t p = lks_thread(); p < packs; p += lks_threads()) {
        float values[PACK];
        load_pack(from + p * PACK, values);
        store_pack(to + p * PACK, values);
    }
    for (int64_t i = packs * PACK + lks_thread(); i < count; i += lks_threads())
        lks_set(&to[i], lks_to_float(from[i]));
}

template <typename From, typename To>
static lks_status run(lks_stream *stream, int64_t count, const void *from, void *to) {
    const int64_t packs = lks_cuda_aligned(from, to) ? count / PACK : 0;
    return lks_cuda_launch(stream, "cast", cast_kernel<From, To>,
                           lks_cuda_blocks(stream, packs > 0 ? packs : count, LKS_CUDA_BLOCK),
                           LKS_CUDA_BLOCK, 0, count, packs, (const From *)from, (To *)to);
}

lks_status lks_cuda_cast(lks_device *device, lks_stream *stream, int64_t count, lks_dtype from_type,
                         const void *from, lks_dtype to_type, void *to) {
    (void)device;
    (void)to_type; /* the other one */
    return from_type == LKS_BF16 ? run<__nv_bfloat16, float>(stream, count, from, to)
                                 : run<float, __nv_bfloat16>(stream, count, from, to);
}
