/* Batches of training on their way from the loader to the device. Where that is a GPU, the next
 * batch is copied while the present step runs, on the copy stream: it lands in a place of its own,
 * and when its step comes is moved to the place from which every step takes its rows. Included by
 * src/train alone. */
#ifndef LKS_TRAIN_FEED_H
#define LKS_TRAIN_FEED_H

#include "data/data.h"

typedef struct lks_feed lks_feed;

/* row_bytes: of a sample's inputs, and of its targets. device, loader: borrowed for the feed's
 * life. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_feed_create(lks_device *device, lks_loader *loader, size_t input_row_bytes,
                           size_t target_row_bytes, lks_feed **out);
/* Before its loader. NULL is legal. */
void lks_feed_destroy(lks_feed *feed);

/* As lks_loader_begin; forgets what was copied ahead. */
lks_status lks_feed_begin(lks_feed *feed, int64_t epoch, int64_t first_step);
/* The next batch of this rank: inputs and targets are the loader's in host memory, or on a GPU in
 * device memory, always at the same address, for what is queued on the compute stream from now on
 * until the next call. Errors as lks_loader_next, LKS_EDEVICE, and what has failed ahead. */
lks_status lks_feed_take(lks_feed *feed, lks_host_batch *out);
/* When all that uses the batch is queued: gives its host memory back to the loader, and on a GPU
 * begins to copy the batch behind it, for which it waits if need be. Its failures are those of the
 * next lks_feed_take. */
void lks_feed_go_on(lks_feed *feed);

#endif
