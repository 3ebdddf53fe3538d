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

/* Calls f(place) for this thread's part of the chunk's numbers of the channel, N neighbours at a
 * time, which divides their rows. Rows may be shorter than the block; the place of the next
 * numbers is found without dividing. */
template <int N, typename F>
static __device__ void each_of_chunk(const lks_batch_norm_job &job, F f) {
    const int64_t end = job.batch * (blockIdx.y + 1) / gridDim.y, packs = job.spatial / N;
    const int64_t next_n = blockDim.x / packs, next_i = blockDim.x % packs;
    int64_t n = job.batch * blockIdx.y / gridDim.y + threadIdx.x / packs;
    int64_t i = threadIdx.x % packs;
    while (n < end) {
        f((n * job.channels + blockIdx.x) * job.spatial + i * N);
        n += next_n;
        i += next_i;
        if (i < packs) continue;
        i -= packs;
        n++;
    }
}

template <typename T, int N> static __global__ void moments_kernel(lks_batch_norm_job job) {
    const T *x = (const T *)job.x;
    const double shift = (double)lks_to_float(x[blockIdx.x * job.spatial]);
    double a = 0, b = 0;
    each_of_chunk<N>(job, [&](int64_t at) {
        float v[N];
        lks_load<T, N>(x + at, v);
        for (int j = 0; j < N; j++) {
            const double difference = (double)v[j] - shift;
            a += difference;
            b += difference * difference;
        }
    });
    store_sums(job, a, b);
}

template <typename T, int N> static __global__ void gradient_sums_kernel(lks_batch_norm_job job) {
    lks_batch_norm_channel channel;
    channel.set(job, (const T *)job.weight, (const T *)job.bias, blockIdx.x);
    double a = 0, b = 0;
    each_of_chunk<N>(job, [&](int64_t at) {
        float v[N], dy[N];
        lks_load<T, N>((const T *)job.x + at, v);
        lks_load<T, N>((const T *)job.dy + at, dy);
        lks_batch_norm_part<T, N>(job, at, dy);
        for (int j = 0; j < N; j++) {
            const float g = channel.through(v[j], dy[j]);
            a += (double)g;
            b += (double)(g * (v[j] - channel.mean));
        }
    });
    store_sums(job, a, b);
}

/* ---- element by element: `lanes` threads, a power of two, take a row ---- */

template <typename T, int N, bool BACKWARD>
static __global__ void each_element(lks_batch_norm_job job, int lanes) {
    const int64_t rows = job.batch * job.channels, step = lks_threads() / lanes;
    for (int64_t r = lks_thread() / lanes; r < rows; r += step) {
        lks_batch_norm_channel channel;
        channel.set(job, (const T *)job.weight, (const T *)job.bias, r % job.channels);
        if (BACKWARD) channel.set_correction(job, r % job.channels);
        for (int64_t i = (int)threadIdx.x % lanes * N; i < job.spatial; i += lanes * N) {
            const int64_t at = r * job.spatial + i;
            float v[N], dy[N];
            lks_load<T, N>((const T *)job.x + at, v);
            if (BACKWARD) lks_load<T, N>((const T *)job.dy + at, dy);
            for (int j = 0; j < N; j++)
                v[j] = BACKWARD ? channel.gradient(v[j], dy[j]) : channel.normalised(v[j]);
            if (!BACKWARD) lks_batch_norm_join<T, N>(job, at, v);
            lks_store<T, N>((T *)(BACKWARD ? job.dx : job.y) + at, v);
        }
    }
}

/* ---- the passes ---- */

static lks_status launch_sums(const lks_batch_norm_job *job,
                              void (*kernel)(lks_batch_norm_job job)) {
    const dim3 grid((unsigned)job->channels, (unsigned)job->chunks);
    return lks_cuda_launch(job->stream, "batch norm", kernel, grid, LKS_CUDA_BLOCK, 0, *job);
}

template <typename T, int N, bool BACKWARD>
static lks_status launch_elements(const lks_batch_norm_job *job) {
    int lanes = 1;
    while (lanes < LKS_CUDA_BLOCK && lanes * N < job->spatial)
        lanes *= 2;
    const unsigned blocks =
        lks_cuda_blocks(job->stream, job->batch * job->channels, LKS_CUDA_BLOCK / lanes);
    return lks_cuda_launch(job->stream, "batch norm", each_element<T, N, BACKWARD>, blocks,
                           LKS_CUDA_BLOCK, 0, *job, lanes);
}

static lks_status moments(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->spatial, lks_cuda_aligned(job->x),
        [&](auto zero, auto n) { return launch_sums(job, moments_kernel<decltype(zero), n>); });
}

static lks_status gradient_sums(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->spatial, lks_cuda_aligned(job->x, job->dy, job->relu_y, job->summed),
        [&](auto zero, auto n) {
            return launch_sums(job, gradient_sums_kernel<decltype(zero), n>);
        });
}

static lks_status normalise(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->spatial, lks_cuda_aligned(job->x, job->x2, job->y),
        [&](auto zero, auto n) { return launch_elements<decltype(zero), n, false>(job); });
}

static lks_status gradient(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->spatial, lks_cuda_aligned(job->x, job->dy, job->dx),
        [&](auto zero, auto n) { return launch_elements<decltype(zero), n, true>(job); });
}

const lks_batch_norm_passes lks_cuda_batch_norm_rows = {moments, normalise, gradient_sums,
                                                        gradient};
