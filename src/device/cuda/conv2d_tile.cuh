/* One block's share of a matrix product: a tile of [TILE_M, TILE_N] sums, to which a slice of K
 * terms is added at a time from shared memory, by one of three kinds of arithmetic. Included by
 * conv2d's .cu files alone.
 *
 * A slice of the left factor is [TILE_M, K], of the right one [TILE_N, K]. K_OUTER: the K terms of
 * a row are apart in shared memory and the rows side by side; else the other way round. */
#ifndef LKS_DEVICE_CUDA_CONV2D_TILE_CUH
#define LKS_DEVICE_CUDA_CONV2D_TILE_CUH

#include <mma.h>

#include "device/cuda/conv2d_gather.cuh"

static constexpr int TILE_M = 128, TILE_N = 64, TILE_THREADS = 256;
/* Rows of finished sums, padded against bank conflicts and for the alignment that wmma asks. */
static constexpr int TILE_STRIDE = TILE_N + 8;

/* Where the elements of a slice with ROWS rows lie. Padding of 16 bytes keeps rows aligned for wide
 * accesses and spreads them over the banks. */
template <typename Math, int ROWS> struct slice_layout {
    static constexpr int STRIDE =
        (Math::K_OUTER ? ROWS : Math::K) + 16 / (int)sizeof(typename Math::T);
    static constexpr int COUNT = (Math::K_OUTER ? Math::K : ROWS) * STRIDE;

    static __device__ int at(int row, int k) {
        return Math::K_OUTER ? k * STRIDE + row : row * STRIDE + k;
    }
};

/* Two slices of each factor, one to compute with while the other is filled; afterwards the sums. */
template <typename Math> union alignas(32) tile_memory {
    struct {
        typename Math::T a[2][slice_layout<Math, TILE_M>::COUNT];
        typename Math::T b[2][slice_layout<Math, TILE_N>::COUNT];
    } slices;
    float sums[TILE_M * TILE_STRIDE];
};

/* The same as bytes: shared memory has no constructors. */
template <typename Math> struct alignas(32) tile_bytes {
    unsigned char byte[sizeof(tile_memory<Math>)];
};

/* float32 by fused multiply-adds: each thread has 8 x 4 sums. */
struct fma_math {
    typedef float T;
    static constexpr int K = 16;
    static constexpr bool K_OUTER = true;
    static constexpr int ROWS = 8, COLUMNS = 4;

    float sum[ROWS][COLUMNS];

    static __device__ int row() {
        return (int)threadIdx.x / (TILE_N / COLUMNS) * ROWS;
    }

    static __device__ int column() {
        return (int)threadIdx.x % (TILE_N / COLUMNS) * COLUMNS;
    }

    __device__ void clear() {
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                sum[i][j] = 0;
    }

    __device__ void add(const float *a, const float *b) {
        for (int k = 0; k < K; k++) {
            float x[ROWS], y[COLUMNS];
            lks_load<float, 4>(a + slice_layout<fma_math, TILE_M>::at(row(), k), x);
            lks_load<float, 4>(a + slice_layout<fma_math, TILE_M>::at(row() + 4, k), x + 4);
            lks_load<float, 4>(b + slice_layout<fma_math, TILE_N>::at(column(), k), y);
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < COLUMNS; j++)
                    sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
        }
    }

    __device__ void store(float *sums) const {
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                sums[(row() + i) * TILE_STRIDE + column() + j] = sum[i][j];
    }
};

/* What the tensor cores take for an element type, and how many terms at a time. */
template <typename T> struct tensor_core;

template <> struct tensor_core<__nv_bfloat16> {
    typedef __nv_bfloat16 input;
    static constexpr int SLICE = 32, K = 16;

    template <typename Fragment> static __device__ void prepare(Fragment &) {
    }
};

/* Elements are float32 and are rounded to TF32 here. */
template <> struct tensor_core<float> {
    typedef nvcuda::wmma::precision::tf32 input;
    static constexpr int SLICE = 16, K = 8;

    template <typename Fragment> static __device__ void prepare(Fragment &fragment) {
        for (int i = 0; i < fragment.num_elements; i++)
            fragment.x[i] = nvcuda::wmma::__float_to_tf32(fragment.x[i]);
    }
};

