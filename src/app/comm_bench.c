#include "app/comm_bench.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    BATCHES = 5,        /* of calls; their median counts */
    MOST_CALLS = 1000,  /* of a batch */
    PIECE = 1024 * 1024 /* elements that are filled and checked at a time */
};
static const double batch_seconds = 0.02;

typedef struct bench {
    lks_comm *comm;
    lks_device *device;
    lks_stream *stream;
    float *data;     /* device memory */
    float *piece;    /* host memory, [PIECE] */
    int64_t *counts; /* [size] of the present call */
    int64_t count;   /* of all parts */
    bool beside;     /* computing is timed beside calls, too */
    /* Of what is computed beside calls. Nobody reads it, but a compiler may not leave it out. */
    volatile double product;
} bench;

static const lks_collective kinds[LKS_COMM_BENCH_KINDS] = {LKS_ALL_REDUCE, LKS_REDUCE_SCATTER,
                                                           LKS_ALL_GATHER};

int lks_comm_bench_count(int64_t most) {
    int sizes = 0;
    for (int64_t bytes = LKS_COMM_BENCH_LEAST; bytes <= most; bytes *= LKS_COMM_BENCH_FACTOR)
        sizes++;
    return LKS_COMM_BENCH_KINDS * sizes;
}

/* ---- data whose results are known, and exact in float32 for any number of ranks in use ---- */

static float value_of(int rank, int64_t element) {
    return (float)(element % 61 + rank % 7);
}

static float sum_of(int size, int64_t element) {
    const int rest = size % 7;
    return (float)(size * (element % 61) + size / 7 * 21 + rest * (rest - 1) / 2);
}

static bool is_part_of(const bench *b, int rank, int64_t element) {
    int64_t begin, end;
    lks_split(b->count, rank, lks_comm_size(b->comm), &begin, &end);
    return element >= begin && element < end;
}

/* Which rank's part an element is in. */
static int part_of(const bench *b, int64_t element) {
    int rank = 0;
    while (!is_part_of(b, rank, element))
        rank++;
    return rank;
}

static lks_status fill(const bench *b) {
    const int rank = lks_comm_rank(b->comm);
    for (int64_t at = 0; at < b->count; at += PIECE) {
        const int64_t length = b->count - at < PIECE ? b->count - at : PIECE;
        for (int64_t i = 0; i < length; i++)
            b->piece[i] = value_of(rank, at + i);
        lks_status status = lks_device_copy(b->device, b->stream, b->data + at, b->piece,
                                            (size_t)length * sizeof(float), LKS_COPY_TO_DEVICE);
        if (!status) status = lks_stream_synchronize(b->stream);
        if (status) return status;
    }
    return LKS_OK;
}

/* What the element must be afterwards; a reduce-scatter promises this rank's part alone. */
static bool is_right(const bench *b, lks_collective kind, int owner, int64_t element, float got) {
    if (kind == LKS_ALL_GATHER) return got == value_of(owner, element);
    if (kind == LKS_REDUCE_SCATTER && owner != lks_comm_rank(b->comm)) return true;
    return got == sum_of(lks_comm_size(b->comm), element);
}

static lks_status check(const bench *b, lks_collective kind) {
    int owner = 0;
    for (int64_t at = 0; at < b->count; at += PIECE) {
        const int64_t length = b->count - at < PIECE ? b->count - at : PIECE;
        lks_status status = lks_device_copy(b->device, b->stream, b->piece, b->data + at,
                                            (size_t)length * sizeof(float), LKS_COPY_TO_HOST);
        if (!status) status = lks_stream_synchronize(b->stream);
        if (status) return status;
        for (int64_t i = 0; i < length; i++) {
            if (!is_part_of(b, owner, at + i)) owner = part_of(b, at + i);
            if (is_right(b, kind, owner, at + i, b->piece[i])) continue;
            return lks_fail(LKS_ECOMM,
                            "%s of %" PRId64 " bytes: element %" PRId64 " is %g, which is wrong: "
                            "numbers that went through this communicator cannot be trusted",
                            lks_collective_name(kind), b->count * (int64_t)sizeof(float), at + i,
                            b->piece[i]);
        }
    }
    return LKS_OK;
}

/* ---- calls, and computing beside them ---- */

static lks_status start(const bench *b, lks_collective kind, lks_request **out) {
    if (kind == LKS_ALL_REDUCE)
        return lks_comm_all_reduce_start(b->comm, b->data, b->count, LKS_F32, LKS_REDUCE_SUM, out);
    if (kind == LKS_ALL_GATHER)
        return lks_comm_all_gather_start(b->comm, b->data, b->counts, LKS_F32, out);
    return lks_comm_reduce_scatter_start(b->comm, b->data, b->counts, LKS_F32, LKS_REDUCE_SUM, out);
}

static lks_status call(const bench *b, lks_collective kind) {
    lks_request *request;
    lks_status status = start(b, kind, &request);
    return status ? status : lks_comm_wait(b->comm, request);
}

/* So many operations, one after the other. */
static void compute(bench *b, int64_t operations) {
    double product = 1;
    for (int64_t i = 0; i < operations; i++)
        product *= 1 - 1e-9;
    b->product = product;
}

/* As backward does, which looks after what is under way when a layer is done. */
static lks_status call_and_compute(bench *b, lks_collective kind, int64_t operations) {
    enum { LAYERS = 16 };
    lks_request *request;
    lks_status status = start(b, kind, &request);
    for (int layer = 0; layer < LAYERS && !status; layer++) {
        compute(b, operations / LAYERS);
        status = lks_comm_progress(b->comm);
    }
    return status ? status : lks_comm_wait(b->comm, request);
}

