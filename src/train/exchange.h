/* The exchange of one step: gradients are summed over the ranks bucket by bucket while backward
 * goes on, each rank updates its shard, and the updated parameters are gathered.
 *
 * Work of this rank's own device may fail while others wait for it. The exchange then goes through
 * the motions, notes the failure where its creator said, and lks_exchange_reduce tells all ranks.
 */
#ifndef LKS_TRAIN_EXCHANGE_H
#define LKS_TRAIN_EXCHANGE_H

#include "comm/comm.h"
#include "engine/engine.h"
#include "optim/optim.h"
#include "train/param_store.h"

typedef struct lks_exchange lks_exchange;

/* What an exchange works on; all of it is borrowed for its life. */
typedef struct lks_exchange_parts {
    lks_comm *comm;
    lks_device *device;
    const lks_shard_plan *plan;
    lks_optimizer *optimizer;
    lks_graph *graph; /* not bound yet */
    const lks_param_store *params;
    lks_dtype sum_type; /* in which the ranks sum gradients: the graph's, or LKS_BF16 */
    bool overlap; /* buckets are summed while backward goes on, not when it has ended or has no more
                     room for gradients; and gathered while forward does */
    lks_failure *failure; /* why this rank cannot go on, noted by whoever finds out first */
} lks_exchange_parts;

/* Binds the graph to params->flat and to the exchange's own gradients. LKS_ENOMEM, LKS_EDEVICE.
 * Local. */
lks_status lks_exchange_create(const lks_exchange_parts *parts, lks_exchange **out);
/* Waits for what is under way. Collective. NULL is legal. */
void lks_exchange_destroy(lks_exchange *exchange);

/* Bytes of device memory for gradients, as measured. */
size_t lks_exchange_grad_bytes(const lks_exchange *exchange);

/* Bytes of host memory that the sums over the ranks take at most while they are under way. */
size_t lks_exchange_sum_bytes(const lks_exchange *exchange);

/* Are the gradients of every micro-batch summed over the ranks, not those of a step? */
bool lks_exchange_sums_each(const lks_exchange *exchange);
/* Before the backward of a micro-batch, the first or the last of its step or both. *accumulate:
 * does this backward add its gradients to those of the micro-batches before? (Where only the shards
 * of the sums are kept, they are added up there.) LKS_ECOMM. Collective. */
lks_status lks_exchange_begin(lks_exchange *exchange, bool first, bool last, bool *accumulate);
/* An lks_grads_ready_fn over an exchange: with overlap, starts the reduction of every bucket whose
 * gradients are complete, and moves those under way forward. */
lks_status lks_exchange_grads_ready(void *exchange, int64_t ready_end);

/* After the last backward: waits for all buckets. parts: device memory [2], before it 0 and 1 where
 * this rank has failed, else 0 and 0; then as lks_decision's parts: the norm of the summed
 * gradients over all ranks, as lks_device_norm adds it up, the same bits on every rank, and for
 * every zero_stage (but with micro-batches, whose sums zero_stage 2 may add in another order); and
 * more than 0 where a rank had failed or has noted a failure since, on which all have to agree.
 * Collective. LKS_ECOMM. */
lks_status lks_exchange_reduce(lks_exchange *exchange, lks_norm_kind kind, double *parts);
/* Then: updates this rank's shard of every bucket and starts to gather it, without overlap to
 * its end. scale: with control and rates on the device. Collective. The graph's next forward waits
 * for each layer's parameters when it comes to it; whoever else reads or writes parameters settles
 * first. */
lks_status lks_exchange_update(lks_exchange *exchange, const lks_grad_scale *scale);
/* Waits until every rank has all updated parameters. Collective. LKS_ECOMM. */
lks_status lks_exchange_settle(lks_exchange *exchange);

/* The norm of this rank's gradients in some ranges that it owns, after lks_exchange_reduce. Local.
 */
lks_status lks_exchange_norm(lks_exchange *exchange, lks_norm_kind kind, const lks_range *ranges,
                             int count, double *out);
/* Room for as many ranges as there are buckets, for the caller's use. */
lks_range *lks_exchange_ranges(lks_exchange *exchange);

#endif
