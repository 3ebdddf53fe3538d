#include "train/exchange.h"

#include <stdlib.h>

#include "train/grad_store.h"

struct lks_exchange {
    lks_exchange_parts parts;
    lks_grad_store *store;
    double *norm;          /* device: of some ranges */
    bool sums, adds;       /* is this micro-batch summed over the ranks, and added to others? */
    int64_t ready_end;     /* gradients before it are complete in this backward */
    int started;           /* buckets whose reduction has been started in this backward */
    int done;              /* of them, those that have been waited for */
    int gathering;         /* buckets [0, gathering) may still be gathered */
    lks_request **reduce;  /* [bucket_count] */
    lks_request **gather;  /* [bucket_count] */
    int64_t *shard_counts; /* [bucket_count][size]: every rank's part of a bucket */
    lks_range *ranges;     /* [bucket_count] scratch */
};

static lks_status place_grads(void *data, int64_t offset, int64_t count, void **out);
static lks_status wait_for_params(void *data, int64_t begin, int64_t end);

/* ---- creation ---- */

static lks_status allocate(lks_exchange *exchange) {
    const lks_shard_plan *plan = exchange->parts.plan;
    size_t buckets = (size_t)plan->bucket_count, size = (size_t)plan->size;
    exchange->reduce = calloc(buckets + 1, sizeof *exchange->reduce);
    exchange->gather = calloc(buckets + 1, sizeof *exchange->gather);
    exchange->shard_counts = calloc(buckets * size + 1, sizeof *exchange->shard_counts);
    exchange->ranges = calloc(buckets + 1, sizeof *exchange->ranges);
    if (!exchange->reduce || !exchange->gather || !exchange->shard_counts || !exchange->ranges)
        return lks_fail(LKS_ENOMEM, "the exchange of %d buckets: out of host memory",
                        plan->bucket_count);
    for (size_t b = 0; b < buckets; b++)
        for (size_t r = 0; r < size; r++)
            exchange->shard_counts[b * size + r] = plan->buckets[b].count / plan->size;
    return lks_device_alloc(exchange->parts.device, sizeof *exchange->norm,
                            (void **)&exchange->norm);
}

static lks_status bind(lks_exchange *exchange) {
    lks_graph *graph = exchange->parts.graph;
    lks_status status = lks_grad_store_create(
        exchange->parts.device, exchange->parts.plan, lks_graph_largest_place(graph),
        lks_graph_grad_type(graph), exchange->parts.sum_type, &exchange->store);
    if (status) return status;
    lks_graph_set_params_wait(graph, wait_for_params, exchange);
    void *whole = lks_grad_store_whole(exchange->store);
    /* A reduce-scatter leaves anything outside of this rank's part, also in the gaps between
     * gradients: a place is zeroed there before each backward. */
    const bool scatters = exchange->parts.plan->zero_stage == 2 && exchange->parts.plan->size > 1;
    return whole && !scatters
               ? lks_graph_bind(graph, exchange->parts.params->flat, whole)
               : lks_graph_bind_placed(graph, exchange->parts.params->flat, place_grads, exchange);
}

lks_status lks_exchange_create(const lks_exchange_parts *parts, lks_exchange **out) {
    lks_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) return lks_fail(LKS_ENOMEM, "the exchange of gradients: out of host memory");
    exchange->parts = *parts;
    lks_status status = allocate(exchange);
    if (!status) status = bind(exchange);
    if (status)
        lks_exchange_destroy(exchange);
    else
        *out = exchange;
    return status;
}

size_t lks_exchange_grad_bytes(const lks_exchange *exchange) {
    return lks_grad_store_bytes(exchange->store);
}

size_t lks_exchange_sum_bytes(const lks_exchange *exchange) {
    return lks_comm_reduction_bytes(exchange->parts.comm, lks_grad_store_capacity(exchange->store),
                                    exchange->parts.sum_type);
}

/* ---- starting and waiting ---- */

/* Of work that no other rank waits for. */
static void note(lks_exchange *exchange, lks_status status) {
    lks_failure_note(exchange->parts.failure, status);
}

static int64_t *counts_of(const lks_exchange *exchange, int bucket) {
    return exchange->shard_counts + (size_t)bucket * (size_t)exchange->parts.plan->size;
}

/* Stage 2 needs the sum of its own part alone. */
static lks_status start_reduce(lks_exchange *exchange, int bucket) {
    lks_comm *comm = exchange->parts.comm;
    lks_request **request = &exchange->reduce[bucket];
    lks_dtype type;
    void *grads;
    note(exchange, lks_grad_store_send(exchange->store, bucket, &type, &grads));
    lks_comm_set_label(comm, "backward, gradients of bucket", bucket);
    if (exchange->parts.plan->zero_stage == 2)
        return lks_comm_reduce_scatter_start(comm, grads, counts_of(exchange, bucket), type,
                                             LKS_REDUCE_SUM, request);
    return lks_comm_all_reduce_start(comm, grads, exchange->parts.plan->buckets[bucket].count, type,
                                     LKS_REDUCE_SUM, request);
}

