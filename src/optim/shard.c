#include <stdlib.h>

#include "optim/optim.h"

/* Elements of a bucket of `bytes`, a multiple of `unit`. */
static int64_t bucket_elements(int64_t bytes, int64_t unit) {
    int64_t elements = bytes / (int64_t)sizeof(float);
    if (elements < unit) return unit;
    return elements / unit * unit;
}

static lks_status check_arguments(int64_t flat_count, int64_t bucket_bytes,
                                  int64_t first_bucket_bytes, int zero_stage, int rank, int size) {
    if (size < 1 || rank < 0 || rank >= size)
        return lks_fail(LKS_EINVAL, "shard plan: rank %d of %d", rank, size);
    if (zero_stage < 0 || zero_stage > 2)
        return lks_fail(LKS_EINVAL, "zero_stage: %d: expected 0, 1 or 2", zero_stage);
    if (bucket_bytes < 1 || first_bucket_bytes < 1) {
        return lks_fail(LKS_EINVAL, "bucket_bytes %lld and first_bucket_bytes %lld: expected > 0",
                        (long long)bucket_bytes, (long long)first_bucket_bytes);
    }
    /* The flat buffer's bytes, padding included, must fit into an int64. */
    int64_t limit = INT64_MAX / (int64_t)sizeof(float) - (int64_t)size * LKS_SHARD_ALIGN;
    if (flat_count < 0 || flat_count > limit) {
        return lks_fail(LKS_EINVAL, "shard plan: %lld parameters: expected 0 to %lld",
                        (long long)flat_count, (long long)limit);
    }
    return LKS_OK;
}

/* This rank's equal part of a bucket. */
static lks_range own_part(const lks_shard_plan *plan, int bucket) {
    int64_t part = plan->buckets[bucket].count / plan->size;
    return (lks_range){.offset = plan->buckets[bucket].offset + plan->rank * part, .count = part};
}

lks_status lks_shard_plan_create(int64_t flat_count, int64_t bucket_bytes,
                                 int64_t first_bucket_bytes, int zero_stage, int rank, int size,
                                 lks_shard_plan **out) {
    *out = NULL;
    lks_status status =
        check_arguments(flat_count, bucket_bytes, first_bucket_bytes, zero_stage, rank, size);
    if (status) return status;

    int64_t unit = (int64_t)size * LKS_SHARD_ALIGN;
    int64_t first = bucket_elements(first_bucket_bytes, unit);
    int64_t other = bucket_elements(bucket_bytes, unit);
    int64_t padded = (flat_count + unit - 1) / unit * unit;
    int64_t behind = padded > first ? padded - first : 0;
    int64_t last = first < other && behind >= 2 * first ? first : 0; /* 0: like those before it */
    int64_t bucket_count = (padded > 0) + (behind - last + other - 1) / other + (last > 0);
    if (bucket_count > INT32_MAX) {
        return lks_fail(LKS_EINVAL, "bucket_bytes %lld: too small for %lld parameters",
                        (long long)bucket_bytes, (long long)flat_count);
    }

    lks_shard_plan *plan = malloc(sizeof *plan);
    lks_bucket *buckets = calloc((size_t)bucket_count + 1, sizeof *buckets);
    lks_range *shards = calloc((size_t)bucket_count + 1, sizeof *shards);
    if (!plan || !buckets || !shards) {
        free(plan);
        free(buckets);
        free(shards);
        return lks_fail(LKS_ENOMEM, "shard plan: out of memory for %lld buckets",
                        (long long)bucket_count);
    }
    *plan = (lks_shard_plan){.zero_stage = zero_stage,
                             .rank = rank,
                             .size = size,
                             .bucket_count = (int)bucket_count,
                             .buckets = buckets,
                             .shards = shards,
                             .padded_count = padded};
    int64_t offset = 0;
    for (int b = 0; b < plan->bucket_count; b++) {
        int64_t full = b == 0 ? first : other;
        int64_t end = b < plan->bucket_count - 1 ? padded - last : padded;
        int64_t count = end - offset < full ? end - offset : full;
        buckets[b] = (lks_bucket){.offset = offset, .count = count};
        shards[b] =
            zero_stage == 0 ? (lks_range){.offset = offset, .count = count} : own_part(plan, b);
        shards[b].state_offset = plan->state_count;
        plan->state_count += shards[b].count;
        offset += count;
    }
    *out = plan;
    return LKS_OK;
}

void lks_shard_plan_destroy(lks_shard_plan *plan) {
    if (!plan) return;
    free(plan->buckets);
    free(plan->shards);
    free(plan);
}

int lks_shard_plan_overlap(const lks_shard_plan *plan, lks_shard_part part, int64_t offset,
                           int64_t count, lks_range *out) {
    int found = 0;
    for (int b = 0; b < plan->bucket_count; b++) {
        lks_range shard = plan->shards[b];
        lks_range wanted = part == LKS_SHARD_OWNED ? own_part(plan, b) : shard;
        int64_t begin = wanted.offset > offset ? wanted.offset : offset;
        int64_t wanted_end = wanted.offset + wanted.count;
        int64_t end = wanted_end < offset + count ? wanted_end : offset + count;
        if (begin >= end) continue;
        out[found++] = (lks_range){.offset = begin,
                                   .count = end - begin,
                                   .state_offset = shard.state_offset + (begin - shard.offset)};
    }
    return found;
}
