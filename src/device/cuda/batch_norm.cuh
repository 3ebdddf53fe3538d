/* The passes of batch norm over memory, once for each layout. Included by the .cu files of
 * src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_BATCH_NORM_CUH
#define LKS_DEVICE_CUDA_BATCH_NORM_CUH

#include "device/cuda/column_sums.cuh"

/* One call. x, y, dy, dx: [batch, spatial, channels] or [batch, channels, spatial]; everything else
 * is [channels] unless it says otherwise. Pointers are NULL where there is no such thing. x, y, dy,
 * dx, weight and bias are of the device's element type. */
struct lks_batch_norm_job {
    lks_stream *stream;
    int64_t batch, spatial, channels;
    bool relu, adds_x2;
    const void *x;
    void *y;
    const void *dy; /* read before dx is written, which may be the same memory */
    void *dx;
    /* A second summand, of y's shape: y = (x - mean) invstd weight + bias + x2, before the ReLU.
     * Then the gradient of the sum is dy, 0 where relu_y <= 0 (relu_y may be NULL), and
     * gradient_sums writes it to `summed` (NULL: it is dy as it stands). */
    const void *x2, *relu_y;
    void *summed;
    const float *mean, *invstd;
    const void *weight, *bias;
    /* What the gradient of x owes to the batch's statistics: sums of dy, and of dy (x - mean), over
     * `count` values ([2][channels]); NULL where the statistics are given. */
    const double *sums, *count;
    double *partial; /* [chunks][2][channels], in scratch memory */
    int64_t chunks;  /* lks_batch_norm_chunks */
};

struct lks_batch_norm_passes {
    /* Partial sums of x - shift and of its square, where shift is the channel's first value: near
     * enough to the mean that the variance keeps its digits. */
    lks_status (*moments)(const lks_batch_norm_job *job);
    /* y = (x - mean) invstd weight + bias, then max(0, y) with relu */
    lks_status (*normalise)(const lks_batch_norm_job *job);
    /* Partial sums of dy, and of dy (x - mean); with relu, dy counts as 0 where y <= 0. y is
     * computed again from x, unless it is the sum with x2. */
    lks_status (*gradient_sums)(const lks_batch_norm_job *job);
    /* dx from dy, which is `summed` by now if there is one. */
    lks_status (*gradient)(const lks_batch_norm_job *job);
};

extern const lks_batch_norm_passes lks_cuda_batch_norm_columns; /* channels-last */
extern const lks_batch_norm_passes lks_cuda_batch_norm_rows;

static inline int64_t lks_batch_norm_chunks(int64_t batch, int64_t spatial, int64_t channels) {
    return lks_column_chunks(batch * spatial, channels);
}

/* How one channel's numbers change: y = (x - mean) scale + shift, and
 * dx = scale (g - mean(g) - xhat mean(g xhat)), with g = dy, with relu 0 where y <= 0, and
 * xhat = (x - mean) invstd. */
struct lks_batch_norm_channel {
    float mean, scale, shift, constant, slope;
    bool relu;

    template <typename T>
    __device__ void set(const lks_batch_norm_job &job, const T *weight, const T *bias, int64_t c) {
        const float invstd = job.invstd[c];
        mean = job.mean[c];
        scale = weight ? lks_to_float(weight[c]) * invstd : invstd;
        shift = bias ? lks_to_float(bias[c]) : 0.0f;
        relu = job.relu && !job.adds_x2;
    }
    /* After set, for dx. */
    __device__ void set_correction(const lks_batch_norm_job &job, int64_t c) {
        constant = slope = 0.0f;
        if (!job.sums) return;
        const double share = (double)scale / *job.count, invstd = (double)job.invstd[c];
        constant = (float)(share * job.sums[c]);
        slope = (float)(share * invstd * invstd * job.sums[job.channels + c]);
    }
    __device__ float normalised(float x) const {
        const float v = (x - mean) * scale + shift;
        return relu && v <= 0.0f ? 0.0f : v;
    }
    /* dy as it arrives in front of the ReLU */
    __device__ float through(float x, float dy) const {
        return relu && (x - mean) * scale + shift <= 0.0f ? 0.0f : dy;
    }
    __device__ float gradient(float x, float dy) const {
        return through(x, dy) * scale - constant - (x - mean) * slope;
    }
};

/* Adds x2 to N normalised values, where the operation does so, and applies its ReLU to the sum. */
template <typename T, int N>
static __device__ void lks_batch_norm_join(const lks_batch_norm_job &job, int64_t at, float *v) {
    if (!job.adds_x2) return;
    float more[N];
    lks_load<T, N>((const T *)job.x2 + at, more);
    for (int i = 0; i < N; i++) {
        const float sum = v[i] + more[i];
        v[i] = job.relu && sum <= 0.0f ? 0.0f : sum;
    }
}

/* Where x2 is added: makes N gradients of y those of the sum, and writes them. */
template <typename T, int N>
static __device__ void lks_batch_norm_part(const lks_batch_norm_job &job, int64_t at, float *dy) {
    if (job.relu_y) {
        float y[N];
        lks_load<T, N>((const T *)job.relu_y + at, y);
        for (int i = 0; i < N; i++)
            dy[i] = y[i] <= 0.0f ? 0.0f : dy[i];
    }
    if (job.summed) lks_store<T, N>((T *)job.summed + at, dy);
}

/* Calls work(T(), n) for the element type and the elements of an access; aligned: may the call's
 * arrays be read in packs, if their rows of `width` have whole ones? */
template <typename Work>
static lks_status lks_batch_norm_in_packs(const lks_batch_norm_job *job, int64_t width,
                                          bool aligned, Work &&work) {
    return lks_cuda_typed(job->stream->device, [&](auto zero) {
        return lks_cuda_in_packs<decltype(zero)>(width, aligned,
                                                 [&](auto n) { return work(zero, n); });
    });
}

#endif
