/* Dropout. The mask is a function of (key, step, global sample, element) alone, so backward makes
 * it again instead of reading it. */
#include <math.h>
#include <stdlib.h>

#include "device/cuda/map.cuh"
#include "device/cuda/philox.cuh"

namespace {

struct dropout_op {
    lks_op op;
    int64_t count; /* elements of a sample */
    double p;
    float scale;    /* 1 / (1 - p) */
    uint32_t limit; /* a word above it keeps its element */
    lks_philox_key key;
};

/* What a kernel needs of the operation and the call. Rows are samples, or all of them together
 * where no words are left over at a sample's end. */
struct dropout_mask {
    lks_philox_key key;
    uint64_t counter;                  /* of the first row's first block */
    int64_t step;                      /* from counters on */
    const lks_step_counters *counters; /* may be NULL */
    float scale;
    uint32_t limit;

    /* Before the first words. */
    __device__ void read_counters() {
        if (counters) step += counters->step;
    }
    __device__ lks_philox_block words(int64_t block) const {
        return lks_cuda_philox(key, counter + (uint64_t)block, (uint64_t)step);
    }
    __device__ float apply(uint32_t word, float x) const {
        const float kept = x * scale;
        return word > limit ? kept : 0.0f;
    }
};

} // namespace

/* One row in packs. */
template <typename T>
static __global__ void drop_packs(int64_t packs, const T *in, T *out, dropout_mask mask) {
    enum { PACK = lks_pack<T>::COUNT };
    mask.read_counters();
    for (int64_t p = lks_thread(); p < packs; p += lks_threads()) {
        float v[PACK];
        lks_load<T, PACK>(in + p * PACK, v);
        for (int at = 0; at < PACK; at += 4) {
            const lks_philox_block words = mask.words(p * (PACK / 4) + at / 4);
            for (int j = 0; j < 4; j++)
                v[at + j] = mask.apply(words.word[j], v[at + j]);
        }
        lks_store<T, PACK>(out + p * PACK, v);
    }
}

/* Rows of `count` elements, which take `blocks` Philox blocks each, from block `first` of the first
 * row on. */
template <typename T>
static __global__ void drop_blocks(int64_t first, int64_t units, int64_t count, int64_t blocks,
                                   const T *in, T *out, dropout_mask mask) {
    mask.read_counters();
    for (int64_t unit = first + lks_thread(); unit < units; unit += lks_threads()) {
        const int64_t row = unit / blocks, element = unit % blocks * 4;
        const lks_philox_block words = mask.words(unit);
        for (int j = 0; j < 4 && element + j < count; j++) {
            const int64_t at = row * count + element + j;
            lks_set(&out[at], mask.apply(words.word[j], lks_to_float(in[at])));
        }
    }
}

template <typename T>
static lks_status drop(lks_stream *stream, int64_t rows, int64_t count, const dropout_mask &mask,
                       const void *in, void *out) {
    enum { PACK = lks_pack<T>::COUNT };
    int64_t packs = 0;
    lks_status status = LKS_OK;
    if (count % 4 == 0) {
        count *= rows;
        rows = 1;
        if (lks_cuda_aligned(in, out)) packs = count / PACK;
        status = lks_cuda_launch(stream, "dropout", drop_packs<T>,
                                 lks_cuda_blocks(stream, packs, LKS_CUDA_BLOCK), LKS_CUDA_BLOCK, 0,
                                 packs, (const T *)in, (T *)out, mask);
    }
    const int64_t blocks = (count + 3) / 4, first = packs * (PACK / 4);
    if (status != LKS_OK || blocks == 0) return status;
    return lks_cuda_launch(stream, "dropout", drop_blocks<T>,
                           lks_cuda_blocks(stream, rows * blocks - first, LKS_CUDA_BLOCK),
                           LKS_CUDA_BLOCK, 0, first, rows * blocks, count, blocks, (const T *)in,
                           (T *)out, mask);
}

/* ---- the operation ---- */

/* out = mask * in / (1 - p): forward and backward alike. out may be in. */
static lks_status run(const lks_op *base, lks_stream *stream, const lks_op_args *args,
                      const void *in, void *out) {
    const dropout_op *op = (const dropout_op *)base;
    if (!args->training || op->p <= 0)
        return lks_cuda_copy(stream, args->batch * op->count, in, out);
    const uint64_t blocks = ((uint64_t)op->count + 3) / 4;
    const dropout_mask mask = {op->key,    (uint64_t)args->first_row * blocks,
                               args->step, args->counters,
                               op->scale,  op->limit};
    return lks_cuda_typed(base->device, [&](auto zero) {
        return drop<decltype(zero)>(stream, args->batch, op->count, mask, in, out);
    });
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)type;
    (void)max_batch;
    const lks_dropout_desc *d = (const lks_dropout_desc *)desc;
    dropout_op *op = (dropout_op *)calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "dropout: cannot allocate the operation");
    op->op.needs.in_place = op->op.needs.backward_in_place = true;
    op->count = d->count;
    op->p = d->p;
    op->scale = (float)(1 / (1 - d->p));
    /* uniform >= p, for the upper 24 bits of a word: word >= ceil(2^24 p) 2^8 */
    op->limit = (uint32_t)(((uint64_t)ceil(d->p * 0x1p24) << 8) - 1);
    op->key = d->key;
    *out = &op->op;
    return LKS_OK;
}

static void destroy(lks_op *op) {
    free(op);
}

static lks_status forward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    return run(op, stream, args, args->x, args->y);
}

static lks_status backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    return args->dx ? run(op, stream, args, args->dy, args->dx) : LKS_OK;
}

extern "C" const lks_op_type lks_cuda_dropout = {create, forward, backward, destroy};
