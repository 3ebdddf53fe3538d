/* The files of a run's folder checkpoints/: their names, second names, and which are removed. Rank
 * 0's; local. */
#ifndef LKS_TRAIN_SAVED_FILES_H
#define LKS_TRAIN_SAVED_FILES_H

#include "base/base.h"

enum { LKS_SAVED_NAME_BYTES = 40 };

/* "epoch-0003.h5", "step-00001500.h5", "best-epoch-0003.h5" into out[LKS_SAVED_NAME_BYTES]. */
void lks_saved_epoch_name(int64_t epoch, char *out);
void lks_saved_step_name(int64_t global_step, char *out);
void lks_saved_best_name(int64_t epoch, char *out);
#define LKS_SAVED_LATEST "latest.h5"

/* Gives the file `from` of the folder the second name `to`, in one step that replaces what had it.
 * Where the file system has no second names it is a copy. LKS_EIO, LKS_ENOMEM. */
lks_status lks_saved_file_link(const char *folder, const char *from, const char *to);
/* Makes latest.h5 a symbolic link to `name`, in one step. LKS_EIO. */
lks_status lks_saved_file_point(const char *folder, const char *name);

/* Removes what saves of killed runs have left: the names of files that were not whole yet. No save
 * may be under way. LKS_EIO: one of them cannot be removed, the others are. */
lks_status lks_saved_files_remove_temporary(const char *folder);
/* Removes the oldest of epoch-NNNN.h5 and step-NNNNNNNN.h5 beyond `keep`. Their age is the step of
 * the run at which they were saved; files of steps after `global_step` are another run's, or of
 * before this one was taken back: they neither count nor go. LKS_EIO as above, LKS_ENOMEM. */
lks_status lks_saved_files_keep_last(const char *folder, int64_t keep, int64_t steps_per_epoch,
                                     int64_t global_step);
/* Removes every best-epoch-NNNN.h5 of the epochs [1, epochs] that are not kept[epoch - 1]. LKS_EIO
 * as above. */
lks_status lks_saved_files_keep_best(const char *folder, const bool *kept, int64_t epochs);

#endif
