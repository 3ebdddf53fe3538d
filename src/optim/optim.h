/* Optimizers over flat ranges, and the sharding of the flat parameters over the ranks.
 *
 * An optimizer sees (param, grad, state, n) on a device and nothing else; which range this rank
 * updates is the shard plan's choice.
 */
#ifndef LKS_OPTIM_H
#define LKS_OPTIM_H

#include "base/base.h"
#include "comm/comm.h"
#include "device/device.h"

/* ---- buckets and shards ----
 *
 * The flat buffer is cut into contiguous buckets of about bucket_bytes, each a multiple of size *
 * LKS_SHARD_ALIGN elements, so that it divides evenly over the ranks. The first one, whose
 * gradients exist first, has first_bucket_bytes, so that communication starts early; the last one
 * has as many, because backward has ended when it starts, and nothing hides it. That is so where
 * the others are larger and what lies between is at least as much. A cut may fall inside a
 * parameter; only the last bucket is padded beyond flat_count. Rank r's shard of a bucket is its
 * r-th equal part (zero_stage >= 1) or all of it (0). zero_stage 2 differs from 1 in how gradients
 * are exchanged, not in the plan. */
enum { LKS_SHARD_ALIGN = 16 };

typedef struct lks_bucket {
    int64_t offset, count; /* in elements of the flat buffer, padding included */
} lks_bucket;

typedef struct lks_range {
    int64_t offset, count; /* in the flat buffer */
    int64_t state_offset;  /* of its first element in this rank's state arrays */
} lks_range;

typedef struct lks_shard_plan {
    int zero_stage, rank, size;
    int bucket_count;
    lks_bucket *buckets;
    lks_range *shards;    /* [bucket_count]: what this rank updates */
    int64_t padded_count; /* elements that the flat buffers must have */
    int64_t state_count;  /* elements of one state array on this rank */
} lks_shard_plan;

/* LKS_EINVAL, LKS_ENOMEM. */
lks_status lks_shard_plan_create(int64_t flat_count, int64_t bucket_bytes,
                                 int64_t first_bucket_bytes, int zero_stage, int rank, int size,
                                 lks_shard_plan **out);
void lks_shard_plan_destroy(lks_shard_plan *plan);

typedef enum lks_shard_part {
    LKS_SHARD_HELD, /* what stands in this rank's state arrays: to restore */
    LKS_SHARD_OWNED /* of that, what no other rank has to save: all ranks together own every
                       element exactly once, at any zero_stage */
} lks_shard_part;

/* The ranges of flat elements [offset, offset + count), a parameter's place, that this rank holds
 * or owns. Writes them to out (room for bucket_count) in ascending order and returns how many. */
int lks_shard_plan_overlap(const lks_shard_plan *plan, lks_shard_part part, int64_t offset,
                           int64_t count, lks_range *out);

/* ---- the optimizer ---- */

typedef struct lks_optimizer lks_optimizer;

/* A stretch of the flat buffer and the group of parameters that it belongs to. */
typedef struct lks_group_range {
    int64_t offset, count;
    int group;
} lks_group_range;

/* Parameter groups: every group has all hyper-parameters of its own. `(lks_optimizer_groups){.spec
 * = spec, .group_count = 1}` is one group of everything. */
typedef struct lks_optimizer_groups {
    lks_spec spec;   /* type and options of group 0, the base of all (docs/config.md) */
    int group_count; /* at least 1 */
    const char *const *overrides;  /* [group_count] options of each group that replace the base's,
                                      such as "weight_decay=0"; NULL entries, or NULL: none */
    const double *lr_scale;        /* [group_count] multiple of the base lr, for groups that do not
                                      set lr themselves; NULL: 1 */
    const lks_group_range *ranges; /* ascending, disjoint; what none covers belongs to group 0 */
    int range_count;
} lks_optimizer_groups;

/* What a schedule decides about a group for one step. */
typedef struct lks_group_rates {
    double lr;
    double momentum; /* as lks_optimizer_momentum; NAN keeps the configured one */
} lks_group_rates;

/* State arrays of plan->state_count float32 are allocated on the device, with their initial values.
 * The plan is borrowed for the optimizer's life, `groups` during the call. LKS_ECONFIG, LKS_EINVAL,
 * LKS_ENOMEM. */
lks_status lks_optimizer_create(lks_device *device, const lks_optimizer_groups *groups,
                                const lks_shard_plan *plan, lks_optimizer **out);
void lks_optimizer_destroy(lks_optimizer *optimizer);