/* The buckets whose gradients are complete. */
static lks_status start_complete(lks_exchange *exchange) {
    const lks_shard_plan *plan = exchange->parts.plan;
    if (plan->size == 1) return LKS_OK;
    for (; exchange->started < plan->bucket_count; exchange->started++) {
        const lks_bucket *b = &plan->buckets[exchange->started];
        if (b->offset + b->count > exchange->ready_end) break;
        lks_status status = start_reduce(exchange, exchange->started);
        if (status) return status;
    }
    return LKS_OK;
}

lks_status lks_exchange_grads_ready(void *data, int64_t ready_end) {
    lks_exchange *exchange = data;
    if (!exchange->sums) return LKS_OK;
    exchange->ready_end = ready_end;
    if (!exchange->parts.overlap) return LKS_OK;
    lks_status status = start_complete(exchange);
    return status ? status : lks_comm_progress(exchange->parts.comm);
}

static lks_status wait_for(lks_exchange *exchange, lks_request **request) {
    lks_request *waited = *request;
    *request = NULL;
    return waited ? lks_comm_wait(exchange->parts.comm, waited) : LKS_OK;
}

/* Waits for the buckets that are complete, and keeps what this rank needs of them. */
static lks_status finish_complete(lks_exchange *exchange) {
    lks_status status = start_complete(exchange);
    for (; !status && exchange->done < exchange->started; exchange->done++) {
        status = wait_for(exchange, &exchange->reduce[exchange->done]);
        if (!status)
            note(exchange, lks_grad_store_keep(exchange->store, exchange->done, exchange->adds));
    }
    return status;
}

/* An lks_grads_place_fn: where there is no room left, the window moves on behind the buckets that
 * were complete. */
static lks_status place_grads(void *data, int64_t offset, int64_t count, void **out) {
    lks_exchange *exchange = data;
    if (!lks_grad_store_reaches(exchange->store, offset + count)) {
        lks_status status = finish_complete(exchange);
        if (status) return status;
        note(exchange,
             lks_grad_store_slide(exchange->store,
                                  exchange->parts.plan->buckets[exchange->started].offset, offset));
    }
    *out = lks_grad_store_at(exchange->store, offset);
    return LKS_OK;
}

/* The next backward begins at the front of the flat buffer. */
static lks_status finish_backward(lks_exchange *exchange) {
    lks_status status = finish_complete(exchange);
    if (status) return status;
    exchange->started = exchange->done = 0;
    exchange->ready_end = 0;
    lks_grad_store_rewind(exchange->store);
    return LKS_OK;
}

bool lks_exchange_sums_each(const lks_exchange *exchange) {
    return lks_grad_store_whole(exchange->store) == NULL;
}

lks_status lks_exchange_begin(lks_exchange *exchange, bool first, bool last, bool *accumulate) {
    const bool slides = lks_exchange_sums_each(exchange);
    lks_status status = lks_exchange_settle(exchange);
    if (!status && slides) status = finish_backward(exchange);
    exchange->sums = slides || last;
    exchange->adds = !first;
    *accumulate = !slides && !first;
    return status;
}

void lks_exchange_destroy(lks_exchange *exchange) {
    if (!exchange) return;
    for (int b = 0; b < exchange->parts.plan->bucket_count; b++) {
        if (exchange->reduce) (void)wait_for(exchange, &exchange->reduce[b]);
        if (exchange->gather) (void)wait_for(exchange, &exchange->gather[b]);
    }
    lks_grad_store_destroy(exchange->store);
    lks_device_free(exchange->parts.device, exchange->norm);
    free(exchange->reduce);
    free(exchange->gather);
    free(exchange->shard_counts);
    free(exchange->ranges);
    free(exchange);
}

/* ---- the norm ---- */

lks_range *lks_exchange_ranges(lks_exchange *exchange) {
    return exchange->ranges;
}

static lks_stream *compute_stream(const lks_exchange *exchange) {
    return lks_device_stream(exchange->parts.device, LKS_STREAM_COMPUTE);
}

/* norm: device memory, to which it is added. */
static lks_status add_up_norm(lks_exchange *exchange, lks_norm_kind kind, const lks_range *ranges,
                              int count, double *norm) {
    lks_status status = LKS_OK;
    for (int i = 0; i < count && !status; i++)
        status = lks_device_norm(exchange->parts.device, compute_stream(exchange), kind,
                                 ranges[i].count, lks_grad_store_type(exchange->store),
                                 lks_grad_store_sums(exchange->store, &ranges[i]), norm);
    return status;
}

