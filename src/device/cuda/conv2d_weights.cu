/* The gradient of a convolution's weights: a product whose terms are the rows, all places of all
 * images. There are many terms and few sums, so terms are cut into parts, each summed by blocks of
 * their own, and the parts are added in order. */
#include "device/cuda/conv2d_tile.cuh"

/* Sums are [inner * window, outer] of a group: row m is the window's place m / inner, channel
 * m % inner. V: elements of an access; divides the inner and the outer channels of a group. */
template <typename Math, int V> struct gradient_tile {
    typedef typename Math::T T;
    static constexpr int A_THREADS = TILE_M / V, B_THREADS = TILE_N / V; /* for one term */
    static constexpr int A_TERMS = TILE_THREADS / A_THREADS, B_TERMS = TILE_THREADS / B_THREADS;
    static constexpr int A_LOADS = (Math::K + A_TERMS - 1) / A_TERMS;
    static constexpr int B_LOADS = (Math::K + B_TERMS - 1) / B_TERMS;

    int kh, kw, channel; /* of this thread's first row; channel < 0: there is none */
    lks_elements<T, V> a[A_LOADS], b[B_LOADS];

    static __device__ int my_a_row() {
        return (int)threadIdx.x % A_THREADS * V;
    }

    static __device__ int my_a_term(int load) {
        return (int)threadIdx.x / A_THREADS + load * A_TERMS;
    }

    static __device__ int my_b_row() {
        return (int)threadIdx.x % B_THREADS * V;
    }

    static __device__ int my_b_term(int load) {
        return (int)threadIdx.x / B_THREADS + load * B_TERMS;
    }

    __device__ void start(const lks_conv_gather &g) {
        const int m = (int)blockIdx.x * TILE_M + my_a_row();
        const int place = m / g.inner;
        kh = place / g.kernel[1];
        kw = place % g.kernel[1];
        channel = kh < g.kernel[0] ? m % g.inner : -1;
    }

    /* The terms from `first` on, those before `end`. */
    __device__ void fetch(const lks_conv_gather &g, int group, int first, int end, const T *x,
                          const T *dy) {
        const int n = (int)blockIdx.y * TILE_N + my_b_row();
        for (int i = 0; i < A_LOADS; i++) {
            const int term = first + my_a_term(i);
            const int pixel =
                channel >= 0 && term < end ? find_pixel(g, find_row(g, term), kh, kw) : -1;
            a[i] = load_or_zero<T, V>(pixel >= 0, x + (int64_t)pixel * (g.groups * g.inner) +
                                                      group * g.inner + channel);
        }
        for (int i = 0; i < B_LOADS; i++) {
            const int term = first + my_b_term(i);
            b[i] =
                load_or_zero<T, V>(n < g.outer && term < end,
                                   dy + (int64_t)term * (g.groups * g.outer) + group * g.outer + n);
        }
    }

    __device__ void fill(T *a_slice, T *b_slice) const {
        for (int i = 0; i < A_LOADS; i++)
            if (my_a_term(i) < Math::K)
                put<Math, TILE_M, V, true>(a_slice, my_a_row(), my_a_term(i), a[i]);
        for (int i = 0; i < B_LOADS; i++)
            if (my_b_term(i) < Math::K)
                put<Math, TILE_N, V, true>(b_slice, my_b_row(), my_b_term(i), b[i]);
    }
};

/* sums: [parts, groups, inner * window, outer]; blockIdx.z is part * groups + group. */
template <typename Math, int V>
static __global__ void __launch_bounds__(TILE_THREADS)
    sum_parts(const lks_conv_gather g, int parts, const typename Math::T *x,
              const typename Math::T *dy, float *sums) {
    static __shared__ tile_bytes<Math> bytes[1];
    tile_memory<Math> *memory = reinterpret_cast<tile_memory<Math> *>(bytes);
    const int group = (int)blockIdx.z % g.groups, part = (int)blockIdx.z / g.groups;
    const int begin = (int)((int64_t)g.rows * part / parts);
    const int end = (int)((int64_t)g.rows * (part + 1) / parts);
    const int m_count = g.inner * g.kernel[0] * g.kernel[1];
    gradient_tile<Math, V> tile;
    Math math;
    math.clear();
    tile.start(g);
    tile.fetch(g, group, begin, end, x, dy);
    tile.fill(memory->slices.a[0], memory->slices.b[0]);
    __syncthreads();
    for (int first = begin, now = 0; first < end; first += Math::K, now = 1 - now) {
        const bool more = first + Math::K < end;
        if (more) tile.fetch(g, group, first + Math::K, end, x, dy);
        math.add(memory->slices.a[now], memory->slices.b[now]);
        if (more) tile.fill(memory->slices.a[1 - now], memory->slices.b[1 - now]);
        __syncthreads();
    }
    math.store(memory->sums);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < TILE_M * TILE_N; i += TILE_THREADS) {
        const int m = (int)blockIdx.x * TILE_M + i / TILE_N;
        const int n = (int)blockIdx.y * TILE_N + i % TILE_N;
        if (m < m_count && n < g.outer)
            sums[((int64_t)blockIdx.z * m_count + m) * g.outer + n] =
                memory->sums[i / TILE_N * TILE_STRIDE + i % TILE_N];
    }
}

