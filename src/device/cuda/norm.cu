/* Parts of vector norms, in float64. */
#include "device/cuda/partials.cuh"
#include "device/cuda/run.cuh"

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

/* Magnitudes are never below 0, so that 0 is where the largest starts as well. */
template <typename T, typename Term, typename Combine>
static __global__ void norm_parts(lks_run run, const T *x, double *partials, Term term,
                                  Combine combine) {
    double sum = 0;
    lks_each<lks_pack<T>::COUNT>(run, [&](auto width, int64_t at) {
        float v[width];
        lks_load<T, width>(x + at, v);
        for (int j = 0; j < width; j++)
            sum = combine(sum, term(v[j]));
    });
    sum = lks_block_reduce(sum, 0.0, combine);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

template <typename T, typename Term, typename Combine>
static lks_status run_parts(lks_stream *stream, int64_t count, const T *x, double *norm, Term term,
                            Combine combine) {
    enum { PACK = lks_pack<T>::COUNT };
    const unsigned blocks = lks_cuda_partial_blocks(count, LKS_CUDA_BLOCK * PACK);
    lks_status status =
        lks_cuda_launch(stream, "norm", norm_parts<T, Term, Combine>, blocks, LKS_CUDA_BLOCK, 0,
                        lks_cuda_run<PACK>(count, x), x, lks_cuda_partials(stream), term, combine);
    if (status != LKS_OK) return status;
    return lks_cuda_combine<1>(stream, "norm", blocks, norm, combine);
}

lks_status lks_cuda_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind, int64_t count,
                         lks_dtype type, const void *x, double *norm) {
    (void)device;
    return lks_cuda_of_type(type, [&](auto zero) {
        const auto *values = (const decltype(zero) *)x;
        if (kind == LKS_NORM_1)
            return run_parts(stream, count, values, norm, magnitude(), lks_plus());
        if (kind == LKS_NORM_2) return run_parts(stream, count, values, norm, square(), lks_plus());
        return run_parts(stream, count, values, norm, magnitude(), lks_larger());
    });
}
