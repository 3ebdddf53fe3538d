/* The state of a run as a checkpoint's arrays; included by src/train alone.
 *
 * One description serves both directions: of every flat array each rank saves a part and reads the
 * same part back, and all ranks together cover it once. What a rank needs beyond its part, it gets
 * from the others.
 */
#ifndef LKS_TRAIN_STATE_H
#define LKS_TRAIN_STATE_H

#include <pthread.h>

#include "train/state_list.h"
#include "train/trainer.h"

/* The numbered history series, in the order of lks_epoch_result. */
typedef struct lks_history_series {
    const char *name;
    size_t offset; /* of a double, or of is_best */
    bool is_flag;
} lks_history_series;
extern const lks_history_series lks_history_table[];
extern const int lks_history_table_count;

/* One flat float32 array of the run. */
typedef struct lks_state_part {
    float *live;    /* the run's own */
    bool on_device; /* or in host memory, as the best model is */
    bool by_device; /* so that only the device copies it */
    float *host;    /* what a checkpoint is written from and read into: live, or a copy */
    /* This rank's ranges: state_offset is the place in `live`, in host_ranges that in `host`. */
    lks_range *ranges, *host_ranges;
    int range_count;
} lks_state_part;

enum {
    LKS_PART_PARAMS,
    LKS_PART_BUFFERS,
    LKS_PART_BEST_PARAMS,
    LKS_PART_BEST_BUFFERS,
    LKS_PART_STATES /* of the optimizer, one after the other */
};

typedef struct lks_snapshot {
    lks_state_part *parts; /* [part_count]; those that the run does not have are empty */
    int part_count;
    lks_range *ranges; /* of all parts */
    int64_t batches_tracked;
    double *history; /* [series][epochs] */
    float *copy;     /* [copy_capacity], NULL before the first use */
    int64_t copy_capacity;

    /* Of lks_snapshot_start. */
    lks_event *taken; /* behind the device's copies; NULL before the first use */
    pthread_t thread; /* which copies what stands in host memory */
    bool thread_runs; /* until it is joined */
    bool copies;      /* nobody has waited for it yet */
    bool has_ended;   /* all is there, or has failed as `ended` says */
    lks_status ended;
} lks_snapshot;

/* Lays out what this rank saves and reads. copied: into host memory of the snapshot's own, which
 * training may outrun and a failure may leave behind; else where the run has it, as far as the host
 * can reach that. The memory of an earlier use is used again. Local. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_snapshot_open(lks_trainer *trainer, bool copied, lks_snapshot *out);
/* From the run into the snapshot, and back; waits until it is done. Local. LKS_EDEVICE. */
lks_status lks_snapshot_take(lks_trainer *trainer, lks_snapshot *snapshot);
lks_status lks_snapshot_give_back(lks_trainer *trainer, lks_snapshot *snapshot);
/* lks_snapshot_take beside the run, which may go on; what a forward or a backward changes is there
 * at once. The snapshot is open as a copy, and stays where it is until it is closed. Local.
 * LKS_EDEVICE. */
lks_status lks_snapshot_start(lks_trainer *trainer, lks_snapshot *snapshot);
/* Before parameters, their masters, states of the optimizer or the best model change: the host
 * waits for what stands in its memory, the device's compute stream for the rest. LKS_OK, too, where
 * nothing was started. Local. LKS_EDEVICE. */
lks_status lks_snapshot_hold(lks_trainer *trainer, lks_snapshot *snapshot);
/* Held, is all of it there, or has it failed? Local, no waiting. */
bool lks_snapshot_has_ended(lks_snapshot *snapshot);
/* Holds, and waits for the rest. Local. LKS_EDEVICE. */
lks_status lks_snapshot_finish(lks_trainer *trainer, lks_snapshot *snapshot);
/* After giving back: every rank gets what it needs of the others' parts. best: the best model, too;
 * training: the optimizer's state and the best model, not the model alone. Collective. */
lks_status lks_snapshot_gather(lks_trainer *trainer, lks_snapshot *snapshot, bool training);
/* Ends the use; keep: the memory stays for the next one. */
void lks_snapshot_close(lks_trainer *trainer, lks_snapshot *snapshot, bool keep);

/* The arrays of the model, and of what else training needs. best: is there a best model? */
void lks_snapshot_list_model(lks_trainer *trainer, lks_snapshot *snapshot, lks_state_list *list);
void lks_snapshot_list_training(lks_trainer *trainer, lks_snapshot *snapshot, bool best,
                                lks_state_list *list);

#endif
