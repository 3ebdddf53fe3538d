/* Sums over a whole array in two launches: each block adds up its part, then one block adds the
 * parts to the result, in an order that the array's size and place alone decide. Included by the
 * .cu files of src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_PARTIALS_CUH
#define LKS_DEVICE_CUDA_PARTIALS_CUH

#include "device/cuda/kernel.cuh"

static inline double *lks_cuda_partials(const lks_stream *stream) {
    return ((const lks_cuda_stream *)stream)->partials;
}

/* Blocks for `items` of which a block takes `per_block` in turn; not a question of the device. */
static inline unsigned lks_cuda_partial_blocks(int64_t items, int64_t per_block) {
    const int64_t wanted = (items + per_block - 1) / per_block;
    return (unsigned)(wanted < LKS_CUDA_PARTIALS ? wanted : (int64_t)LKS_CUDA_PARTIALS);
}

/* result[i] = combine(result[i], parts of i) for i < VALUES; partials: [blocks][VALUES]. One warp
 * for each value. */
template <int VALUES, typename Combine>
static __global__ void lks_combine_partials(int blocks, const double *partials, double *result,
                                            Combine combine) {
    const int value = (int)threadIdx.x / LKS_CUDA_WARP, lane = (int)threadIdx.x % LKS_CUDA_WARP;
    double sum = 0;
    for (int b = lane; b < blocks; b += LKS_CUDA_WARP)
        sum = combine(sum, partials[b * VALUES + value]);
    sum = lks_warp_reduce(sum, combine);
    if (lane == 0) result[value] = combine(result[value], sum);
}

template <int VALUES, typename Combine>
static lks_status lks_cuda_combine(lks_stream *stream, const char *what, unsigned blocks,
                                   double *result, Combine combine) {
    return lks_cuda_launch(stream, what, lks_combine_partials<VALUES, Combine>, 1,
                           VALUES * LKS_CUDA_WARP, 0, (int)blocks, lks_cuda_partials(stream),
                           result, combine);
}

#endif
