#include "train/exchange.h"

#include <math.h>
#include <stdlib.h>

struct lks_exchange {
    lks_comm *comm;
    const lks_shard_plan *plan;
    lks_optimizer *optimizer;
    float *params, *grads;
    int started;           /* buckets whose all-reduce has been started in this step */
    lks_request **reduce;  /* [bucket_count] */
    lks_request **gather;  /* [bucket_count] */
    int64_t *shard_counts; /* [bucket_count][size]: every rank's part of a bucket */
};

lks_status lks_exchange_create(lks_comm *comm, const lks_shard_plan *plan, lks_optimizer *optimizer,
                               float *params, float *grads, lks_exchange **out) {
    lks_exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL)
        return lks_fail(LKS_ENOMEM, "the exchange of gradients: out of host memory");
    *exchange = (lks_exchange){
        .comm = comm, .plan = plan, .optimizer = optimizer, .params = params, .grads = grads};

    size_t buckets = (size_t)plan->bucket_count, size = (size_t)plan->size;
    exchange->reduce = calloc(buckets + 1, sizeof(*exchange->reduce));
    exchange->gather = calloc(buckets + 1, sizeof(*exchange->gather));
    exchange->shard_counts = calloc(buckets * size + 1, sizeof(*exchange->shard_counts));
    if (exchange->reduce == NULL || exchange->gather == NULL || exchange->shard_counts == NULL) {
        lks_exchange_destroy(exchange);
        return lks_fail(LKS_ENOMEM, "the exchange of %d buckets: out of host memory",
                        plan->bucket_count);
    }
    for (size_t b = 0; b < buckets; b++)
        for (size_t r = 0; r < size; r++)
            exchange->shard_counts[b * size + r] = plan->buckets[b].count / plan->size;
    *out = exchange;
    return LKS_OK;
}

void lks_exchange_destroy(lks_exchange *exchange) {
    if (exchange == NULL) return;
    free(exchange->reduce);
    free(exchange->gather);
    free(exchange->shard_counts);
    free(exchange);
}

static lks_status start_reduce(lks_exchange *exchange, int bucket) {
    const lks_bucket *b = &exchange->plan->buckets[bucket];
    return lks_comm_all_reduce_start(exchange->comm, exchange->grads + b->offset, b->count, LKS_F32,
                                     LKS_REDUCE_SUM, &exchange->reduce[bucket]);
}

lks_status lks_exchange_grads_ready(void *data, int64_t ready_end) {
    lks_exchange *exchange = data;
    const lks_shard_plan *plan = exchange->plan;
    if (plan->size == 1) return LKS_OK;
    while (exchange->started < plan->bucket_count) {
        const lks_bucket *b = &plan->buckets[exchange->started];
        if (b->offset + b->count > ready_end) break;
        lks_status status = start_reduce(exchange, exchange->started);
        if (status != LKS_OK) return status;
        exchange->started++;
    }
    return lks_comm_progress(exchange->comm);
}

/* The last bucket's padding lies behind the last gradient, so it is started here. */
static lks_status start_remaining(lks_exchange *exchange) {
    const lks_shard_plan *plan = exchange->plan;
    return lks_exchange_grads_ready(exchange, plan->padded_count);
}

static lks_status start_gather(lks_exchange *exchange, int bucket) {
    const lks_shard_plan *plan = exchange->plan;
    return lks_comm_all_gather_start(exchange->comm,
                                     exchange->params + plan->buckets[bucket].offset,
                                     exchange->shard_counts + (size_t)bucket * (size_t)plan->size,
                                     LKS_F32, &exchange->gather[bucket]);
}

static lks_status wait_for(lks_exchange *exchange, lks_request **request) {
    lks_request *waited = *request;
    *request = NULL;
    return waited == NULL ? LKS_OK : lks_comm_wait(exchange->comm, waited);
}

lks_status lks_exchange_finish(lks_exchange *exchange, double lr, const double *divisor) {
    const lks_shard_plan *plan = exchange->plan;
    lks_status status = start_remaining(exchange);
    exchange->started = 0;
    const lks_group_rates rates = {.lr = lr, .momentum = NAN};
    const lks_grad_scale scale = {.divisor = divisor, .scale = 1};
    if (status == LKS_OK) status = lks_optimizer_begin_step(exchange->optimizer, &rates);

    bool sharded = plan->size > 1 && plan->zero_stage >= 1;
    for (int b = 0; b < plan->bucket_count && status == LKS_OK; b++) {
        status = wait_for(exchange, &exchange->reduce[b]);
        if (status == LKS_OK)
            status = lks_optimizer_step_bucket(exchange->optimizer, b, exchange->params,
                                               exchange->grads, &scale);
        if (status == LKS_OK && sharded) status = start_gather(exchange, b);
    }
    for (int b = 0; b < plan->bucket_count && status == LKS_OK && sharded; b++)
        status = wait_for(exchange, &exchange->gather[b]);
    return status;
}

lks_status lks_exchange_abandon(lks_exchange *exchange) {
    lks_status status = start_remaining(exchange);
    exchange->started = 0;
    for (int b = 0; b < exchange->plan->bucket_count && status == LKS_OK; b++)
        status = wait_for(exchange, &exchange->reduce[b]);
    return status;
}