/* Adds the parts, and turns [groups, window, inner, outer] into [groups, outer, inner, window]. */
static __global__ void add_parts(int64_t count, int parts, int outer, int inner, int window,
                                 const float *sums, bool accumulate, float *dweight) {
    for (int64_t i = lks_thread(); i < count; i += lks_threads()) {
        double sum = 0;
        for (int part = 0; part < parts; part++)
            sum += (double)sums[part * count + i];
        const int64_t n = i % outer, channel = i / outer % inner;
        const int64_t place = i / outer / inner % window, group = i / outer / inner / window;
        float *out = dweight + ((group * outer + n) * inner + channel) * window + place;
        *out = accumulate ? (float)((double)*out + sum) : (float)sum;
    }
}

/* Parts enough to occupy a large device, of a length that pays, within a bound of memory. The
 * number depends on the shape alone, and so do the bits of the result. */
static int count_parts(const lks_conv_gather *g) {
    constexpr int64_t BLOCKS = 512, TERMS = 256, BYTES = 64 << 20;
    const int64_t rows = (int64_t)g->inner * g->kernel[0] * g->kernel[1];
    const int64_t tiles =
        (rows + TILE_M - 1) / TILE_M * ((g->outer + TILE_N - 1) / TILE_N) * g->groups;
    const int64_t bytes = g->groups * rows * g->outer * (int64_t)sizeof(float);
    int64_t parts = BLOCKS / tiles;
    if (parts > g->rows / TERMS) parts = g->rows / TERMS;
    if (parts > BYTES / bytes) parts = BYTES / bytes;
    return parts < 1 ? 1 : (int)parts;
}

static int64_t sums_of_a_part(const lks_conv_gather *g) {
    return (int64_t)g->groups * g->inner * g->kernel[0] * g->kernel[1] * g->outer;
}

size_t lks_conv_weight_gradient_scratch_bytes(const lks_conv_gather *gather) {
    return (size_t)(count_parts(gather) * sums_of_a_part(gather)) * sizeof(float);
}

template <typename Math>
static lks_status sum(lks_stream *stream, const lks_conv_gather *g, int parts, const void *x,
                      const void *dy, float *sums) {
    typedef typename Math::T T;
    constexpr int V = lks_pack<T>::COUNT;
    const int rows = g->inner * g->kernel[0] * g->kernel[1];
    const dim3 grid((unsigned)((rows + TILE_M - 1) / TILE_M),
                    (unsigned)((g->outer + TILE_N - 1) / TILE_N), (unsigned)(g->groups * parts));
    const bool wide = g->inner % V == 0 && g->outer % V == 0 && lks_cuda_aligned(x, dy);
    return lks_cuda_launch(stream, "gradient of a convolution's weights",
                           wide ? sum_parts<Math, V> : sum_parts<Math, 1>, grid, TILE_THREADS, 0,
                           *g, parts, (const T *)x, (const T *)dy, sums);
}

static lks_status sum_by_precision(lks_stream *stream, const lks_conv_gather *g, int parts,
                                   const void *x, const void *dy, float *sums) {
    switch (stream->device->precision) {
    case LKS_PRECISION_BF16:
        return sum<tensor_math<__nv_bfloat16, true>>(stream, g, parts, x, dy, sums);
    case LKS_PRECISION_TF32:
        return sum<tensor_math<float, true>>(stream, g, parts, x, dy, sums);
    default:
        return sum<fma_math>(stream, g, parts, x, dy, sums);
    }
}

lks_status lks_conv_add_parts(lks_stream *stream, int parts, int groups, int window, int inner,
                              int outer, const float *sums, bool accumulate, float *dweight) {
    const int64_t count = (int64_t)groups * window * inner * outer;
    return lks_cuda_launch(stream, "gradient of a convolution's weights", add_parts,
                           lks_cuda_blocks(stream, count, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0, count,
                           parts, outer, inner, window, sums, accumulate, dweight);
}

lks_status lks_conv_weight_gradient(lks_stream *stream, const lks_conv_gather *gather,
                                    const void *x, const void *dy, bool accumulate, float *dweight,
                                    void *scratch) {
    const int parts = count_parts(gather);
    float *sums = (float *)scratch;
    lks_status status = sum_by_precision(stream, gather, parts, x, dy, sums);
    if (status != LKS_OK) return status;
    return lks_conv_add_parts(stream, parts, gather->groups, gather->kernel[0] * gather->kernel[1],
                              gather->inner, gather->outer, sums, accumulate, dweight);
}
