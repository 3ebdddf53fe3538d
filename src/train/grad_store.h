/* Where a rank keeps the gradients of a step, on its device, and what it sends of them.
 *
 * Whole: all of the flat buffer, in which backward writes them and the ranks sum them. Or, where
 * zero_stage 2 makes that smaller, a window that slides over the flat buffer as backward goes on,
 * and this rank's shards of the sums, laid out as optimizer state.
 *
 * Where the ranks sum them in another type than they are kept in, a second array beside the first
 * one has what is sent, rounded, and what comes back; the sums are kept in the first type.
 */
#ifndef LKS_TRAIN_GRAD_STORE_H
#define LKS_TRAIN_GRAD_STORE_H

#include "optim/optim.h"

typedef struct lks_grad_store lks_grad_store;

/* largest_place: how many gradients backward writes at a time, at most. type: in what they are
 * kept; sent_type: in what they are summed over the ranks, the same or LKS_BF16. device and plan
 * are borrowed. Everything starts as zero. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_grad_store_create(lks_device *device, const lks_shard_plan *plan,
                                 int64_t largest_place, lks_dtype type, lks_dtype sent_type,
                                 lks_grad_store **out);
void lks_grad_store_destroy(lks_grad_store *store);

/* What it took from the device, as measured there. */
size_t lks_grad_store_bytes(const lks_grad_store *store);
/* Gradients that there is room for at a time. */
int64_t lks_grad_store_capacity(const lks_grad_store *store);
lks_dtype lks_grad_store_type(const lks_grad_store *store);
/* The flat buffer [plan->padded_count]; NULL where there is a window. */
void *lks_grad_store_whole(const lks_grad_store *store);

/* Do flat elements up to `end` have their place, from the window's first on? */
bool lks_grad_store_reaches(const lks_grad_store *store, int64_t end);
/* The place of a flat element that is in the window, or anywhere in the whole buffer. */
void *lks_grad_store_at(const lks_grad_store *store, int64_t offset);
/* Moves the window: elements [begin, end), less than a bucket, become its first ones, those before
 * are gone. Moves also where that fails. LKS_EDEVICE. */
lks_status lks_grad_store_slide(lks_grad_store *store, int64_t begin, int64_t end);
/* Moves the window back to the begin of the flat buffer; what was in it is gone. */
void lks_grad_store_rewind(lks_grad_store *store);
/* The gradients of a complete bucket, to be summed over the ranks in place: *out
 * [plan->buckets[bucket].count] of *type, also where that fails. LKS_EDEVICE. */
lks_status lks_grad_store_send(lks_grad_store *store, int bucket, lks_dtype *type, void **out);
/* A bucket has been summed over the ranks: this rank's shard of the sums becomes that sum, or,
 * where there is a window, grows by it with `add`. Every bucket that was sent. LKS_EDEVICE. */
lks_status lks_grad_store_keep(lks_grad_store *store, int bucket, bool add);

/* The sums of a range that this rank holds, once kept. */
void *lks_grad_store_sums(const lks_grad_store *store, const lks_range *range);

#endif
