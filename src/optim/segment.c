#include <stdlib.h>

#include "optim/group.h"

static lks_status check_ranges(const lks_shard_plan *plan, const lks_optimizer_groups *groups) {
    int64_t end = 0;
    for (int i = 0; i < groups->range_count; i++) {
        const lks_group_range *r = &groups->ranges[i];
        if (r->offset < end || r->count < 0 || r->count > plan->padded_count - r->offset) {
            return lks_fail(LKS_EINVAL,
                            "parameter groups: range %d is [%lld, +%lld): expected one behind %lld "
                            "and within %lld",
                            i, (long long)r->offset, (long long)r->count, (long long)end,
                            (long long)plan->padded_count);
        }
        if (r->group < 0 || r->group >= groups->group_count) {
            return lks_fail(LKS_EINVAL, "parameter groups: range %d names group %d of %d", i,
                            r->group, groups->group_count);
        }
        end = r->offset + r->count;
    }
    return LKS_OK;
}

/* The group of the element at `at`, and in *end where its stretch ends at the latest. *next: the
 * first range that may reach beyond `at`; only moves forward. */
static int group_at(const lks_optimizer_groups *groups, int64_t at, int *next, int64_t *end) {
    while (*next < groups->range_count &&
           groups->ranges[*next].offset + groups->ranges[*next].count <= at)
        (*next)++;
    if (*next == groups->range_count) return 0;
    const lks_group_range *r = &groups->ranges[*next];
    const bool inside = r->offset <= at;
    const int64_t change = inside ? r->offset + r->count : r->offset;
    if (change < *end) *end = change;
    return inside ? r->group : 0;
}

/* Appends the segments of one shard to all[count]; returns the new count. Neighbours of one group
 * become one. */
static int cut_shard(lks_range shard, const lks_optimizer_groups *groups, int *next,
                     lks_segment *all, int count) {
    const int first = count;
    const int64_t shard_end = shard.offset + shard.count;
    for (int64_t at = shard.offset, end; at < shard_end; at = end) {
        end = shard_end;
        const int group = group_at(groups, at, next, &end);
        if (count > first && all[count - 1].group == group) {
            all[count - 1].range.count += end - at;
            continue;
        }
        all[count++] = (lks_segment){
            .range = {.offset = at,
                      .count = end - at,
                      .state_offset = shard.state_offset + (at - shard.offset)},
            .group = group,
        };
    }
    return count;
}

lks_status lks_segments_create(const lks_shard_plan *plan, const lks_optimizer_groups *groups,
                               lks_segments *out) {
    *out = (lks_segments){0};
    lks_status status = check_ranges(plan, groups);
    if (status) return status;
    /* Every range adds at most two cuts to those between the buckets. */
    const size_t most = (size_t)plan->bucket_count + 2 * (size_t)groups->range_count;
    out->all = calloc(most + 1, sizeof *out->all);
    out->first = calloc((size_t)plan->bucket_count + 1, sizeof *out->first);
    if (!out->all || !out->first) {
        lks_segments_free(out);
        return lks_fail(LKS_ENOMEM, "parameter groups: out of memory");
    }
    int next = 0;
    for (int b = 0; b < plan->bucket_count; b++)
        out->first[b + 1] = cut_shard(plan->shards[b], groups, &next, out->all, out->first[b]);
    return LKS_OK;
}

void lks_segments_free(lks_segments *segments) {
    free(segments->all);
    free(segments->first);
    *segments = (lks_segments){0};
}
