/* Which checkpoints a run writes when, in the background or not; included by src/train alone.
 * Every function takes the trainer and is collective unless it says otherwise. A save that fails is
 * reported and LKS_OK returned, unless on_error is stop or the peers cannot be reached. */
#ifndef LKS_TRAIN_SAVER_H
#define LKS_TRAIN_SAVER_H

#include "train/state.h"
#include "train/trainer.h"

/* LKS_ENOMEM. Local. */
lks_status lks_saver_create(lks_trainer *trainer, lks_saver **out);
/* After lks_saver_settle. Local. */
void lks_saver_destroy(lks_trainer *trainer);

/* What rides on the reduction of a step: does this rank's clock say that a save is due (rank 0
 * alone is asked), and would a background save go on without waiting for this rank? Local. */
bool lks_saver_wants(const lks_trainer *trainer);
bool lks_saver_is_ready(const lks_trainer *trainer);
/* Of a rank that is ready: has its part of the save failed? Local. */
bool lks_saver_has_failed(const lks_trainer *trainer);
/* Seconds that the slowest save of this trainer took so far, 0 before the first. Local. */
double lks_saver_slowest(const lks_trainer *trainer);
/* What came of it over all ranks. Local. */
void lks_saver_agreed(lks_trainer *trainer, bool wanted, bool all_ready, bool all_succeeded);

/* Before parameters, their masters, states of the optimizer or the best model change: waits until
 * a background save has its copy of them; the device's compute stream does, where the device copies
 * them. Local. LKS_EDEVICE. */
lks_status lks_saver_hold(lks_trainer *trainer);
/* Is there such a copy under way for which nobody has waited? Local. */
bool lks_saver_copies(const lks_trainer *trainer);

/* After a step that does not end its epoch, and after an epoch: moves a background save on, and
 * saves what is due. */
lks_status lks_saver_after_step(lks_trainer *trainer);
lks_status lks_saver_after_epoch(lks_trainer *trainer, const lks_epoch_result *result);
/* When training has ended, or is interrupted (trainer->end); waits until everything is saved. That
 * the last save fails is an error whatever on_error says. */
lks_status lks_saver_after_run(lks_trainer *trainer);
/* Waits for a background save. */
lks_status lks_saver_settle(lks_trainer *trainer);
/* The same when training has failed with `status`, which is returned with its detail: the state
 * from before the failure is worth having. Local where the peers cannot be reached any more. */
lks_status lks_saver_after_failure(lks_trainer *trainer, lks_status status);

/* ---- save.c ---- */

/* Lists the whole state with its data, as lks_snapshot_open. copied: the copy goes on beside the
 * run, as lks_snapshot_start. Local. Both are the caller's to end, after a failure, too. */
lks_status lks_trainer_list_state(lks_trainer *trainer, bool copied, lks_snapshot *snapshot,
                                  lks_state_list *list);
/* Writes a checkpoint of the present state, now. Collective. */
lks_status lks_trainer_write_state(lks_trainer *trainer, const char *path);

#endif
