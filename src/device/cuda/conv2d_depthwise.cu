/* Depthwise convolution: a channel that is made sees one channel alone, through a window of its
 * own, so there is no product to make, and memory is what it waits for. Threads stand side by side
 * on the channels of a pixel that is made, its columns, with a pack of them each. In forward
 * `outer` neighbours see the same channel, in the gradient of the input each column sees `inner` of
 * them. */
#include "device/cuda/column_sums.cuh"
#include "device/cuda/conv2d_gather.cuh"

static constexpr int PIXELS = 4; /* rows of a thread at a time, which share the weights they load */
static constexpr int TAPS = 4;   /* of the window, whose gradients a thread sums at a time */

namespace {

/* What N columns side by side see of a pixel: a channel each, or `outer` neighbours the same one.
 */
template <int N> struct seen_channels {
    int channel[N];
    bool one_each;
    __device__ seen_channels(const lks_conv_gather &g, int64_t column) : one_each(g.outer == 1) {
        for (int i = 0; i < N; i++)
            channel[i] = (int)(column + i) / g.outer * g.inner;
    }
    template <typename T> __device__ void load(const T *pixel, float *seen) const {
        if (one_each)
            lks_load<T, N>(pixel + channel[0], seen);
        else
            for (int i = 0; i < N; i++)
                seen[i] = lks_to_float(pixel[channel[i]]);
    }
};

} // namespace

/* ---- forward, and the gradient of the input ---- */

/* Adds, for the rows of a thread, what they see through all taps. N is 1 where inner is not. */
template <typename T, int N>
static __device__ void add_taps(const lks_conv_gather &g, const conv_row *rows, int64_t column,
                                const T *source, const T *weights, float (*sum)[N]) {
    const seen_channels<N> channels(g, column);
    const int64_t of_a_tap = (int64_t)g.groups * g.outer * g.inner;
    for (int kh = 0; kh < g.kernel[0]; kh++)
        for (int kw = 0; kw < g.kernel[1]; kw++)
            for (int k = 0; k < g.inner; k++) {
                float weight[N];
                lks_load<T, N>(weights + find_tap(g, kh, kw) * of_a_tap + column * g.inner + k,
                               weight);
                for (int p = 0; p < PIXELS; p++) {
                    const int pixel = find_pixel(g, rows[p], kh, kw);
                    if (pixel < 0) continue;
                    float seen[N];
                    channels.load(source + (int64_t)pixel * g.groups * g.inner + k, seen);
                    for (int i = 0; i < N; i++)
                        sum[p][i] += seen[i] * weight[i];
                }
            }
}

/* blockIdx.x chooses the columns, blockIdx.y and its like take the rows in turn. */
template <typename T, int N>
static __global__ void depthwise(const lks_conv_gather g, int lanes, const T *source,
                                 const T *weights, const T *bias, bool relu, T *y) {
    const lks_column_place place(lanes, N);
    const int64_t step = (int64_t)gridDim.y * place.height * PIXELS;
    const int64_t columns = (int64_t)g.groups * g.outer;
    if (place.column >= columns) return;
    for (int64_t first = (int64_t)blockIdx.y * place.height * PIXELS + place.row_lane;
         first < g.rows; first += step) {
        conv_row rows[PIXELS];
        float sum[PIXELS][N] = {};
        for (int p = 0; p < PIXELS; p++)
            rows[p] = find_row(g, first + p * place.height);
        add_taps<T, N>(g, rows, place.column, source, weights, sum);
        for (int p = 0; p < PIXELS; p++)
            if (rows[p].image >= 0)
                finish_sums<T, N>(sum[p], bias ? bias + place.column : nullptr, relu,
                                  y + rows[p].target * columns + place.column);
    }
}

lks_status lks_conv_depthwise(lks_stream *stream, const lks_conv_gather *g, const void *source,
                              const void *packed, const void *bias, bool relu, void *y) {
    const int64_t columns = (int64_t)g->groups * g->outer;
    const bool aligned = g->inner == 1 && lks_cuda_aligned(source, packed, y);
    return lks_cuda_typed(stream->device, [&](auto zero) {
        typedef decltype(zero) T;
        return lks_cuda_in_packs<T>(columns, aligned, [&](auto n) {
            const int lanes = lks_column_lanes(columns, n);
            const int64_t across = (columns + lanes * n - 1) / (lanes * n);
            const int64_t height = LKS_CUDA_BLOCK / lanes * PIXELS;
            const int64_t down = (g->rows + height - 1) / height;
            const dim3 grid((unsigned)across, (unsigned)(down < 65535 ? down : 65535));
            return lks_cuda_launch(stream, "depthwise convolution", depthwise<T, n>, grid,
                                   LKS_CUDA_BLOCK, 0, *g, lanes, (const T *)source,
                                   (const T *)packed, (const T *)bias, relu, (T *)y);
        });
    });
}

