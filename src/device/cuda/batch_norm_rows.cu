/* Batch norm of [batch, channels, spatial] memory: every channel is `batch` rows of `spatial`
 * neighbours. */
#include "device/cuda/batch_norm.cuh"

/* ---- sums: blockIdx.x is the channel, blockIdx.y the chunk of the batch ---- */

/* Adds a and b over the block into chunk blockIdx.y of the partial sums. */
static __device__ void store_sums(const lks_batch_norm_job &job, double a, double b) {
    const int64_t c = blockIdx.x, at = blockIdx.y * 2 * job.channels + c;
    a = lks_block_sum(a);
    b = lks_block_sum(b);
    if (threadIdx.x != 0) return;
    job.partial[at] = a;
    job.partial[at + job.channels] = b;
}

/* Calls f(place) for this thread's part of the chunk's numbers of the channel. Rows may be shorter
 * than the block; the place of the next number is found without dividing. */
template <typename F> static __device__ void each_of_chunk(const lks_batch_norm_job &job, F f) {
    const int64_t end = job.batch * (blockIdx.y + 1) / gridDim.y, spatial = job.spatial;
    const int64_t next_n = blockDim.x / spatial, next_i = blockDim.x % spatial;
    int64_t n = job.batch * blockIdx.y / gridDim.y + threadIdx.x / spatial;
    int64_t i = threadIdx.x % spatial;
    while (n < end) {
        f((n * job.channels + blockIdx.x) * spatial + i);
        n += next_n;
        i += next_i;
        if (i < spatial) continue;
        i -= spatial;
        n++;
    }
}

template <typename T> static __global__ void moments_kernel(lks_batch_norm_job job) {
    const T *x = (const T *)job.x;
    double a = 0, b = 0;
    each_of_chunk(job, [&](int64_t at) {
        const double shift = (double)lks_to_float(x[blockIdx.x * job.spatial]);
        const double difference = (double)lks_to_float(x[at]) - shift;
        a += difference;
        b += difference * difference;
    });
    store_sums(job, a, b);
}

template <typename T> static __global__ void gradient_sums_kernel(lks_batch_norm_job job) {
    const T *x = (const T *)job.x, *dy = (const T *)job.dy;
    lks_batch_norm_channel channel;
    channel.set(job, (const T *)job.weight, (const T *)job.bias, blockIdx.x);
    double a = 0, b = 0;
    each_of_chunk(job, [&](int64_t at) {
        const float v = lks_to_float(x[at]);
        const float g = channel.through(v, lks_to_float(dy[at]));
        a += (double)g;
        b += (double)(g * (v - channel.mean));
    });
    store_sums(job, a, b);
}

/* ---- element by element: `lanes` threads, a power of two, take a row ---- */

template <typename T, bool BACKWARD>
static __global__ void each_element(lks_batch_norm_job job, int lanes) {
    const T *x = (const T *)job.x, *dy = (const T *)job.dy;
    T *out = (T *)(BACKWARD ? job.dx : job.y);
    const int64_t rows = job.batch * job.channels, step = lks_threads() / lanes;
    for (int64_t r = lks_thread() / lanes; r < rows; r += step) {
        lks_batch_norm_channel channel;
        channel.set(job, (const T *)job.weight, (const T *)job.bias, r % job.channels);
        if (BACKWARD) channel.set_correction(job, r % job.channels);
        for (int64_t i = (int)threadIdx.x % lanes; i < job.spatial; i += lanes) {
            const int64_t at = r * job.spatial + i;
            const float v = lks_to_float(x[at]);
            lks_set(&out[at],
                    BACKWARD ? channel.gradient(v, lks_to_float(dy[at])) : channel.normalised(v));
        }
    }
}

/* ---- the passes ---- */

static lks_status launch_sums(const lks_batch_norm_job *job,
                              void (*kernel)(lks_batch_norm_job job)) {
    const dim3 grid((unsigned)job->channels, (unsigned)job->chunks);
    return lks_cuda_launch(job->stream, "batch norm", kernel, grid, LKS_CUDA_BLOCK, 0, *job);
}

static lks_status launch_elements(const lks_batch_norm_job *job,
                                  void (*kernel)(lks_batch_norm_job job, int lanes)) {
    int lanes = 1;
    while (lanes < LKS_CUDA_BLOCK && lanes < job->spatial)
        lanes *= 2;
    const unsigned blocks =
        lks_cuda_blocks(job->stream, job->batch * job->channels, LKS_CUDA_BLOCK / lanes);
    return lks_cuda_launch(job->stream, "batch norm", kernel, blocks, LKS_CUDA_BLOCK, 0, *job,
                           lanes);
}

static lks_status moments(const lks_batch_norm_job *job) {
    return lks_cuda_typed(job->stream->device, [&](auto zero) {
        return launch_sums(job, moments_kernel<decltype(zero)>);
    });
}

static lks_status gradient_sums(const lks_batch_norm_job *job) {
    return lks_cuda_typed(job->stream->device, [&](auto zero) {
        return launch_sums(job, gradient_sums_kernel<decltype(zero)>);
    });
}

static lks_status normalise(const lks_batch_norm_job *job) {
    return lks_cuda_typed(job->stream->device, [&](auto zero) {
        return launch_elements(job, each_element<decltype(zero), false>);
    });
}

static lks_status gradient(const lks_batch_norm_job *job) {
    return lks_cuda_typed(job->stream->device, [&](auto zero) {
        return launch_elements(job, each_element<decltype(zero), true>);
    });
}

const lks_batch_norm_passes lks_cuda_batch_norm_rows = {moments, normalise, gradient_sums,
                                                        gradient};
