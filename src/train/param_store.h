/* Where a rank keeps the parameters, on its device.
 *
 * One flat array, with which the graph computes. Where that is float32 the optimizer updates it,
 * too. Where it is bfloat16 a rank has float32 masters beside it: of what it updates (its shards),
 * laid out as optimizer state, and behind them of its share of the frozen parameters. Updates go to
 * the masters, and rounded into the flat array.
 *
 * Included by src/train alone. */
#ifndef LKS_TRAIN_PARAM_STORE_H
#define LKS_TRAIN_PARAM_STORE_H

#include "comm/comm.h"
#include "engine/engine.h"
#include "optim/optim.h"

typedef struct lks_param_store {
    lks_device *device;
    const lks_shard_plan *plan;
    lks_dtype type;                  /* of the flat array */
    void *flat;                      /* device, [flat_count] */
    float *masters;                  /* device; where the type is float32: flat */
    int64_t flat_count;              /* the frozen ones behind plan->padded_count */
    int64_t trained_count;           /* of the masters, those in front of the frozen ones */
    size_t flat_bytes, master_bytes; /* as measured on the device; masters: of their own */
} lks_param_store;

/* For the parameters of `graph`, which is bound to the flat array afterwards; device and plan are
 * borrowed. The masters have their initial values. Local. *out is to be destroyed also after a
 * failure. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_param_store_create(lks_device *device, const lks_shard_plan *plan, lks_graph *graph,
                                  lks_param_store *out);
void lks_param_store_destroy(lks_param_store *store);

bool lks_param_store_has_masters(const lks_param_store *store);

/* The place of a flat element. */
void *lks_param_store_at(const lks_param_store *store, int64_t offset);

/* The ranges of flat elements [offset, offset + count) whose float32 values this rank has, in
 * ascending order, each with its place in `masters` as state_offset; out: room for bucket_count
 * + 1. Returns how many. HELD: all of them; OWNED: of these what this rank saves, so that all ranks
 * together have every element exactly once. */
int lks_param_store_ranges(const lks_param_store *store, lks_shard_part part, int64_t offset,
                           int64_t count, lks_range *out);

/* The arrays of a bucket's update, without its gradients. */
lks_shard_arrays lks_param_store_shard(const lks_param_store *store, int bucket);

/* After every rank's values in the ranges it owns have changed: every rank gets what it has of the
 * others'. Collective. */
lks_status lks_param_store_share(lks_param_store *store, lks_comm *comm);

#endif
