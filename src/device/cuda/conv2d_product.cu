/* The two products of a convolution whose terms are the window's places: forward, and the gradient
 * of its input. */
#include "device/cuda/conv2d_tile.cuh"

/* One block computes TILE_M rows of TILE_N channels of a group (blockIdx.x, y, z). V: elements of
 * an access; divides the group's inner channels. */
template <typename Math, int V> struct product_tile {
    typedef typename Math::T T;
    static constexpr int K = Math::K, THREADS_PER_ROW = K / V;
    static constexpr int ROWS_AT_ONCE = TILE_THREADS / THREADS_PER_ROW;
    static constexpr int A_LOADS = TILE_M / ROWS_AT_ONCE, B_LOADS = TILE_N / ROWS_AT_ONCE;

    /* This thread's first term of the slice that is fetched next: the window's place and channel.
     */
    int k, kh, kw, channel;
    lks_elements<T, V> a[A_LOADS], b[B_LOADS];

    static __device__ int my_row(int load) {
        return (int)threadIdx.x / THREADS_PER_ROW + load * ROWS_AT_ONCE;
    }

    static __device__ int my_term() {
        return (int)threadIdx.x % THREADS_PER_ROW * V;
    }

    __device__ void start(const lks_conv_gather &g) {
        k = kh = kw = channel = 0;
        advance(g, my_term());
    }

    __device__ void advance(const lks_conv_gather &g, int terms) {
        k += terms;
        channel += terms;
        while (channel >= g.inner) {
            channel -= g.inner;
            if (++kw == g.kernel[1]) {
                kw = 0;
                kh++;
            }
        }
    }

    __device__ void fetch(const lks_conv_gather &g, const conv_row *rows, const T *source,
                          const T *weights) {
        const int terms = g.kernel[0] * g.kernel[1] * g.inner, window = g.window[0] * g.window[1];
        const int group = (int)blockIdx.z, column = (int)blockIdx.y * TILE_N;
        const int pixel_channels = g.groups * g.inner, tap = find_tap(g, kh, kw);
        for (int i = 0; i < A_LOADS; i++) {
            const int pixel = k < terms ? find_pixel(g, rows[my_row(i)], kh, kw) : -1;
            a[i] = load_or_zero<T, V>(pixel >= 0, source + (int64_t)pixel * pixel_channels +
                                                      group * g.inner + channel);
        }
        for (int i = 0; i < B_LOADS; i++) {
            const int n = column + my_row(i);
            const int64_t filter = (int64_t)(group * g.outer + n) * window;
            b[i] = load_or_zero<T, V>(n < g.outer && k < terms,
                                      weights + (filter + tap) * g.inner + channel);
        }
        advance(g, K);
    }

    __device__ void fill(T *a_slice, T *b_slice) const {
        for (int i = 0; i < A_LOADS; i++)
            put<Math, TILE_M, V, false>(a_slice, my_row(i), my_term(), a[i]);
        for (int i = 0; i < B_LOADS; i++)
            put<Math, TILE_N, V, false>(b_slice, my_row(i), my_term(), b[i]);
    }
};

template <typename T, int N>
static __device__ void write_tile(const lks_conv_gather &g, const conv_row *rows, const float *sums,
                                  const T *bias, bool relu, T *y) {
    const int group = (int)blockIdx.z, first_column = (int)blockIdx.y * TILE_N;
    for (int i = (int)threadIdx.x * N; i < TILE_M * TILE_N; i += TILE_THREADS * N) {
        const int row = i / TILE_N, column = i % TILE_N;
        if (rows[row].image < 0 || first_column + column >= g.outer) continue;
        const int channel = group * g.outer + first_column + column;
        finish_sums<T, N>(sums + row * TILE_STRIDE + column, bias ? bias + channel : nullptr, relu,
                          y + (int64_t)rows[row].target * (g.groups * g.outer) + channel);
    }
}

/* V2: elements of an access to y; divides the group's outer channels. */
template <typename Math, int V, int V2>
static __global__ void __launch_bounds__(TILE_THREADS)
    conv_product(const lks_conv_gather g, const typename Math::T *source,
                 const typename Math::T *weights, const typename Math::T *bias, bool relu,
                 typename Math::T *y) {
    static __shared__ tile_bytes<Math> bytes[1];
    static __shared__ conv_row rows[TILE_M];
    tile_memory<Math> *memory = reinterpret_cast<tile_memory<Math> *>(bytes);
    const int terms = g.kernel[0] * g.kernel[1] * g.inner;
    product_tile<Math, V> tile;
    Math math;
    if (threadIdx.x < TILE_M)
        rows[threadIdx.x] = find_row(g, (int64_t)blockIdx.x * TILE_M + threadIdx.x);
    __syncthreads();
    math.clear();
    tile.start(g);
    tile.fetch(g, rows, source, weights);
    tile.fill(memory->slices.a[0], memory->slices.b[0]);
    __syncthreads();
    for (int k = 0, now = 0; k < terms; k += Math::K, now = 1 - now) {
        const bool more = k + Math::K < terms;
        if (more) tile.fetch(g, rows, source, weights);
        math.add(memory->slices.a[now], memory->slices.b[now]);
        if (more) tile.fill(memory->slices.a[1 - now], memory->slices.b[1 - now]);
        __syncthreads();
    }
    math.store(memory->sums);
    __syncthreads();
    write_tile<typename Math::T, V2>(g, rows, memory->sums, bias, relu, y);
}

