/* Parameter groups: their configurations, and which parts of a shard belong to which. Known to
 * src/optim alone. */
#ifndef LKS_OPTIM_GROUP_H
#define LKS_OPTIM_GROUP_H

#include "optim/optimizer.h"

typedef struct lks_group {
    void *config;             /* of the kind's struct */
    double base_lr, momentum; /* as configured; momentum NAN where there is none */
    double lr, *momentum_now; /* of the step under way; the latter points into config, or is NULL */
} lks_group;

/* The configurations of groups->group_count groups. LKS_ECONFIG, LKS_EINVAL, LKS_ENOMEM. */
lks_status lks_groups_create(const lks_optimizer_groups *groups, const lks_optimizer_kind *kind,
                             lks_group **out);
void lks_groups_destroy(lks_group *groups, int count, const lks_optimizer_kind *kind);

/* Adds a group's hyper-parameters as "lr=0.1 momentum=0.9 ...": all, or those in which it differs
 * from a base. */
void lks_group_describe(const lks_group *group, const lks_group *base,
                        const lks_optimizer_kind *kind, lks_strbuf *out);

/* lks_optimizer_hyper's text; the caller frees it. LKS_ENOMEM. */
lks_status lks_groups_describe(const lks_group *groups, int count, const lks_optimizer_kind *kind,
                               char **out);

/* A part of a shard whose elements are all of one group. */
typedef struct lks_segment {
    lks_range range;
    int group;
} lks_segment;

typedef struct lks_segments {
    lks_segment *all; /* in the order of the plan's shards */
    int *first;       /* [bucket_count + 1]: bucket b has the segments first[b] .. first[b + 1] */
} lks_segments;

/* Cuts every shard of the plan where the group changes. LKS_EINVAL for ranges that are not
 * ascending, disjoint and within the plan, or name no group; LKS_ENOMEM. */
lks_status lks_segments_create(const lks_shard_plan *plan, const lks_optimizer_groups *groups,
                               lks_segments *out);
void lks_segments_free(lks_segments *segments);

#endif