lks_status lks_exchange_norm(lks_exchange *exchange, lks_norm_kind kind, const lks_range *ranges,
                             int count, double *out) {
    lks_stream *stream = compute_stream(exchange);
    lks_status status =
        lks_device_zero(exchange->parts.device, stream, exchange->norm, sizeof *exchange->norm);
    if (!status) status = add_up_norm(exchange, kind, ranges, count, exchange->norm);
    if (!status)
        status = lks_device_copy(exchange->parts.device, stream, out, exchange->norm, sizeof *out,
                                 LKS_COPY_TO_HOST);
    return status ? status : lks_stream_synchronize(stream);
}

static lks_status raise_flag(lks_exchange *exchange, double *parts) {
    static const double failed[2] = {0, 1};
    lks_status status = lks_device_copy(exchange->parts.device, compute_stream(exchange), parts,
                                        failed, sizeof failed, LKS_COPY_TO_DEVICE);
    return lks_failure_strand(exchange->parts.failure, exchange->parts.plan->size, status);
}

/* Every rank adds up what it owns, also where it holds the whole sum: so the order of the
 * additions, and with it every bit of the norm, is the same at every zero_stage. */
lks_status lks_exchange_reduce(lks_exchange *exchange, lks_norm_kind kind, double *parts) {
    const lks_shard_plan *plan = exchange->parts.plan;
    lks_status status = finish_backward(exchange);
    if (status) return status;
    int count =
        lks_shard_plan_overlap(plan, LKS_SHARD_OWNED, 0, plan->padded_count, exchange->ranges);
    if (exchange->parts.failure->status == LKS_OK)
        note(exchange, add_up_norm(exchange, kind, exchange->ranges, count, parts));
    if (exchange->parts.failure->status != LKS_OK) status = raise_flag(exchange, parts);
    if (status) return status;
    lks_comm_set_label(exchange->parts.comm, "update, norm of the gradients", -1);
    if (kind != LKS_NORM_INF)
        return lks_comm_all_reduce(exchange->parts.comm, parts, 2, LKS_F64, LKS_REDUCE_SUM);
    /* The bits of magnitudes, taken as integers, have the order of the numbers, and NaN above all:
     * integers have a maximum on every path. */
    return lks_comm_all_reduce(exchange->parts.comm, parts, 2, LKS_I64, LKS_REDUCE_MAX);
}

/* ---- the update ---- */

static lks_status update_bucket(lks_exchange *exchange, int bucket, const lks_grad_scale *scale) {
    lks_shard_arrays shard = lks_param_store_shard(exchange->parts.params, bucket);
    shard.grads = lks_grad_store_sums(exchange->store, &exchange->parts.plan->shards[bucket]);
    shard.grad_type = lks_grad_store_type(exchange->store);
    return lks_optimizer_step_bucket(exchange->parts.optimizer, bucket, &shard, scale);
}

/* The last bucket first: forward needs it first. */
lks_status lks_exchange_update(lks_exchange *exchange, const lks_grad_scale *scale) {
    const lks_shard_plan *plan = exchange->parts.plan;
    const lks_param_store *params = exchange->parts.params;
    lks_comm *comm = exchange->parts.comm;
    const bool sharded = plan->size > 1 && plan->zero_stage >= 1;
    lks_status status = LKS_OK;
    for (int b = plan->bucket_count - 1; b >= 0 && !status; b--) {
        note(exchange, update_bucket(exchange, b, scale));
        if (!sharded) continue;
        lks_comm_set_label(comm, "update, parameters of bucket", b);
        status =
            lks_comm_all_gather_start(comm, lks_param_store_at(params, plan->buckets[b].offset),
                                      counts_of(exchange, b), params->type, &exchange->gather[b]);
    }
    exchange->gathering = sharded ? plan->bucket_count : 0;
    return status || exchange->parts.overlap ? status : lks_exchange_settle(exchange);
}

/* An lks_params_wait_fn. */
static lks_status wait_for_params(void *data, int64_t begin, int64_t end) {
    lks_exchange *exchange = data;
    (void)end; /* what lies behind has been waited for */
    for (; exchange->gathering > 0; exchange->gathering--) {
        const int last = exchange->gathering - 1;
        const lks_bucket *bucket = &exchange->parts.plan->buckets[last];
        if (bucket->offset + bucket->count <= begin) break;
        lks_status status = wait_for(exchange, &exchange->gather[last]);
        if (status) return status;
    }
    return exchange->gathering > 0 ? lks_comm_progress(exchange->parts.comm) : LKS_OK;
}

lks_status lks_exchange_settle(lks_exchange *exchange) {
    return wait_for_params(exchange, 0, 0);
}
