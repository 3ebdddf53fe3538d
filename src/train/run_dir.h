/* The run directory of rank 0: config.yaml, metrics.jsonl, log.txt, checkpoints/. */
#ifndef LKS_TRAIN_RUN_DIR_H
#define LKS_TRAIN_RUN_DIR_H

#include "base/base.h"
#include "lockstep/train.h"
#include "train/bucket_trial.h"

typedef struct lks_run_dir lks_run_dir;

/* Makes the directory (with its parents) and checkpoints/ below it, opens metrics.jsonl and log.txt
 * for appending, writes run_file (may be NULL) to config.yaml; `logger` gets log.txt as its second
 * stream. LKS_EIO with path and cause. */
lks_status lks_run_dir_create(const char *path, const char *run_file, lks_logger *logger,
                              lks_run_dir **out);
/* Closes the files; the logger forgets log.txt. NULL is legal. */
void lks_run_dir_destroy(lks_run_dir *dir);
/* Writes a file of the directory, in the place of the old one, which stays whole until the new one
 * is. LKS_EIO, LKS_ENOMEM. */
lks_status lks_run_dir_write(const lks_run_dir *dir, const char *name, const char *text);

/* A checkpoint that is complete. */
typedef struct lks_saved_checkpoint {
    const char *path;
    int64_t epoch, global_step; /* finished ones */
    int64_t bytes;
    double seconds;       /* from the begin of the save to the file's name */
    double stall_seconds; /* of these, how long training stood still */
} lks_saved_checkpoint;

/* One JSON object each in metrics.jsonl: {"kind": "progress" | "epoch" | "checkpoint" | "resume" |
 * "bucket_bytes", ...}. Numbers that do not exist are null. A full disk is reported once as a
 * warning; training goes on. An epoch also gets its line in log.txt. */
void lks_run_dir_progress(lks_run_dir *dir, const lks_progress *progress, int64_t global_step);
void lks_run_dir_epoch(lks_run_dir *dir, const lks_epoch_result *result, int64_t epochs,
                       int64_t global_step);
void lks_run_dir_checkpoint(lks_run_dir *dir, const lks_saved_checkpoint *saved);
void lks_run_dir_resume(lks_run_dir *dir, const char *checkpoint, int64_t epoch, int64_t step);
void lks_run_dir_bucket_trial(lks_run_dir *dir, const lks_bucket_trial *trial);

#endif
