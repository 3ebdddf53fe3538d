/* Is a checkpoint one of this run? Included by src/train alone. */
#ifndef LKS_TRAIN_COMPARE_H
#define LKS_TRAIN_COMPARE_H

#include "train/state_list.h"
#include "train/trainer.h"

/* A hash of a few samples of a data set that lie far apart, targets included. LKS_EIO, LKS_EDATA,
 * LKS_ENOMEM. Local. */
lks_status lks_sample_hash(lks_dataset *dataset, int64_t *out);

/* Compares the file with the run and the arrays that it would restore. Everything that differs is
 * listed at once: LKS_ECHECKPOINT. What may differ is a warning. Rank 0's; local. */
lks_status lks_compare_with_run(lks_trainer *trainer, lks_checkpoint *file, const char *path,
                                const lks_state_list *list);

/* ---- lists of differences ---- */

/* Adds "; " and the text. */
void lks_differ(lks_strbuf *differences, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Adds what is wrong with the file's array, if anything. */
void lks_differ_array(lks_checkpoint *file, const lks_checkpoint_array *array,
                      lks_strbuf *differences);
/* Adds every array of the file's model that `list` does not have. LKS_ECHECKPOINT, LKS_ENOMEM. */
lks_status lks_differ_unknown(lks_checkpoint *file, const lks_state_list *list,
                              lks_strbuf *differences);
/* Frees the list; LKS_ECHECKPOINT "PATH: WHAT: ..." unless it is empty or `status` has failed. */
lks_status lks_refuse_differences(const char *path, const char *what, lks_strbuf *differences,
                                  lks_status status);

#endif
