/* bucket_bytes: auto. Which size of buckets makes a step fastest is found by trying. */
#ifndef LKS_TRAIN_BUCKET_TRIAL_H
#define LKS_TRAIN_BUCKET_TRIAL_H

#include "lockstep/train.h"

enum { LKS_BUCKET_TRIAL_SIZES = 5 };

typedef struct lks_bucket_trial {
    int64_t bucket_bytes; /* the best one; the default where there was nothing to try; the given
                             one where the configuration has one */
    int count;            /* of those that were tried: 0, or at least 2 */
    int64_t bytes[LKS_BUCKET_TRIAL_SIZES];
    double seconds[LKS_BUCKET_TRIAL_SIZES]; /* of a step, by rank 0's clock */
} lks_bucket_trial;

/* Where the configuration says auto: makes the first steps of a run with buckets of several sizes,
 * those of which cut this model differently, each with a trainer of its own that is then gone: the
 * run begins as if there had been none. The same result on every rank. Arguments as of
 * lks_trainer_create, whose errors it has, and those of lks_step. Where the run is to stop, on
 * request or by its time limit, the step under way is the last one, and nothing counts as tried.
 * Collective. */
lks_status lks_bucket_trial_run(lks_context *context, const lks_layer_spec *layers,
                                const lks_shape *input, lks_dataset *train,
                                const lks_train_config *config, lks_bucket_trial *out);

#endif