template <typename Math, int V, int V2>
static lks_status launch(lks_stream *stream, const lks_conv_gather *g, const void *source,
                         const void *packed, const void *bias, bool relu, void *y) {
    typedef typename Math::T T;
    const dim3 grid((unsigned)((g->rows + (int64_t)TILE_M - 1) / TILE_M),
                    (unsigned)((g->outer + TILE_N - 1) / TILE_N), (unsigned)g->groups);
    return lks_cuda_launch(stream, "convolution", conv_product<Math, V, V2>, grid, TILE_THREADS, 0,
                           *g, (const T *)source, (const T *)packed, (const T *)bias, relu, (T *)y);
}

/* Wide accesses where the channels allow it, on each side: an image's few channels are read one by
 * one and yet written side by side. */
template <typename Math>
static lks_status run(lks_stream *stream, const lks_conv_gather *g, const void *source,
                      const void *packed, const void *bias, bool relu, void *y) {
    constexpr int V = lks_pack<typename Math::T>::COUNT;
    const bool reads = g->inner % V == 0 && lks_cuda_aligned(source, packed);
    const bool writes = g->outer % V == 0 && lks_cuda_aligned(y);
    if (reads && writes) return launch<Math, V, V>(stream, g, source, packed, bias, relu, y);
    if (writes) return launch<Math, 1, V>(stream, g, source, packed, bias, relu, y);
    if (reads) return launch<Math, V, 1>(stream, g, source, packed, bias, relu, y);
    return launch<Math, 1, 1>(stream, g, source, packed, bias, relu, y);
}

lks_status lks_conv_product(lks_stream *stream, const lks_conv_gather *gather, const void *source,
                            const void *packed, const void *bias, bool relu, void *y) {
    switch (stream->device->precision) {
    case LKS_PRECISION_BF16:
        return run<tensor_math<__nv_bfloat16, false>>(stream, gather, source, packed, bias, relu,
                                                      y);
    case LKS_PRECISION_TF32:
        return run<tensor_math<float, false>>(stream, gather, source, packed, bias, relu, y);
    default:
        return run<fma_math>(stream, gather, source, packed, bias, relu, y);
    }
}

/* ---- weights ---- */

template <typename T>
static __global__ void pack_weights(int64_t count, int outer, int window, int inner,
                                    int64_t outer_stride, int64_t inner_stride,
                                    int64_t group_stride, const T *weights, T *packed) {
    for (int64_t i = lks_thread(); i < count; i += lks_threads()) {
        const int64_t channel = i % inner, place = i / inner % window;
        const int64_t made = i / inner / window % outer, group = i / inner / window / outer;
        packed[i] =
            weights[group * group_stride + made * outer_stride + channel * inner_stride + place];
    }
}

lks_status lks_conv_pack_weights(lks_stream *stream, const lks_conv2d_desc *d, bool backward,
                                 const void *weights, void *packed) {
    const int window = (int)(d->kernel[0] * d->kernel[1]);
    const int in = (int)(d->in_channels / d->groups), out = (int)(d->out_channels / d->groups);
    const int64_t out_stride = (int64_t)in * window, in_stride = window;
    const int64_t count = d->groups * out * out_stride;
    return lks_cuda_typed(stream->device, [&](auto type) {
        typedef decltype(type) T;
        if (lks_conv_is_depthwise(d)) /* in the kernel's words, one group with all as inner */
            return lks_cuda_launch(stream, "weights of a convolution", pack_weights<T>,
                                   lks_cuda_blocks(stream, count, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK,
                                   0, count, 1, window, (int)d->out_channels, 0, window, 0,
                                   (const T *)weights, (T *)packed);
        return lks_cuda_launch(stream, "weights of a convolution", pack_weights<T>,
                               lks_cuda_blocks(stream, count, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0,
                               count, backward ? in : out, window, backward ? out : in,
                               backward ? in_stride : out_stride, backward ? out_stride : in_stride,
                               out * out_stride, (const T *)weights, (T *)packed);
    });
}
