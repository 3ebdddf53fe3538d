/* Between bfloat16 and float32. */
#include "device/cuda/run.cuh"

enum { PACK = 8 }; /* 16 bytes of bfloat16, two accesses of float32 */

template <typename From, typename To>
static __global__ void cast_kernel(lks_run run, const From *from, To *to) {
    lks_each<PACK>(run, [&](auto width, int64_t at) {
        float values[width];
        lks_load<From, width>(from + at, values);
        lks_store<To, width>(to + at, values);
    });
}

template <typename From, typename To>
static lks_status cast(lks_stream *stream, int64_t count, const From *from, To *to) {
    const lks_run run = lks_cuda_run<PACK>(count, from, to);
    return lks_cuda_launch(stream, "cast", cast_kernel<From, To>, lks_cuda_run_blocks(stream, run),
                           LKS_CUDA_BLOCK, 0, run, from, to);
}

lks_status lks_cuda_cast(lks_device *device, lks_stream *stream, int64_t count, lks_dtype from_type,
                         const void *from, lks_dtype to_type, void *to) {
    (void)device;
    (void)to_type; /* the other one */
    return from_type == LKS_BF16 ? cast(stream, count, (const __nv_bfloat16 *)from, (float *)to)
                                 : cast(stream, count, (const float *)from, (__nv_bfloat16 *)to);
}
