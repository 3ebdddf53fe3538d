/* What a step computes and exchanges. */
#include <stdlib.h>

#include "train/trainer.h"

/* The layer of the last parameter that begins before `end` in the flat buffer. */
static int layer_before(const lks_graph *graph, int64_t end) {
    int64_t last = -1;
    int layer = 0;
    for (int i = 0; i < lks_graph_param_count(graph); i++) {
        const lks_param *param = lks_graph_param(graph, i);
        if (param->frozen || param->offset >= end || param->offset <= last) continue;
        last = param->offset;
        layer = param->layer;
    }
    return layer;
}

lks_status lks_trainer_get_outline(const lks_trainer *t, lks_outline *out) {
    const lks_shard_plan *plan = t->plan;
    const int64_t batch = lks_trainer_global_rows(t);
    int64_t begin, end;
    lks_split(batch, lks_comm_rank(t->context->comm), plan->size, &begin, &end);
    *out = (lks_outline){
        .run_steps = t->config.epochs * lks_loader_steps(t->loader),
        .batch = batch,
        .rows = end - begin,
        .micro_batches = lks_trainer_micro_batches(t),
        .overlap = t->config.overlap,
        .gathers_ahead = t->config.overlap && t->recorder == NULL,
        .sums_each = lks_exchange_sums_each(t->exchange),
        .updated = plan->state_count,
        .layer_count = lks_graph_layer_count(t->graph),
        .bucket_count = plan->bucket_count,
        .buckets = calloc((size_t)plan->bucket_count + 1, sizeof(*out->buckets)),
    };
    if (out->buckets == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for %d buckets", plan->bucket_count);
    for (int i = 0; i < out->layer_count; i++)
        out->synchronized_count += lks_graph_layer(t->graph, i).is_synchronized;
    for (int b = 0; b < plan->bucket_count; b++) {
        const lks_bucket *bucket = &plan->buckets[b];
        out->buckets[b].grad_bytes =
            bucket->count * (int64_t)lks_dtype_bytes(lks_trainer_sum_type(t));
        out->buckets[b].param_bytes = bucket->count * (int64_t)lks_dtype_bytes(t->params.type);
        out->buckets[b].layer = layer_before(t->graph, bucket->offset + bucket->count);
    }
    return LKS_OK;
}

void lks_outline_free(lks_outline *outline) {
    free(outline->buckets);
    outline->buckets = NULL;
}
