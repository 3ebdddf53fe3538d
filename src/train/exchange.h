/* The exchange of one step: gradients are all-reduced bucket by bucket while backward goes on, each
 * rank updates its shard of a bucket as soon as that is summed, and the updated parameters are
 * gathered. */
#ifndef LKS_TRAIN_EXCHANGE_H
#define LKS_TRAIN_EXCHANGE_H

#include "comm/comm.h"
#include "optim/optim.h"

typedef struct lks_exchange lks_exchange;

/* comm, plan, optimizer and the flat buffers [plan->padded_count] are borrowed. LKS_ENOMEM. */
lks_status lks_exchange_create(lks_comm *comm, const lks_shard_plan *plan, lks_optimizer *optimizer,
                               float *params, float *grads, lks_exchange **out);
void lks_exchange_destroy(lks_exchange *exchange);

/* An lks_grads_ready_fn over an exchange: starts the all-reduce of every bucket whose gradients are
 * complete. */
lks_status lks_exchange_grads_ready(void *exchange, int64_t ready_end);

/* After backward: waits for each bucket, updates this rank's shard with lr, gathers. divisor:
 * device float64, as lks_update's. Collective. Afterwards every rank has all updated parameters. */
lks_status lks_exchange_finish(lks_exchange *exchange, double lr, const double *divisor);

/* Ends a step without an update (some rank has failed): waits for what was started. Collective. */
lks_status lks_exchange_abandon(lks_exchange *exchange);

#endif
