/* Dropout. The mask is a function of (key, step, global sample, element) alone, so backward makes
 * it again instead of reading it. */
#include <math.h>
#include <stdlib.h>

#include "device/cpu/cast.h"
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

enum {
    LANES = 32,       /* Philox blocks made at once */
    CHUNK = 4 * LANES /* their words: elements of a unit of work */
};

typedef struct dropout_op {
    lks_op op;
    lks_dtype type;
    int64_t count; /* elements of a sample */
    double p;
    float scale;    /* 1 / (1 - p) */
    uint32_t limit; /* a word above it keeps its element */
    lks_philox_key key;
} dropout_op;

/* Units of work: chunks of CHUNK elements of every row, the last one of a row may be shorter. */
typedef struct dropout_job {
    const dropout_op *op;
    int64_t row_count;              /* elements of a row */
    int64_t chunks;                 /* of a row */
    uint64_t blocks;                /* Philox blocks of a row */
    uint64_t counter, counter_high; /* of the first row's first block */
    const void *in;
    void *out;
} dropout_job;

/* Philox 4x32-10 (see base/philox.h) for blocks counter .. counter + LANES - 1. */
LKS_CPU_INLINE void random_words(lks_philox_key key, uint64_t counter, uint64_t high,
                                 uint32_t *words) {
    uint32_t a[LANES], b[LANES], c[LANES], d[LANES];
    uint32_t key0 = key.word[0], key1 = key.word[1];
#pragma omp simd
    for (int j = 0; j < LANES; j++) {
        a[j] = (uint32_t)(counter + (uint64_t)j);
        b[j] = (uint32_t)((counter + (uint64_t)j) >> 32);
        c[j] = (uint32_t)high;
        d[j] = (uint32_t)(high >> 32);
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            const uint64_t product0 = (uint64_t)a[j] * 0xD2511F53u;
            const uint64_t product1 = (uint64_t)c[j] * 0xCD9E8D57u;
            a[j] = (uint32_t)(product1 >> 32) ^ b[j] ^ key0;
            b[j] = (uint32_t)product1;
            c[j] = (uint32_t)(product0 >> 32) ^ d[j] ^ key1;
            d[j] = (uint32_t)product0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
#pragma omp simd
    for (int j = 0; j < LANES; j++) {
        words[4 * j] = a[j];
        words[4 * j + 1] = b[j];
        words[4 * j + 2] = c[j];
        words[4 * j + 3] = d[j];
    }
}

/* Elements [at, at + n). */
LKS_CPU_INLINE void drop(lks_dtype type, const dropout_job *job, const uint32_t *words, int64_t at,
                         int64_t n) {
    const float scale = job->op->scale;
    const uint32_t limit = job->op->limit;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float kept = lks_cpu_load(type, job->in, at + i) * scale;
        lks_cpu_store(type, job->out, at + i, words[i] > limit ? kept : 0.0f);
    }
}

LKS_CPU_INLINE void drop_units(lks_dtype type, const dropout_job *job, int64_t begin, int64_t end) {
    int64_t row = begin / job->chunks, chunk = begin % job->chunks;
    for (int64_t unit = begin; unit < end; unit++) {
        uint32_t words[CHUNK];
        random_words(job->op->key,
                     job->counter + (uint64_t)row * job->blocks + (uint64_t)(chunk * LANES),
                     job->counter_high, words);
        const int64_t at = row * job->row_count + chunk * CHUNK;
        const int64_t left = job->row_count - chunk * CHUNK;
        if (left >= CHUNK)
            drop(type, job, words, at, CHUNK);
        else
            drop(type, job, words, at, left);
        if (++chunk == job->chunks) {
            chunk = 0;
            row++;
        }
    }
}

LKS_CPU_CLONES
static void drop_f32(const void *job, int64_t begin, int64_t end) {
    drop_units(LKS_F32, job, begin, end);
}

LKS_CPU_CLONES
static void drop_bf16(const void *job, int64_t begin, int64_t end) {
    drop_units(LKS_BF16, job, begin, end);
}

/* out = mask * in / (1 - p): forward and backward alike. out may be in. */
static lks_status run(const lks_op *base, const lks_op_args *args, const void *in, void *out) {
    const dropout_op *op = (const dropout_op *)base;
    if (!args->training || op->p <= 0) {
        lks_cpu_copy(base->device, op->type, args->batch * op->count, in, out);
        return LKS_OK;
    }
    const uint64_t blocks = ((uint64_t)op->count + 3) / 4;
    dropout_job job = {.op = op,
                       .row_count = op->count,
                       .blocks = blocks,
                       .counter = (uint64_t)args->first_row * blocks,
                       .counter_high = (uint64_t)(lks_cpu_counters(args).step + args->step),
                       .in = in,
                       .out = out};
    int64_t rows = args->batch;
    if (rows == 0) return LKS_OK;
    if (op->count % 4 == 0) { /* no words left over at a sample's end: all is one row */
        job.row_count *= rows;
        rows = 1;
    }
    job.chunks = (job.row_count + CHUNK - 1) / CHUNK;
    lks_cpu_parallel(base->device, rows * job.chunks, 1, LKS_CPU_EXP_GRAIN / CHUNK,
                     op->type == LKS_F32 ? drop_f32 : drop_bf16, &job);
    return LKS_OK;
}

static lks_status create(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out) {
    (void)device;
    (void)max_batch;
    const lks_dropout_desc *d = desc;
    dropout_op *op = calloc(1, sizeof *op);
    if (!op) return lks_fail(LKS_ENOMEM, "dropout: cannot allocate the operation");
    op->op.needs = (lks_op_needs){.in_place = true, .backward_in_place = true};
    op->type = type;
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
    (void)stream;
    return run(op, args, args->x, args->y);
}

static lks_status backward(lks_op *op, lks_stream *stream, const lks_op_args *args) {
    (void)stream;
    return args->dx ? run(op, args, args->dy, args->dx) : LKS_OK;
}

const lks_op_type lks_cpu_dropout = {
    .create = create, .forward = forward, .backward = backward, .destroy = destroy};