/* What lks_optimizer_base_lr and lks_optimizer_momentum would say of each group, without an
 * optimizer: into out[groups->group_count]. `ranges` do not matter. LKS_ECONFIG, LKS_EINVAL,
 * LKS_ENOMEM. */
lks_status lks_optimizer_configured_rates(const lks_optimizer_groups *groups, lks_group_rates *out);

const char *lks_optimizer_name(const lks_optimizer *optimizer);
int lks_optimizer_group_count(const lks_optimizer *optimizer);
/* The configured learning rate of a group, lr_scale included. */
double lks_optimizer_base_lr(const lks_optimizer *optimizer, int group);
/* The configured momentum (sgd, rmsprop) or beta1 (adam, adamw) of a group, which a schedule may
 * change from step to step; NAN where there is none, as for sgd with momentum 0, which keeps no
 * buffer. */
double lks_optimizer_momentum(const lks_optimizer *optimizer, int group);
/* Optimizer state of this rank in bytes, as measured on the device. */
size_t lks_optimizer_state_bytes(const lks_optimizer *optimizer);
/* "lr=0.001 betas=[0.9,0.999] ...": every hyper-parameter, for the checkpoint. With several groups
 * "group 0: lr=0.001 ...; group 1: lr=0.01 ...". */
const char *lks_optimizer_hyper(const lks_optimizer *optimizer);
/* Adds a group's present hyper-parameters: of group 0 all, of another one those that differ from
 * group 0's. */
void lks_optimizer_describe_group(const lks_optimizer *optimizer, int group, lks_strbuf *out);

/* State arrays under PyTorch's names ("exp_avg", "momentum_buffer", ...), those that some group
 * needs; each float32 [plan->state_count] on the device, laid out by the plan's shards. */
int lks_optimizer_state_array_count(const lks_optimizer *optimizer);
const char *lks_optimizer_state_name(const lks_optimizer *optimizer, int index);
float *lks_optimizer_state(lks_optimizer *optimizer, int index);
/* Updates made so far. */
int64_t lks_optimizer_steps(const lks_optimizer *optimizer);
void lks_optimizer_set_steps(lks_optimizer *optimizer, int64_t steps);

/* What the summed gradients become before anything else: grad * scale / *divisor, then clamped. */
typedef struct lks_grad_scale {
    const double *divisor; /* device float64: the global weight of the batch */
    double scale;          /* 1, or less where the norm is clipped */
    double clip_value;     /* clamped to [-clip_value, clip_value]; 0 or INFINITY: not */
    /* Device memory, as lks_update's of the same names: where it is given, what is updated, by
     * which step and by which rates is read when the update runs, and `scale` does not matter.
     * rates: [2 * group_count]. NULL: as of lks_optimizer_begin_step. */
    const lks_update_control *control;
    const double *rates;
} lks_grad_scale;

/* One update of this rank's shards on the compute stream. rates: [group_count]; params, grads: the
 * flat buffers. Not collective: the caller gathers the parameters afterwards. */
lks_status lks_optimizer_step(lks_optimizer *optimizer, const lks_group_rates *rates, float *params,
                              const float *grads, const lks_grad_scale *scale);
/* This rank's shard of a bucket: [plan->shards[bucket].count] of everything, on the device. */
typedef struct lks_shard_arrays {
    float *params;       /* what is updated */
    void *copy;          /* bfloat16: gets the updated parameters, rounded; NULL: not wanted */
    const void *grads;   /* summed over the ranks */
    lks_dtype grad_type; /* LKS_F32 (0) or LKS_BF16 */
} lks_shard_arrays;

/* The same for one bucket alone, so that buckets that arrive early are updated early: begin once,
 * then each bucket once. LKS_EINVAL for rates out of range: then no step has begun. Where `scale`
 * has rates and control on the device, no step is begun: check the rates before they go there, and
 * set the steps (lks_optimizer_set_steps) by what the control says. */
lks_status lks_optimizer_check_rates(const lks_optimizer *optimizer, const lks_group_rates *rates);
lks_status lks_optimizer_begin_step(lks_optimizer *optimizer, const lks_group_rates *rates);
lks_status lks_optimizer_step_bucket(lks_optimizer *optimizer, int bucket,
                                     const lks_shard_arrays *shard, const lks_grad_scale *scale);

/* The registry, as in engine.h. */
const lks_option_table *lks_optimizer_options(const char *type);
const char *lks_optimizer_type(int index);

#endif
