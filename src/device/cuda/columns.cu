/* Sums over the rows of a [rows, width] matrix, in two launches: rows are cut into chunks, one
 * block of threads sums a chunk of some columns, and the chunks' sums are added in order. */
#include "device/cuda/kernel.cuh"

enum { CHUNK_ROWS = 64, MAX_CHUNKS = 512 };

static int64_t chunks_of(int64_t rows) {
    const int64_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    return chunks < MAX_CHUNKS ? chunks : (int64_t)MAX_CHUNKS;
}

/* A block is `lanes` threads wide, each with N columns side by side, and as many rows high as it
 * has threads for; blockIdx.x chooses the columns, blockIdx.y the chunk. partial: [chunks, width],
 * or NULL where only the mask is wanted. */
template <typename T, int N>
static __global__ void mask_and_sum(int64_t rows, int64_t width, int lanes, const T *y, T *dy,
                                    float *partial) {
    static __shared__ float shared[LKS_CUDA_BLOCK][N];
    const int lane = (int)threadIdx.x % lanes, row_lane = (int)threadIdx.x / lanes;
    const int height = LKS_CUDA_BLOCK / lanes;
    const int64_t column = ((int64_t)blockIdx.x * lanes + lane) * N;
    const int64_t begin = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
    float sum[N] = {};
    for (int64_t row = begin + row_lane; row < end && column < width; row += height) {
        const int64_t at = row * width + column;
        float gradient[N];
        lks_load<T, N>(dy + at, gradient);
        if (y) {
            float output[N];
            lks_load<T, N>(y + at, output);
            for (int i = 0; i < N; i++)
                gradient[i] = output[i] <= 0 ? 0 : gradient[i]; /* NaN passes through */
            lks_store<T, N>(dy + at, gradient);
        }
        for (int i = 0; i < N; i++)
            sum[i] += gradient[i];
    }
    if (!partial) return;
    for (int i = 0; i < N; i++)
        shared[threadIdx.x][i] = sum[i];
    for (int half = height / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row_lane < half)
            for (int i = 0; i < N; i++)
                shared[threadIdx.x][i] += shared[threadIdx.x + half * lanes][i];
    }
    if (row_lane == 0 && column < width)
        for (int i = 0; i < N; i++)
            partial[blockIdx.y * width + column + i] = shared[threadIdx.x][i];
}

static __global__ void add_chunks(int64_t chunks, int64_t width, const float *partial,
                                  bool accumulate, float *out) {
    const int64_t column = lks_thread();
    if (column >= width) return;
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        sum += (double)partial[chunk * width + column];
    out[column] = accumulate ? (float)((double)out[column] + sum) : (float)sum;
}

template <typename T, int N>
static lks_status sum_chunks(lks_stream *stream, int64_t rows, int64_t width, const T *y, T *dy,
                             float *partial) {
    int lanes = 1;
    while (lanes < LKS_CUDA_WARP && lanes * N < width)
        lanes *= 2;
    const dim3 grid((unsigned)((width + lanes * N - 1) / (lanes * N)), (unsigned)chunks_of(rows));
    return lks_cuda_launch(stream, "gradient of a bias", mask_and_sum<T, N>, grid, LKS_CUDA_BLOCK,
                           0, rows, width, lanes, y, dy, partial);
}

size_t lks_cuda_bias_scratch_bytes(int64_t max_rows, int64_t width) {
    return (size_t)(chunks_of(max_rows) * width) * sizeof(float);
}

lks_status lks_cuda_bias_backward(lks_stream *stream, int64_t rows, int64_t width, const void *y,
                                  void *dy, float *dbias, bool accumulate, void *scratch) {
    if (!y && !dbias) return LKS_OK;
    float *partial = dbias ? (float *)scratch : NULL;
    lks_status status = lks_cuda_typed(stream->device, [&](auto type) {
        typedef decltype(type) T;
        return lks_cuda_in_packs<T>(width, lks_cuda_aligned(y, dy), [&](auto n) {
            return sum_chunks<T, n>(stream, rows, width, (const T *)y, (T *)dy, partial);
        });
    });
    if (status != LKS_OK || !dbias) return status;
    return lks_cuda_launch(stream, "gradient of a bias", add_chunks,
                           (unsigned)((width + LKS_CUDA_BLOCK - 1) / LKS_CUDA_BLOCK),
                           LKS_CUDA_BLOCK, 0, chunks_of(rows), width, partial, accumulate, dbias);
}
