#include "train/grad_store.h"

#include <stdlib.h>

struct lks_grad_store {
    lks_device *device;
    const lks_shard_plan *plan;
    lks_dtype type, sent_type;
    char *flat;    /* [capacity]: flat elements from `first` on */
    char *sent;    /* [capacity] of sent_type, likewise; flat where the types are the same */
    int64_t first; /* 0 without a window */
    int64_t capacity;
    char *shards; /* [plan->state_count]; NULL without a window */
    size_t bytes;
};

/* While one bucket is summed, another one fills, and a layer may begin in it and end behind it. */
static int64_t window_capacity(const lks_shard_plan *plan, int64_t largest_place) {
    int64_t largest = 0;
    for (int b = 0; b < plan->bucket_count; b++)
        if (plan->buckets[b].count > largest) largest = plan->buckets[b].count;
    return 2 * largest + largest_place;
}

static size_t bytes_of(const lks_grad_store *store, int64_t count) {
    return (size_t)count * lks_dtype_bytes(store->type);
}

static bool sends_copies(const lks_grad_store *store) {
    return store->sent_type != store->type;
}

static lks_status allocate(lks_device *device, int64_t count, lks_dtype type, char **out) {
    size_t bytes;
    void *memory = NULL;
    if (!lks_size_mul((size_t)count, lks_dtype_bytes(type), &bytes))
        return lks_fail(LKS_ENOMEM, "%lld gradients are more than this machine can address",
                        (long long)count);
    lks_status status = lks_device_alloc(device, bytes, &memory);
    *out = memory;
    if (status) return lks_fail_in(status, "gradients");
    return lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), memory, bytes);
}

static lks_status allocate_all(lks_grad_store *store, bool slides) {
    lks_device *device = store->device;
    lks_status status = allocate(device, store->capacity, store->type, &store->flat);
    store->sent = store->flat;
    if (!status && sends_copies(store))
        status = allocate(device, store->capacity, store->sent_type, &store->sent);
    if (!status && slides)
        status = allocate(device, store->plan->state_count, store->type, &store->shards);
    return status;
}

lks_status lks_grad_store_create(lks_device *device, const lks_shard_plan *plan,
                                 int64_t largest_place, lks_dtype type, lks_dtype sent_type,
                                 lks_grad_store **out) {
    lks_grad_store *store = calloc(1, sizeof *store);
    if (!store) return lks_fail(LKS_ENOMEM, "the gradients: out of host memory");
    const size_t before = lks_device_allocated_bytes(device);
    const int64_t window = window_capacity(plan, largest_place);
    const bool slides =
        plan->zero_stage == 2 && plan->size > 1 && window + plan->state_count < plan->padded_count;
    store->device = device;
    store->plan = plan;
    store->type = type;
    store->sent_type = plan->size > 1 ? sent_type : type;
    store->capacity = slides ? window : plan->padded_count;
    lks_status status = allocate_all(store, slides);
    if (status) {
        lks_grad_store_destroy(store);
        return status;
    }
    store->bytes = lks_device_allocated_bytes(device) - before;
    *out = store;
    return LKS_OK;
}

void lks_grad_store_destroy(lks_grad_store *store) {
    if (!store) return;
    if (store->sent != store->flat) lks_device_free(store->device, store->sent);
    lks_device_free(store->device, store->flat);
    lks_device_free(store->device, store->shards);
    free(store);
}

size_t lks_grad_store_bytes(const lks_grad_store *store) {
    return store->bytes;
}

int64_t lks_grad_store_capacity(const lks_grad_store *store) {
    return store->capacity;
}

lks_dtype lks_grad_store_type(const lks_grad_store *store) {
    return store->type;
}

void *lks_grad_store_whole(const lks_grad_store *store) {
    return store->shards ? NULL : store->flat;
}

bool lks_grad_store_reaches(const lks_grad_store *store, int64_t end) {
    return end <= store->first + store->capacity;
}

void *lks_grad_store_at(const lks_grad_store *store, int64_t offset) {
    return store->flat + bytes_of(store, offset - store->first);
}

/* The window is full: what lies in front of `begin` is at least as long as what is kept, so that
 * the two places do not overlap. */
lks_status lks_grad_store_slide(lks_grad_store *store, int64_t begin, int64_t end) {
    const void *from = lks_grad_store_at(store, begin);
    store->first = begin;
    return lks_device_copy(store->device, lks_device_stream(store->device, LKS_STREAM_COMPUTE),
                           store->flat, from, bytes_of(store, end - begin), LKS_COPY_ON_DEVICE);
}

void lks_grad_store_rewind(lks_grad_store *store) {
    store->first = 0;
}

static void *sent_at(const lks_grad_store *store, int64_t offset) {
    return store->sent + (size_t)(offset - store->first) * lks_dtype_bytes(store->sent_type);
}

lks_status lks_grad_store_send(lks_grad_store *store, int bucket, lks_dtype *type, void **out) {
    const lks_bucket *b = &store->plan->buckets[bucket];
    *type = store->sent_type;
    *out = sent_at(store, b->offset);
    if (!sends_copies(store)) return LKS_OK;
    return lks_device_cast(store->device, lks_device_stream(store->device, LKS_STREAM_COMPUTE),
                           b->count, store->type, lks_grad_store_at(store, b->offset),
                           store->sent_type, *out);
}

lks_status lks_grad_store_keep(lks_grad_store *store, int bucket, bool add) {
    const lks_range *shard = &store->plan->shards[bucket];
    lks_stream *stream = lks_device_stream(store->device, LKS_STREAM_COMPUTE);
    if (!store->shards && !sends_copies(store)) return LKS_OK;
    const void *sum = sent_at(store, shard->offset);
    void *kept = lks_grad_store_sums(store, shard);
    if (add && store->shards)
        return lks_device_add(store->device, stream, shard->count, store->sent_type, sum,
                              store->type, kept);
    if (sends_copies(store))
        return lks_device_cast(store->device, stream, shard->count, store->sent_type, sum,
                               store->type, kept);
    return lks_device_copy(store->device, stream, kept, sum, bytes_of(store, shard->count),
                           LKS_COPY_ON_DEVICE);
}

void *lks_grad_store_sums(const lks_grad_store *store, const lks_range *range) {
    return store->shards ? store->shards + bytes_of(store, range->state_offset)
                         : store->flat + bytes_of(store, range->offset);
}
