/* Parameter groups of a run: from the patterns of its configuration to frozen parameters and the
 * optimizer's ranges of the flat buffer. */
#ifndef LKS_TRAIN_GROUPS_H
#define LKS_TRAIN_GROUPS_H

#include "engine/engine.h"
#include "lockstep/train.h"
#include "optim/optim.h"

typedef struct lks_param_groups lks_param_groups;

/* A copy of a configuration's list, which ends with an all-zero element; NULL gives NULL.
 * LKS_ENOMEM: *out is NULL. */
lks_status lks_param_groups_copy_list(const lks_param_group *list, const lks_param_group **out);
void lks_param_groups_free_list(const lks_param_group *list);

/* Checks what can be checked without a model. config is borrowed. LKS_ECONFIG, LKS_ENOMEM. */
lks_status lks_param_groups_create(const lks_train_config *config, lks_param_groups **out);
void lks_param_groups_destroy(lks_param_groups *groups);

/* An lks_graph_config.is_frozen over groups. */
bool lks_param_groups_is_frozen(void *groups, const char *name);

/* Finds every parameter's group; once, when the graph exists. LKS_ECONFIG for a pattern that no
 * parameter matches, a group that is left empty, and when everything is frozen; LKS_ENOMEM. */
lks_status lks_param_groups_assign(lks_param_groups *groups, const lks_graph *graph);

/* What the optimizer is created from, once assigned; points into groups and its configuration. */
lks_optimizer_groups lks_param_groups_optimizer(const lks_param_groups *groups);

/* One of the sets of parameters that have settings of their own. */
typedef struct lks_param_set {
    const char *patterns; /* NULL: those that no group names */
    bool frozen;
    bool no_decay;       /* those of the group that no_decay names */
    int optimizer_group; /* -1 when frozen */
    int param_count;
    int64_t element_count;
} lks_param_set;

/* For the start-up table; index from 0, NULL after the last. */
const lks_param_set *lks_param_groups_set(const lks_param_groups *groups, int index);

#endif
