/* The exchange of one step: gradients are summed over the ranks bucket by bucket while backward
 * goes on, each rank updates its shard, and the updated parameters are gathered. */
#ifndef LKS_TRAIN_EXCHANGE_H
#define LKS_TRAIN_EXCHANGE_H

#include "comm/comm.h"
#include "optim/optim.h"

typedef struct lks_exchange lks_exchange;

/* comm, device, plan, optimizer and the flat buffers [plan->padded_count] are borrowed. LKS_ENOMEM.
 */
lks_status lks_exchange_create(lks_comm *comm, lks_device *device, const lks_shard_plan *plan,
                               lks_optimizer *optimizer, float *params, float *grads,
                               lks_exchange **out);
void lks_exchange_destroy(lks_exchange *exchange);

/* An lks_grads_ready_fn over an exchange: starts the reduction of every bucket whose gradients are
 * complete. */
lks_status lks_exchange_grads_ready(void *exchange, int64_t ready_end);

/* After backward: waits for all buckets. *out_norm: of the summed gradients over all ranks, as
 * lks_device_norm adds it up (the same bits on every rank and for every zero_stage). Collective. */
lks_status lks_exchange_reduce(lks_exchange *exchange, lks_norm_kind kind, double *out_norm);
/* Then: updates this rank's shard of every bucket and gathers. rates, scale: as
 * lks_optimizer_step's. Collective. Afterwards every rank has all updated parameters. */
lks_status lks_exchange_update(lks_exchange *exchange, const lks_group_rates *rates,
                               const lks_grad_scale *scale);
/* Instead of both: ends a step in which some rank has failed. Collective. */
lks_status lks_exchange_abandon(lks_exchange *exchange);

/* The norm of this rank's gradients in some ranges that it owns, after lks_exchange_reduce. Local.
 */
lks_status lks_exchange_norm(lks_exchange *exchange, lks_norm_kind kind, const lks_range *ranges,
                             int count, double *out);
/* Room for as many ranges as there are buckets, for the caller's use. */
lks_range *lks_exchange_ranges(lks_exchange *exchange);

#endif