/* ---- the gradient of the weights ---- */

/* Adds N sums of the block's threads that stand on the same columns, and stores them. */
template <int N>
static __device__ void store_sums(const lks_column_place &place, const float *sum, bool wanted,
                                  float *out) {
    static __shared__ float shared[N][LKS_CUDA_BLOCK];
    for (int i = 0; i < N; i++)
        shared[i][threadIdx.x] = sum[i];
    for (int half = place.height / 2; half > 0; half /= 2) {
        __syncthreads();
        if (place.row_lane < half)
            for (int i = 0; i < N; i++)
                shared[i][threadIdx.x] += shared[i][threadIdx.x + half * place.lanes];
    }
    if (wanted && place.row_lane == 0)
        for (int i = 0; i < N; i++)
            out[i] = shared[i][threadIdx.x];
    __syncthreads();
}

/* sums: [chunks, window, columns]. blockIdx.x chooses the columns, y the chunk of the rows, z the
 * taps. */
template <typename T, int N>
static __global__ void depthwise_sums(const lks_conv_gather g, int lanes, const T *x, const T *dy,
                                      float *sums) {
    const lks_column_place place(lanes, N);
    const int first = (int)blockIdx.z * TAPS, window = g.kernel[0] * g.kernel[1];
    const int64_t begin = (int64_t)g.rows * blockIdx.y / gridDim.y;
    const int64_t end = (int64_t)g.rows * (blockIdx.y + 1) / gridDim.y;
    const int64_t columns = (int64_t)g.groups * g.outer;
    const bool there = place.column < columns;
    const seen_channels<N> channels(g, place.column);
    float sum[TAPS][N] = {};
    for (int64_t r = begin + place.row_lane; there && r < end; r += place.height) {
        const conv_row row = find_row(g, r);
        float gradient[N], seen[N];
        lks_load<T, N>(dy + r * columns + place.column, gradient);
        for (int t = 0; t < TAPS && first + t < window; t++) {
            const int kh = (first + t) / g.kernel[1], kw = (first + t) % g.kernel[1];
            const int pixel = find_pixel(g, row, kh, kw);
            if (pixel < 0) continue;
            channels.load(x + (int64_t)pixel * g.groups, seen);
            for (int i = 0; i < N; i++)
                sum[t][i] += seen[i] * gradient[i];
        }
    }
    for (int t = 0; t < TAPS; t++)
        store_sums<N>(place, sum[t], there && first + t < window,
                      sums + ((int64_t)blockIdx.y * window + first + t) * columns + place.column);
}

static int64_t sums_of_a_chunk(const lks_conv_gather *g) {
    return (int64_t)g->groups * g->outer * g->kernel[0] * g->kernel[1];
}

/* Chunks of the rows, enough to occupy a large device, of a length that pays, within a bound of
 * memory; by the shape alone, and so are the bits of the result. Never fewer for more rows. */
static int count_chunks(const lks_conv_gather *g) {
    constexpr int64_t CHUNKS = 512, ROWS = 64, BYTES = 64 << 20;
    const int64_t bytes = sums_of_a_chunk(g) * (int64_t)sizeof(float);
    int64_t chunks = CHUNKS;
    if (chunks > g->rows / ROWS) chunks = g->rows / ROWS;
    if (chunks > BYTES / bytes) chunks = BYTES / bytes;
    return chunks < 1 ? 1 : (int)chunks;
}

size_t lks_conv_depthwise_scratch_bytes(const lks_conv_gather *g) {
    return (size_t)(count_chunks(g) * sums_of_a_chunk(g)) * sizeof(float);
}

lks_status lks_conv_depthwise_weight_gradient(lks_stream *stream, const lks_conv_gather *g,
                                              const void *x, const void *dy, bool accumulate,
                                              float *dweight, void *scratch) {
    const int chunks = count_chunks(g), window = g->kernel[0] * g->kernel[1];
    const int columns = g->groups * g->outer;
    float *sums = (float *)scratch;
    lks_status status = lks_cuda_typed(stream->device, [&](auto zero) {
        typedef decltype(zero) T;
        return lks_cuda_in_packs<T>(columns, lks_cuda_aligned(x, dy), [&](auto n) {
            const int lanes = lks_column_lanes(columns, n);
            const dim3 grid((unsigned)((columns + lanes * n - 1) / (lanes * n)), (unsigned)chunks,
                            (unsigned)((window + TAPS - 1) / TAPS));
            return lks_cuda_launch(stream, "gradient of a depthwise convolution's weights",
                                   depthwise_sums<T, n>, grid, LKS_CUDA_BLOCK, 0, *g, lanes,
                                   (const T *)x, (const T *)dy, sums);
        });
    });
    if (status != LKS_OK) return status;
    return lks_conv_add_parts(stream, chunks, 1, window, 1, columns, sums, accumulate, dweight);
}
