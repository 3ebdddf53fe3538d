/* The whole state of a run as a checkpoint's arrays and attributes; included by src/train alone.
 *
 * One description serves both directions: when saving, each rank lists the pieces that it writes;
 * when restoring, those it wants.
 */
#ifndef LKS_TRAIN_STATE_H
#define LKS_TRAIN_STATE_H

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

/* Host memory that mirrors the device's flat arrays; the device's own memory where the host reads
 * that. */
typedef struct lks_state_mirror {
    float *params, *buffers;
    float **states; /* [state array count] */
    int64_t batches_tracked;
    lks_range *owned;        /* [bucket_count + 1]: this rank's part of every bucket, as params, and
                                of the frozen parameters */
    lks_range *owned_states; /* [bucket_count]: its part of every bucket, as states */
} lks_state_mirror;

typedef enum lks_state_direction { LKS_STATE_SAVE, LKS_STATE_RESTORE } lks_state_direction;

/* Saving copies the device's arrays into the mirror. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_state_mirror_open(lks_trainer *trainer, lks_state_direction direction,
                                 lks_state_mirror *out);
/* Copies a restored mirror to the device. */
lks_status lks_state_mirror_apply(lks_trainer *trainer, lks_state_mirror *mirror);
void lks_state_mirror_close(lks_trainer *trainer, lks_state_mirror *mirror);

/* The arrays of the model, and of everything else. */
void lks_state_list_model(lks_trainer *trainer, lks_state_mirror *mirror,
                          lks_state_direction direction, lks_state_list *list);
void lks_state_list_training(lks_trainer *trainer, lks_state_mirror *mirror,
                             lks_state_direction direction, lks_state_list *list);

#endif
