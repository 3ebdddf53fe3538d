/* Two sums over the rows of a [rows, width] matrix, of terms that a functor makes, in two launches:
 * a block of threads takes some columns of a chunk of the rows; then the chunks' sums are added in
 * order. Sums are float64. Included by the .cu files of src/device/cuda alone.
 *
 * A functor Terms<T, N> has
 *     set(column)        reads what it needs of N columns side by side, from `column` on
 *     add(row, at, a, b) adds to a[N] and b[N] the terms of N places of a row; at: the place of the
 *                        first in the matrix
 * and Finish has operator()(column, a, b), called once for each column. */
#ifndef LKS_DEVICE_CUDA_COLUMN_SUMS_CUH
#define LKS_DEVICE_CUDA_COLUMN_SUMS_CUH

#include "device/cuda/kernel.cuh"

enum { LKS_COLUMN_CHUNK_ROWS = 64, LKS_COLUMN_MAX_BLOCKS = 4096 };

/* The chunks of a matrix, by its shape alone; never fewer for more rows. */
static inline int64_t lks_column_chunks(int64_t rows, int64_t width) {
    const int64_t chunks = (rows + LKS_COLUMN_CHUNK_ROWS - 1) / LKS_COLUMN_CHUNK_ROWS;
    const int64_t most = LKS_COLUMN_MAX_BLOCKS / ((width + LKS_CUDA_WARP - 1) / LKS_CUDA_WARP);
    const int64_t limit = most < 1 ? 1 : (most > 512 ? 512 : most);
    return chunks < limit ? chunks : limit;
}

/* Bytes of [chunks][2][width] partial sums for at most max_rows. */
static inline size_t lks_column_sums_bytes(int64_t max_rows, int64_t width) {
    return (size_t)(lks_column_chunks(max_rows, width) * 2 * width) * sizeof(double);
}

/* A block is `lanes` threads wide, a power of two, each with N columns, and as many rows high as it
 * has threads for; blockIdx.x chooses the columns. */
struct lks_column_place {
    int lanes, lane, row_lane, height;
    int64_t column;
    __device__ lks_column_place(int lanes_of_block, int n)
        : lanes(lanes_of_block), lane((int)threadIdx.x % lanes), row_lane((int)threadIdx.x / lanes),
          height((int)blockDim.x / lanes), column(((int64_t)blockIdx.x * lanes + lane) * n) {
    }
};

static inline int lks_column_lanes(int64_t width, int n) {
    int lanes = 1;
    while (lanes < LKS_CUDA_WARP && lanes * n < width)
        lanes *= 2;
    return lanes;
}

/* blockIdx.y chooses the chunk. */
template <int N, typename Terms>
static __global__ void lks_column_sums_kernel(int64_t rows, int64_t width, int lanes, Terms terms,
                                              double *partial) {
    static __shared__ double shared[2 * N][LKS_CUDA_BLOCK];
    const lks_column_place place(lanes, N);
    const int64_t begin = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
    double a[N] = {}, b[N] = {};
    if (place.column < width) {
        terms.set(place.column);
        for (int64_t row = begin + place.row_lane; row < end; row += place.height)
            terms.add(row, row * width + place.column, a, b);
    }
    for (int i = 0; i < N; i++) {
        shared[i][threadIdx.x] = a[i];
        shared[N + i][threadIdx.x] = b[i];
    }
    for (int half = place.height / 2; half > 0; half /= 2) {
        __syncthreads();
        if (place.row_lane < half)
            for (int i = 0; i < 2 * N; i++)
                shared[i][threadIdx.x] += shared[i][threadIdx.x + half * lanes];
    }
    if (place.row_lane != 0 || place.column >= width) return;
    double *out = partial + blockIdx.y * 2 * width + place.column;
    for (int i = 0; i < N; i++) {
        out[i] = shared[i][threadIdx.x];
        out[width + i] = shared[N + i][threadIdx.x];
    }
}

/* Thread lanes add every 8th chunk, then the lanes are added in order. */
template <typename Finish>
static __global__ void lks_column_finish_kernel(int64_t chunks, int64_t width,
                                                const double *partial, Finish finish) {
    enum { LANES = LKS_CUDA_BLOCK / LKS_CUDA_WARP };
    static __shared__ double shared[2][LANES][LKS_CUDA_WARP];
    const int lane = (int)threadIdx.x / LKS_CUDA_WARP, place = (int)threadIdx.x % LKS_CUDA_WARP;
    const int64_t column = (int64_t)blockIdx.x * LKS_CUDA_WARP + place;
    double a = 0, b = 0;
    for (int64_t chunk = lane; chunk < chunks && column < width; chunk += LANES) {
        a += partial[chunk * 2 * width + column];
        b += partial[(chunk * 2 + 1) * width + column];
    }
    shared[0][lane][place] = a;
    shared[1][lane][place] = b;
    __syncthreads();
    if (lane != 0 || column >= width) return;
    for (int i = 1; i < LANES; i++) {
        a += shared[0][i][place];
        b += shared[1][i][place];
    }
    finish(column, a, b);
}

/* partial: lks_column_sums_bytes. */
template <int N, typename Terms>
static lks_status lks_column_sums(lks_stream *stream, const char *what, int64_t rows, int64_t width,
                                  Terms terms, double *partial) {
    const int lanes = lks_column_lanes(width, N);
    const dim3 grid((unsigned)((width + lanes * N - 1) / (lanes * N)),
                    (unsigned)lks_column_chunks(rows, width));
    return lks_cuda_launch(stream, what, lks_column_sums_kernel<N, Terms>, grid, LKS_CUDA_BLOCK, 0,
                           rows, width, lanes, terms, partial);
}

/* With rows 0 the sums are 0. */
template <typename Finish>
static lks_status lks_column_finish(lks_stream *stream, const char *what, int64_t chunks,
                                    int64_t width, const double *partial, Finish finish) {
    return lks_cuda_launch(stream, what, lks_column_finish_kernel<Finish>,
                           (unsigned)((width + LKS_CUDA_WARP - 1) / LKS_CUDA_WARP), LKS_CUDA_BLOCK,
                           0, chunks, width, partial, finish);
}

/* *to = sum, or += with accumulate; to NULL: not wanted. */
static __device__ inline void lks_column_store(double sum, bool accumulate, float *to,
                                               int64_t column) {
    if (to) to[column] = accumulate ? to[column] + (float)sum : (float)sum;
}

#endif
