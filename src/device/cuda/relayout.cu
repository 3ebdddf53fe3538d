/* [channels, spatial] to [spatial, channels] and back: a transpose of every sample, in square tiles
 * that pass through shared memory, so that both sides are read and written in order. */
#include <stdlib.h>

#include "device/cuda/map.cuh"

namespace {

struct relayout_op {
    lks_op op;
    int64_t channels, spatial;
    lks_layout from, to;
};

} // namespace

namespace {

/* A tile is [SIDE, SIDE]: 128 bytes, or 8 packs, to a row. */
template <typename T> struct transpose_tile {
    enum { SIDE = 128 / (int)sizeof(T), PAD = 4 / (int)sizeof(T) }; /* against bank conflicts */
    T at[SIDE][SIDE + PAD];
};

} // namespace

/* to[sample][column][row] = from[sample][row][column]; T has the elements' size, and bits are
 * moved, IN and OUT at a time, which divide columns and rows. Blocks take tiles in turn, `across`
 * to a row of tiles and `down` such rows to a sample. */
template <typename T, int IN, int OUT>
static __global__ void transpose(int64_t tiles, int64_t across, int64_t down, int64_t rows,
                                 int64_t columns, const T *from, T *to) {
    enum { SIDE = transpose_tile<T>::SIDE };
    static __shared__ transpose_tile<T> tile[1];
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int64_t sample = t / (across * down) * rows * columns;
        const int64_t row = t / across % down * SIDE, column = t % across * SIDE;
        for (int i = (int)threadIdx.x * IN; i < SIDE * SIDE; i += LKS_CUDA_BLOCK * IN) {
            const int r = i / SIDE, c = i % SIDE;
            if (row + r >= rows || column + c >= columns) continue;
            const lks_elements<T, IN> in = *reinterpret_cast<const lks_elements<T, IN> *>(
                from + sample + (row + r) * columns + column + c);
            for (int j = 0; j < IN; j++)
                tile->at[r][c + j] = in.value[j];
        }
        __syncthreads();
        for (int i = (int)threadIdx.x * OUT; i < SIDE * SIDE; i += LKS_CUDA_BLOCK * OUT) {
            const int c = i / SIDE, r = i % SIDE;
            if (row + r >= rows || column + c >= columns) continue;
            lks_elements<T, OUT> out;
            for (int j = 0; j < OUT; j++)
                out.value[j] = tile->at[r + j][c];
            *reinterpret_cast<lks_elements<T, OUT> *>(to + sample + (column + c) * rows + row + r) =
                out;
        }
        __syncthreads();
    }
}

/* from[batch][rows][columns] to to[batch][columns][rows]. */
template <typename T>
static lks_status transpose_of(lks_stream *stream, int64_t batch, int64_t rows, int64_t columns,
                               const void *from, void *to) {
    enum { SIDE = transpose_tile<T>::SIDE };
    const int64_t across = (columns + SIDE - 1) / SIDE, down = (rows + SIDE - 1) / SIDE;
    const int64_t tiles = batch * across * down;
    return lks_cuda_in_packs<T>(columns, lks_cuda_aligned(from), [&](auto in) {
        return lks_cuda_in_packs<T>(rows, lks_cuda_aligned(to), [&](auto out) {
            return lks_cuda_launch(stream, "relayout", transpose<T, in, out>,
                                   lks_cuda_blocks(stream, tiles, 1), LKS_CUDA_BLOCK, 0, tiles,
                                   across, down, rows, columns, (const T *)from, (T *)to);
        });
    });
}

static lks_status run_transpose(lks_stream *stream, int64_t batch, int64_t rows, int64_t columns,
                                const void *from, void *to) {
    return lks_device_dtype(stream->device) == LKS_BF16
               ? transpose_of<uint16_t>(stream, batch, rows, columns, from, to)
               : transpose_of<uint32_t>(stream, batch, rows, columns, from, to);
}

/* Do both layouts have the same order in memory? */
static bool is_copy(const relayout_op *op) {
    return op->from == op->to || op->channels == 1 || op->spatial == 1;
}

static lks_status convert(const relayout_op *op, lks_stream *stream, int64_t batch,
                          lks_layout layout, const void *from, void *to) {
    if (is_copy(op)) return lks_cuda_copy(stream, batch * op->channels * op->spatial, from, to);
    const bool rows = layout == LKS_LAYOUT_ROWS;
    return run_transpose(stream, batch, rows ? op->channels : op->spatial,
                         rows ? op->spatial : op->channels, from, to);
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    const lks_relayout_desc *d = (const lks_relayout_desc *)desc;
    relayout_op *op = (relayout_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "relayout: cannot allocate the operation");
    op->channels = d->channels;
    op->spatial = d->spatial;
    op->from = d->from;
    op->to = d->to;
    op->op.needs.in_place = op->op.needs.backward_in_place = is_copy(op);
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const relayout_op *op = (const relayout_op *)base;
    return convert(op, stream, args->batch, op->from, args->x, args->y);
}

static lks_status backward(lks_op *base, lks_stream *stream, const lks_op_args *args) {
    const relayout_op *op = (const relayout_op *)base;
    return args->dx ? convert(op, stream, args->batch, op->to, args->dy, args->dx) : LKS_OK;
}

extern "C" const lks_op_type lks_cuda_relayout = {create, forward, backward, destroy};