/* ---- timing ---- */

/* What is timed: calls, computing, or computing beside a call. */
typedef struct task {
    lks_collective kind;
    bool calls;
    int64_t operations;
} task;

static lks_status run(bench *b, const task *what) {
    if (what->calls && what->operations > 0)
        return call_and_compute(b, what->kind, what->operations);
    if (what->calls) return call(b, what->kind);
    compute(b, what->operations);
    return LKS_OK;
}

/* Seconds of one of `count` times, on the slowest rank. */
static lks_status time_batch(bench *b, const task *what, int64_t count, double *out) {
    lks_status status = lks_comm_barrier(b->comm);
    const double begin = lks_clock_seconds();
    for (int64_t i = 0; i < count && !status; i++)
        status = run(b, what);
    if (status) return status; /* of a collective: what the others learn they learn there */
    status = lks_stream_synchronize(b->stream);
    *out = (lks_clock_seconds() - begin) / (double)count;
    status = lks_comm_agree(b->comm, status);
    return status ? status : lks_comm_all_reduce(b->comm, out, 1, LKS_F64, LKS_REDUCE_MAX);
}

static int compare_times(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All ranks have the same times, so they go through it equally often. */
static lks_status time_task(bench *b, const task *what, double *out) {
    double seconds[BATCHES], first = 0;
    lks_status status = time_batch(b, what, 2, &first);
    const double wanted = first > 0 ? batch_seconds / first : MOST_CALLS;
    const int64_t count = wanted < 1 ? 1 : wanted > MOST_CALLS ? MOST_CALLS : (int64_t)wanted;
    for (int i = 0; i < BATCHES && !status; i++)
        status = time_batch(b, what, count, &seconds[i]);
    if (status) return status;
    qsort(seconds, BATCHES, sizeof *seconds, compare_times);
    *out = seconds[BATCHES / 2];
    return LKS_OK;
}

/* By how much as many seconds of computing become longer. */
static lks_status time_beside(bench *b, lks_comm_sample *sample) {
    enum { TRIAL = 1000000 };
    task alone = {.kind = sample->kind, .operations = TRIAL};
    double trial, computing, both;
    lks_status status = time_task(b, &alone, &trial);
    if (status) return status;
    alone.operations = (int64_t)(TRIAL * sample->seconds / trial) + 1;
    const task beside = {.kind = sample->kind, .calls = true, .operations = alone.operations};
    status = time_task(b, &alone, &computing);
    if (!status) status = time_task(b, &beside, &both);
    if (!status) sample->busy = both > computing ? both - computing : 0;
    return status;
}

static lks_status time_sample(bench *b, lks_comm_sample *sample) {
    const task calls = {.kind = sample->kind, .calls = true};
    const bool through_hosts = lks_comm_host_count(b->comm) > 1 && !lks_comm_is_on_device(b->comm);
    lks_status status = time_task(b, &calls, &sample->seconds);
    return !status && b->beside && through_hosts ? time_beside(b, sample) : status;
}

/* Zeros stay zeros however often they are added up. */
static lks_status measure(bench *b, lks_comm_sample *sample) {
    const int size = lks_comm_size(b->comm);
    const int64_t part = (sample->bytes / (int64_t)sizeof(float) + size - 1) / size;
    b->count = part * size;
    for (int r = 0; r < size; r++)
        b->counts[r] = part;
    lks_status status = lks_comm_agree(b->comm, fill(b));
    if (!status) status = call(b, sample->kind);
    if (!status) status = lks_comm_agree(b->comm, check(b, sample->kind));
    if (!status)
        status = lks_comm_agree(b->comm, lks_device_zero(b->device, b->stream, b->data,
                                                         (size_t)b->count * sizeof(float)));
    return status ? status : time_sample(b, sample);
}

void lks_comm_bench_list(int64_t most, lks_comm_sample *out) {
    for (int k = 0; k < LKS_COMM_BENCH_KINDS; k++)
        for (int64_t bytes = LKS_COMM_BENCH_LEAST; bytes <= most; bytes *= LKS_COMM_BENCH_FACTOR)
            *out++ = (lks_comm_sample){.kind = kinds[k], .bytes = bytes};
}

lks_status lks_comm_measure(lks_comm *comm, lks_device *device, bool busy, lks_comm_sample *samples,
                            int count) {
    bench b = {.comm = comm,
               .device = device,
               .stream = lks_device_stream(device, LKS_STREAM_COMPUTE),
               .beside = busy};
    const size_t padding = (size_t)lks_comm_size(comm) * sizeof(float);
    int64_t most = 0;
    for (int i = 0; i < count; i++)
        most = samples[i].bytes > most ? samples[i].bytes : most;
    b.counts = calloc((size_t)lks_comm_size(comm), sizeof *b.counts);
    b.piece = malloc(PIECE * sizeof *b.piece);
    lks_status status = b.counts && b.piece
                            ? lks_device_alloc(device, (size_t)most + padding, (void **)&b.data)
                            : lks_fail(LKS_ENOMEM, "out of memory");
    status = lks_comm_agree(comm, status);
    for (int i = 0; i < count && !status; i++)
        status = measure(&b, &samples[i]);
    lks_device_free(device, b.data);
    free(b.piece);
    free(b.counts);
    return status;
}
