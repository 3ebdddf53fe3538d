#include "train/param_store.h"

#include <stdlib.h>

static lks_stream *compute(const lks_param_store *store) {
    return lks_device_stream(store->device, LKS_STREAM_COMPUTE);
}

bool lks_param_store_has_masters(const lks_param_store *store) {
    return store->type != LKS_F32;
}

void *lks_param_store_at(const lks_param_store *store, int64_t offset) {
    return (char *)store->flat + offset * (int64_t)lks_dtype_bytes(store->type);
}

/* ---- creation ---- */

/* A rank's share of the frozen parameters, which stand behind the others. */
static lks_range frozen_share(const lks_param_store *store, int rank) {
    const lks_shard_plan *plan = store->plan;
    int64_t begin, end;
    lks_split(store->flat_count - plan->padded_count, rank, plan->size, &begin, &end);
    const int64_t offset = plan->padded_count + begin;
    return (lks_range){.offset = offset,
                       .count = end - begin,
                       .state_offset =
                           lks_param_store_has_masters(store) ? plan->state_count : offset};
}

static lks_status allocate(lks_device *device, int64_t count, size_t element_bytes, size_t *bytes,
                           void **out) {
    size_t wanted;
    if (!lks_size_mul((size_t)count, element_bytes, &wanted))
        return lks_fail(LKS_ENOMEM, "%lld parameters are more than this machine can address",
                        (long long)count);
    const size_t before = lks_device_allocated_bytes(device);
    lks_status status = lks_device_alloc(device, wanted, out);
    if (status) return lks_fail_in(status, "parameters");
    *bytes = lks_device_allocated_bytes(device) - before;
    return lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), *out, wanted);
}

static lks_status initialise_masters(lks_param_store *store, lks_graph *graph) {
    const lks_shard_plan *plan = store->plan;
    const lks_range frozen = frozen_share(store, plan->rank);
    lks_status status = lks_graph_initial_params(graph, frozen.offset, frozen.count,
                                                 store->masters + frozen.state_offset);
    for (int b = 0; b < plan->bucket_count && !status; b++)
        status = lks_graph_initial_params(graph, plan->shards[b].offset, plan->shards[b].count,
                                          store->masters + plan->shards[b].state_offset);
    return status;
}

lks_status lks_param_store_create(lks_device *device, const lks_shard_plan *plan, lks_graph *graph,
                                  lks_param_store *out) {
    *out = (lks_param_store){.device = device,
                             .plan = plan,
                             .type = lks_device_dtype(device),
                             .flat_count = lks_graph_flat_count(graph)};
    lks_status status =
        allocate(device, out->flat_count, lks_dtype_bytes(out->type), &out->flat_bytes, &out->flat);
    if (!lks_param_store_has_masters(out)) {
        out->masters = out->flat;
        out->trained_count = plan->padded_count;
        return status;
    }
    void *masters = NULL;
    out->trained_count = plan->state_count;
    if (!status)
        status = allocate(device, plan->state_count + frozen_share(out, plan->rank).count,
                          sizeof(float), &out->master_bytes, &masters);
    out->masters = masters;
    return status ? status : initialise_masters(out, graph);
}

void lks_param_store_destroy(lks_param_store *store) {
    if (lks_param_store_has_masters(store)) lks_device_free(store->device, store->masters);
    lks_device_free(store->device, store->flat);
    *store = (lks_param_store){0};
}

/* ---- places ---- */

int lks_param_store_ranges(const lks_param_store *store, lks_shard_part part, int64_t offset,
                           int64_t count, lks_range *out) {
    int found = lks_shard_plan_overlap(store->plan, part, offset, count, out);
    for (int i = 0; i < found && !lks_param_store_has_masters(store); i++)
        out[i].state_offset = out[i].offset;
    lks_range frozen = frozen_share(store, store->plan->rank);
    const int64_t end = frozen.offset + frozen.count;
    const int64_t first = frozen.offset > offset ? frozen.offset : offset;
    const int64_t last = end < offset + count ? end : offset + count;
    if (first < last)
        out[found++] = (lks_range){.offset = first,
                                   .count = last - first,
                                   .state_offset = frozen.state_offset + (first - frozen.offset)};
    return found;
}

lks_shard_arrays lks_param_store_shard(const lks_param_store *store, int bucket) {
    const lks_range *shard = &store->plan->shards[bucket];
    if (!lks_param_store_has_masters(store))
        return (lks_shard_arrays){.params = store->masters + shard->offset};
    return (lks_shard_arrays){.params = store->masters + shard->state_offset,
                              .copy = lks_param_store_at(store, shard->offset)};
}

/* ---- changes ---- */

/* What this rank has of masters goes into the flat array. */
static lks_status round_masters(lks_param_store *store, lks_range *ranges) {
    lks_status status = LKS_OK;
    if (!lks_param_store_has_masters(store)) return LKS_OK;
    const int count = lks_param_store_ranges(store, LKS_SHARD_HELD, 0, store->flat_count, ranges);
    for (int i = 0; i < count && !status; i++)
        status = lks_device_cast(store->device, compute(store), ranges[i].count, LKS_F32,
                                 store->masters + ranges[i].state_offset, store->type,
                                 lks_param_store_at(store, ranges[i].offset));
    return status;
}

/* Of an array in the order of the flat one, of which every rank has its part of every bucket. */
static lks_status gather_buckets(const lks_param_store *store, lks_comm *comm, lks_dtype type,
                                 void *array, int64_t *counts) {
    const lks_shard_plan *plan = store->plan;
    lks_status status = LKS_OK;
    for (int b = 0; b < plan->bucket_count && !status; b++) {
        for (int r = 0; r < plan->size; r++)
            counts[r] = plan->buckets[b].count / plan->size;
        status = lks_comm_all_gather(
            comm, (char *)array + plan->buckets[b].offset * (int64_t)lks_dtype_bytes(type), counts,
            type);
    }
    return status;
}

static lks_status gather_frozen(const lks_param_store *store, lks_comm *comm, int64_t *counts) {
    if (store->flat_count == store->plan->padded_count) return LKS_OK;
    for (int r = 0; r < store->plan->size; r++)
        counts[r] = frozen_share(store, r).count;
    return lks_comm_all_gather(comm, lks_param_store_at(store, store->plan->padded_count), counts,
                               store->type);
}

/* Where every rank updates everything, masters have the layout of the flat array, and all of them
 * travel; else what has been rounded. */
static lks_status share(lks_param_store *store, lks_comm *comm, lks_range *ranges,
                        int64_t *counts) {
    const lks_shard_plan *plan = store->plan;
    const bool whole = plan->zero_stage == 0;
    lks_status status = LKS_OK;
    if (whole) status = gather_buckets(store, comm, LKS_F32, store->masters, counts);
    if (status) return status;
    status = lks_comm_agree(comm, round_masters(store, ranges));
    if (!status && !whole) status = gather_buckets(store, comm, store->type, store->flat, counts);
    return status ? status : gather_frozen(store, comm, counts);
}

lks_status lks_param_store_share(lks_param_store *store, lks_comm *comm) {
    lks_range *ranges = calloc((size_t)store->plan->bucket_count + 1, sizeof *ranges);
    int64_t *counts = calloc((size_t)store->plan->size, sizeof *counts);
    lks_status status =
        ranges && counts ? LKS_OK : lks_fail(LKS_ENOMEM, "sharing parameters: out of host memory");
    status = lks_comm_agree(comm, status);
    if (!status) status = share(store, comm, ranges, counts);
    free(ranges);
    free(counts);
    return status;
}