/* By tensor cores: each of 4 x 2 warps has 2 x 2 pieces of 16 x 16 sums. */
template <typename Element, bool OUTER> struct tensor_math {
    typedef Element T;
    typedef tensor_core<T> core;
    static constexpr int K = core::SLICE;
    static constexpr bool K_OUTER = OUTER;
    static constexpr int PIECE = 16, PIECES = 2;

    typedef typename std::conditional<OUTER, nvcuda::wmma::col_major, nvcuda::wmma::row_major>::type
        a_order;
    typedef typename std::conditional<OUTER, nvcuda::wmma::row_major, nvcuda::wmma::col_major>::type
        b_order;
    typedef slice_layout<tensor_math, TILE_M> a_layout;
    typedef slice_layout<tensor_math, TILE_N> b_layout;

    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, PIECE, PIECE, core::K, float> sum[PIECES]
                                                                                       [PIECES];

    static __device__ int row() {
        return (int)threadIdx.x / LKS_CUDA_WARP / 2 * (PIECES * PIECE);
    }

    static __device__ int column() {
        return (int)threadIdx.x / LKS_CUDA_WARP % 2 * (PIECES * PIECE);
    }

    __device__ void clear() {
        for (int i = 0; i < PIECES; i++)
            for (int j = 0; j < PIECES; j++)
                nvcuda::wmma::fill_fragment(sum[i][j], 0.0f);
    }

    __device__ void add(const T *a, const T *b) {
        using namespace nvcuda::wmma;
        for (int k = 0; k < K; k += core::K) {
            fragment<matrix_a, PIECE, PIECE, core::K, typename core::input, a_order> x[PIECES];
            fragment<matrix_b, PIECE, PIECE, core::K, typename core::input, b_order> y[PIECES];
            for (int i = 0; i < PIECES; i++) {
                load_matrix_sync(x[i], a + a_layout::at(row() + i * PIECE, k), a_layout::STRIDE);
                core::prepare(x[i]);
                load_matrix_sync(y[i], b + b_layout::at(column() + i * PIECE, k), b_layout::STRIDE);
                core::prepare(y[i]);
            }
            for (int i = 0; i < PIECES; i++)
                for (int j = 0; j < PIECES; j++)
                    mma_sync(sum[i][j], x[i], y[j], sum[i][j]);
        }
    }

    __device__ void store(float *sums) const {
        for (int i = 0; i < PIECES; i++)
            for (int j = 0; j < PIECES; j++)
                nvcuda::wmma::store_matrix_sync(
                    sums + (row() + i * PIECE) * TILE_STRIDE + column() + j * PIECE, sum[i][j],
                    TILE_STRIDE, nvcuda::wmma::mem_row_major);
    }
};

/* Copies V elements into a slice: terms k, k + 1, ... of one row, or with ALONG_ROWS term k of rows
 * row, row + 1, ... */
template <typename Math, int ROWS, int V, bool ALONG_ROWS>
static __device__ void put(typename Math::T *slice, int row, int k,
                           const lks_elements<typename Math::T, V> &elements) {
    typedef slice_layout<Math, ROWS> layout;
    typedef lks_elements<typename Math::T, V> wide;
    if constexpr (Math::K_OUTER == ALONG_ROWS) {
        *reinterpret_cast<wide *>(slice + layout::at(row, k)) = elements;
    } else {
        for (int i = 0; i < V; i++)
            slice[ALONG_ROWS ? layout::at(row + i, k) : layout::at(row, k + i)] = elements.value[i];
    }
}

/* V zeros, or what `from` points to: not NULL, aligned to V elements. */
template <typename T, int V>
static __device__ lks_elements<T, V> load_or_zero(bool there, const T *from) {
    lks_elements<T, V> elements;
    if (there) return *reinterpret_cast<const lks_elements<T, V> *>(from);
    for (int i = 0; i < V; i++)
        lks_set(&elements.value[i], 0);
    return elements;
}

#endif
