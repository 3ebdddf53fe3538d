/* cuda_graph: a step's work is recorded once and then replayed, for steps of a whole batch; the
 * same bits as without. Included by src/train alone. */
#ifndef LKS_TRAIN_RECORD_H
#define LKS_TRAIN_RECORD_H

#include "train/trainer.h"

/* NULL where the device cannot record, of which a warning tells. LKS_ECONFIG where the ranks' sums
 * go through the host, LKS_ENOMEM. Local. */
lks_status lks_step_recorder_create(lks_trainer *trainer, lks_step_recorder **out);
void lks_step_recorder_destroy(lks_step_recorder *recorder); /* NULL is legal */

/* Forgets what was recorded: steps warm up and are recorded anew. Local, but for all ranks alike.
 */
void lks_step_recorder_reset(lks_step_recorder *recorder);

/* As lks_trainer_queue_step of a batch whose place is always the same: queues it, records it, or
 * replays it. Where a rank cannot record, its failure comes back on all of them. Collective. */
lks_status lks_step_recorder_run(lks_trainer *trainer, const lks_host_batch *batch);

#endif
