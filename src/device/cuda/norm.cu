/* Parts of vector norms, in float64. */
#include "device/cuda/partials.cuh"

namespace {

struct magnitude {
    __device__ double operator()(float x) const {
        return (double)fabsf(x);
    }
};

struct square {
    __device__ double operator()(float x) const {
        return (double)x * (double)x;
    }
};

} // namespace

/* The first `packs` packs whole, the rest one by one. Magnitudes are never below 0, so that 0 is
 * where the largest starts as well. */
template <typename T, typename Term, typename Combine>
static __global__ void norm_parts(int64_t count, int64_t packs, const T *x, double *partials,
                                  Term term, Combine combine) {
    enum { PACK = lks_pack<T>::COUNT };
    double sum = 0;
    for (int64_t p = lks_thread(); p < packs; p += lks_threads()) {
        float v[PACK];
        lks_load<T, PACK>(x + p * PACK, v);
        for (int j = 0; j < PACK; j++)
            sum = combine(sum, term(v[j]));
    }
    for (int64_t i = packs * PACK + lks_thread(); i < count; i += lks_threads())
        sum = combine(sum, term(lks_to_float(x[i])));
    sum = lks_block_reduce(sum, 0.0, combine);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

template <typename T, typename Term, typename Combine>
static lks_status run(lks_stream *stream, int64_t count, const T *x, double *norm, Term term,
                      Combine combine) {
    enum { PACK = lks_pack<T>::COUNT };
    const int64_t packs = lks_cuda_aligned(x) ? count / PACK : 0;
    const unsigned blocks = lks_cuda_partial_blocks(count, LKS_CUDA_BLOCK * PACK);
    lks_status status =
        lks_cuda_launch(stream, "norm", norm_parts<T, Term, Combine>, blocks, LKS_CUDA_BLOCK, 0,
                        count, packs, x, lks_cuda_partials(stream), term, combine);
    if (status != LKS_OK) return status;
    return lks_cuda_combine<1>(stream, "norm", blocks, norm, combine);
}

lks_status lks_cuda_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind, int64_t count,
                         lks_dtype type, const void *x, double *norm) {
    (void)device;
    return lks_cuda_of_type(type, [&](auto zero) {
        const auto *values = (const decltype(zero) *)x;
        if (kind == LKS_NORM_1) return run(stream, count, values, norm, magnitude(), lks_plus());
        if (kind == LKS_NORM_2) return run(stream, count, values, norm, square(), lks_plus());
        return run(stream, count, values, norm, magnitude(), lks_larger());
    });
}
