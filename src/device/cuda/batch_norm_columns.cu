/* Batch norm of channels-last memory: a matrix [rows, channels] whose columns are normalised. */
#include "device/cuda/batch_norm.cuh"

/* ---- sums ---- */

namespace {

template <typename T, int N> struct moment_terms {
    const T *x;
    float shift[N];
    __device__ void set(int64_t column) {
        lks_load<T, N>(x + column, shift); /* the first row */
    }
    __device__ void add(int64_t, int64_t at, double *a, double *b) const {
        float v[N];
        lks_load<T, N>(x + at, v);
        for (int i = 0; i < N; i++) {
            const double difference = (double)v[i] - (double)shift[i];
            a[i] += difference;
            b[i] += difference * difference;
        }
    }
};

template <typename T, int N> struct gradient_terms {
    lks_batch_norm_job job;
    lks_batch_norm_channel channel[N];
    __device__ void set(int64_t column) {
        for (int i = 0; i < N; i++)
            channel[i].set(job, (const T *)job.weight, (const T *)job.bias, column + i);
    }
    __device__ void add(int64_t, int64_t at, double *a, double *b) const {
        float v[N], dy[N];
        lks_load<T, N>((const T *)job.x + at, v);
        lks_load<T, N>((const T *)job.dy + at, dy);
        lks_batch_norm_part<T, N>(job, at, dy);
        for (int i = 0; i < N; i++) {
            const float g = channel[i].through(v[i], dy[i]);
            a[i] += (double)g;
            b[i] += (double)(g * (v[i] - channel[i].mean));
        }
    }
};

} // namespace

/* ---- element by element ---- */

/* BACKWARD: dx from x and dy, else y from x. Threads stand as in the sums; blockIdx.y and its like
 * take the rows in turn. */
template <typename T, int N, bool BACKWARD>
static __global__ void each_element(lks_batch_norm_job job, int lanes) {
    const lks_column_place place(lanes, N);
    const int64_t rows = job.batch * job.spatial, width = job.channels;
    if (place.column >= width) return;
    lks_batch_norm_channel channel[N];
    for (int i = 0; i < N; i++) {
        channel[i].set(job, (const T *)job.weight, (const T *)job.bias, place.column + i);
        if (BACKWARD) channel[i].set_correction(job, place.column + i);
    }
    const int64_t stride = (int64_t)gridDim.y * place.height;
    for (int64_t row = (int64_t)blockIdx.y * place.height + place.row_lane; row < rows;
         row += stride) {
        const int64_t at = row * width + place.column;
        float v[N], dy[N];
        lks_load<T, N>((const T *)job.x + at, v);
        if (BACKWARD) lks_load<T, N>((const T *)job.dy + at, dy);
        for (int i = 0; i < N; i++)
            v[i] = BACKWARD ? channel[i].gradient(v[i], dy[i]) : channel[i].normalised(v[i]);
        if (!BACKWARD) lks_batch_norm_join<T, N>(job, at, v);
        lks_store<T, N>((T *)(BACKWARD ? job.dx : job.y) + at, v);
    }
}

template <typename T, int N, bool BACKWARD>
static lks_status run_each(const lks_batch_norm_job *job) {
    const int lanes = lks_column_lanes(job->channels, N);
    const int64_t height = LKS_CUDA_BLOCK / lanes, rows = job->batch * job->spatial;
    const int64_t across = (job->channels + lanes * N - 1) / (lanes * N);
    const int64_t down = lks_cuda_blocks(job->stream, rows * across, 4 * height) / across;
    const dim3 grid((unsigned)across, (unsigned)(down < 1 ? 1 : down > 65535 ? 65535 : down));
    return lks_cuda_launch(job->stream, "batch norm", each_element<T, N, BACKWARD>, grid,
                           LKS_CUDA_BLOCK, 0, *job, lanes);
}

/* ---- the passes ---- */

static lks_status moments(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->channels, lks_cuda_aligned(job->x), [&](auto zero, auto n) {
            typedef decltype(zero) T;
            const moment_terms<T, n> terms = {(const T *)job->x, {}};
            return lks_column_sums<n>(job->stream, "batch norm", job->batch * job->spatial,
                                      job->channels, terms, job->partial);
        });
}

static lks_status gradient_sums(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->channels, lks_cuda_aligned(job->x, job->dy, job->relu_y, job->summed),
        [&](auto zero, auto n) {
            const gradient_terms<decltype(zero), n> terms = {*job, {}};
            return lks_column_sums<n>(job->stream, "batch norm gradient", job->batch * job->spatial,
                                      job->channels, terms, job->partial);
        });
}

static lks_status normalise(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->channels, lks_cuda_aligned(job->x, job->x2, job->y),
        [&](auto zero, auto n) { return run_each<decltype(zero), n, false>(job); });
}

static lks_status gradient(const lks_batch_norm_job *job) {
    return lks_batch_norm_in_packs(
        job, job->channels, lks_cuda_aligned(job->x, job->dy, job->dx),
        [&](auto zero, auto n) { return run_each<decltype(zero), n, true>(job); });
}

const lks_batch_norm_passes lks_cuda_batch_norm_columns = {moments, normalise, gradient_sums,
                                                           gradient};
