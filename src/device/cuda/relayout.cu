/* [channels, spatial] to [spatial, channels] and back: a transpose of every sample, in square tiles
 * that pass through shared memory, so that both sides are read and written in order. */
#include <stdlib.h>

#include "device/cuda/map.cuh"

enum { TILE = 32, TILE_ROWS = LKS_CUDA_BLOCK / TILE };

namespace {

struct relayout_op {
    lks_op op;
    int64_t channels, spatial;
    lks_layout from, to;
};

} // namespace

/* to[sample][column][row] = from[sample][row][column]; T has the elements' size, and bits are
 * moved. Blocks take tiles in turn, `across` to a row of tiles and `down` such rows to a sample. */
template <typename T>
static __global__ void transpose(int64_t tiles, int64_t across, int64_t down, int64_t rows,
                                 int64_t columns, const T *from, T *to) {
    static __shared__ T shared[TILE][TILE + 1]; /* + 1: a column lies in different banks */
    const int x = (int)threadIdx.x % TILE, y = (int)threadIdx.x / TILE;
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int64_t sample = tile / (across * down) * rows * columns;
        const int64_t row = tile / across % down * TILE, column = tile % across * TILE;
        for (int i = y; i < TILE && row + i < rows && column + x < columns; i += TILE_ROWS)
            shared[i][x] = from[sample + (row + i) * columns + column + x];
        __syncthreads();
        for (int i = y; i < TILE && column + i < columns && row + x < rows; i += TILE_ROWS)
            to[sample + (column + i) * rows + row + x] = shared[x][i];
        __syncthreads();
    }
}

/* from[batch][rows][columns] to to[batch][columns][rows]. */
template <typename T>
static lks_status transpose_of(lks_stream *stream, int64_t batch, int64_t rows, int64_t columns,
                               const void *from, void *to) {
    const int64_t across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    const int64_t tiles = batch * across * down;
    return lks_cuda_launch(stream, "relayout", transpose<T>, lks_cuda_blocks(stream, tiles, 1),
                           LKS_CUDA_BLOCK, 0, tiles, across, down, rows, columns, (const T *)from,
                           (T *)to);
}

static lks_status run_transpose(lks_stream *stream, int64_t batch, int64_t rows, int64_t columns,
                                const void *from, void *to) {
    return lks_cuda_dtype(stream->device) == LKS_BF16
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

static lks_status create(lks_device *device, const void *desc, int64_t max_batch, lks_op **out) {
    (void)device;
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
