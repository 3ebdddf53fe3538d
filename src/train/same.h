/* Do all ranks run the same? Included by src/train alone. */
#ifndef LKS_TRAIN_SAME_H
#define LKS_TRAIN_SAME_H

#include "train/trainer.h"

/* Compares with rank 0 what decides about the run and comes to every rank on a way of its own: the
 * configuration, the layers, size and samples of the data sets, the initial parameters.
 * LKS_EDIFFER, the same on every rank, names the first rank that differs and both values.
 * Collective. */
lks_status lks_trainer_check_same(lks_trainer *trainer, const lks_layer_spec *layers);

/* What comparing parameters takes; *out is NULL where there is one rank. LKS_ENOMEM. Local. */
lks_status lks_sync_check_create(const lks_trainer *trainer, lks_sync_check **out);
void lks_sync_check_destroy(lks_sync_check *check);
/* Compares the hash of every parameter with rank 0's: LKS_EDIFFER names the first rank and the
 * first parameter that differ, and the present step. A failure that a rank has noted comes before
 * that. Allocates nothing. Collective. */
lks_status lks_trainer_check_sync(lks_trainer *trainer);

#endif
