/* Training: a model, its optimizer and its data, run over all ranks of a context.
 *
 * lks_fit is written on lks_epoch, which is written on lks_step; a program may use whichever it
 * likes. All functions that take a trainer are collective unless they say otherwise.
 */
#ifndef LOCKSTEP_TRAIN_H
#define LOCKSTEP_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstep/context.h"
#include "lockstep/data.h"
#include "lockstep/spec.h"
#include "lockstep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lks_trainer lks_trainer;

/* The exact means over all samples of all ranks. Accuracies are 0..1, NaN where the loss has none
 * (regressions); validation is NaN without a validation set. */
typedef struct lks_epoch_result {
    int64_t epoch; /* from 1 */
    double train_loss, train_acc;
    double val_loss, val_acc;
    double lr;                 /* with which the epoch began */
    double seconds;            /* of the epoch, validation included */
    double samples_per_second; /* training alone */
    bool is_best;
} lks_epoch_result;

/* Where training stands, for progress displays. Sums are read back at most a few times a second. */
typedef struct lks_progress {
    int64_t epoch, epochs; /* from 1 */
    int64_t step, steps;   /* done in this epoch */
    double loss, acc; /* running means of this epoch over all ranks; acc NaN where there is none */
    double lr;
    double grad_norm;          /* of the last step, before clipping */
    int64_t skipped_steps;     /* of the run, because of a loss or gradient that was not finite */
    double samples_per_second; /* NaN until known */
    double seconds_left;       /* of this epoch; NaN until known */
} lks_progress;

typedef enum lks_action { LKS_CONTINUE, LKS_STOP } lks_action;

/* Called on every rank. on_step: after steps, when at least progress_seconds have passed since the
 * last call or the epoch ends. on_epoch: after each epoch. If any rank answers LKS_STOP to either,
 * all stop together: in an epoch after the next step, else at its end. stop_requested: before every
 * step and every batch of a validation; true on any rank has the effect of
 * lks_trainer_request_stop, and also ends what lks_trainer_create tries for bucket_bytes: auto,
 * where the first step then asks again. Any of them may be NULL. */
typedef struct lks_callbacks {
    lks_action (*on_step)(void *data, const lks_progress *progress);
    lks_action (*on_epoch)(void *data, const lks_epoch_result *result);
    bool (*stop_requested)(void *data);
    void *data;
} lks_callbacks;

/* Parameters with settings of their own. A list of groups ends with an all-zero element. A
 * parameter belongs to the first group that names it; those that none names have the optimizer's
 * settings. */
typedef struct lks_param_group {
    const char *params;  /* shell patterns of state_dict names, separated by blanks:
                            "*.bias head.*" */
    const char *options; /* replace the optimizer's: "lr=1e-4 weight_decay=0"; may be NULL */
    double lr_scale;     /* multiple of the optimizer's lr, instead of an lr in options; 0: 1 */
    bool frozen;         /* no gradients, no optimizer state, no updates; running statistics of
                            normalisation layers go on */
    const char *where;   /* for messages, "run.yaml:12"; may be NULL */
} lks_param_group;

/* In what type gradients are summed over the ranks. Where the model computes in bfloat16, FP32 also
 * keeps them in float32 from the first; where it computes in float32, BF16 rounds what is sent. */
typedef enum lks_grad_reduce {
    LKS_GRAD_REDUCE_AUTO, /* that of the computation: BF16 with precision bf16, else FP32 */
    LKS_GRAD_REDUCE_FP32,
    LKS_GRAD_REDUCE_BF16
} lks_grad_reduce;

/* lks_train_config.bucket_bytes. AUTO: before the first step several sizes are tried, each for a
 * few steps that leave nothing behind, and the fastest is taken. */
enum { LKS_BUCKET_BYTES_AUTO = 0, LKS_BUCKET_BYTES_DEFAULT = 25 << 20 };

typedef struct lks_train_config {
    uint64_t seed;
    int64_t epochs;
    int64_t batch_size;       /* global: of all ranks together */
    int64_t micro_batch_size; /* most samples of a rank that go through the model at a time; the
                                 gradients of its micro-batches are added up; 0: all */
    int64_t zero_stage;       /* 0: every rank updates everything; 1: each rank keeps state for, and
                                 updates, its share; 2: and has only its share of the gradients' sum */
    int64_t bucket_bytes, first_bucket_bytes; /* of gradient all-reduces */
    int grad_reduce_dtype;                    /* an lks_grad_reduce */
    bool overlap; /* gradients are summed during backward, parameters gathered during forward */
    int64_t
        check_sync;    /* compare the parameters of all ranks after every so many steps; 0: never */
    double time_limit; /* seconds since the context was created, by rank 0's clock: the run stops so
                          early that its checkpoint is saved before they have passed; 0: no limit */
    bool cuda_graph;   /* on a GPU: records the work of a step and replays it with one call */
    lks_spec loss, optimizer, schedule; /* schedule.type NULL: constant */
    /* For the schedule type "lambda", alone or in a sequence: the learning rate of epoch (or step)
     * `epoch`, from 0, is the optimizer's times lr_lambda(lr_lambda_data, epoch), which must depend
     * on nothing else. Called on every rank; what rank 0 is told counts. NULL: none. */
    double (*lr_lambda)(void *data, int64_t epoch);
    void *lr_lambda_data;
    const lks_param_group *groups; /* NULL: none */
    const char *no_decay; /* words, separated by blanks, that name parameters whose weight_decay is
                             0 unless their group sets it: "bias" (every parameter of that name) and
                             "norm" (those of normalisation layers); NULL: none */
    const char *early_stopping; /* options text, "monitor=val_loss patience=5"; NULL: none */
    const char
        *data; /* options text of the data settings, "shuffle=true scale=0.0039"; NULL: defaults */
    const char *gradients;  /* options text, "clip_norm=1 on_nonfinite=skip"; NULL: defaults */
    const char *checkpoint; /* options text, "every.epochs=5"; NULL: defaults */
    const char
        *output; /* run directory: metrics.jsonl, log.txt, checkpoints/; NULL: nothing is written */
    const char *run_file; /* text kept in checkpoints and in the run directory; may be NULL */
    lks_callbacks callbacks;
    double progress_seconds; /* at least this long between two on_step calls */
} lks_train_config;
#define LKS_TRAIN_CONFIG_DEFAULT                                                                   \
    {                                                                                              \
        .seed = 1, .epochs = 10, .batch_size = 32, .zero_stage = 1,                                \
        .bucket_bytes = LKS_BUCKET_BYTES_DEFAULT, .first_bucket_bytes = 1 << 20, .overlap = true,  \
        .loss = {.type = "cross_entropy"}, .optimizer = {.type = "adamw"}, .progress_seconds = 0.1 \
    }

/* Builds everything a run needs: graph, flat parameters, shards, optimizer, loaders. layers as in
 * spec.h. train and validation are borrowed for the trainer's life; validation may be NULL; both
 * NULL: for lks_predict alone. config is copied. Returns the same status on every rank:
 * LKS_ECONFIG, LKS_ESHAPE, LKS_EDATA, LKS_ENOMEM ... */
lks_status lks_trainer_create(lks_context *context, const lks_layer_spec *layers,
                              const lks_shape *input, lks_dataset *train, lks_dataset *validation,
                              const lks_train_config *config, lks_trainer **out);
/* Waits for a save in the background. NULL is legal. */
void lks_trainer_destroy(lks_trainer *trainer);

/* Trains from where the trainer stands to the configured epoch, an early stop, a callback's stop or
 * an interruption (a request, the time limit): epochs, and at the end the final checkpoint, of an
 * interrupted run that of its last step; its failure is an error even where that of others is not.
 */
lks_status lks_fit(lks_trainer *trainer);
/* One epoch: those of its steps that are not done yet, then validation, the decisions for the next
 * (schedule, early stopping), history; with `output` also the checkpoints that are due, after steps
 * and at the end. *out is the same on every rank; may be NULL. LKS_ESTOPPED when a callback has
 * asked to stop: between two steps, or at the end, when the epoch is whole. Or when the run is
 * interrupted: after any step, or in the validation, which the next call then begins anew. */
lks_status lks_epoch(lks_trainer *trainer, lks_epoch_result *out);
/* One step of the present epoch; *epoch_done says whether it was the last (then lks_epoch ends the
 * epoch). LKS_ENUMERIC where the loss or the norm of the gradients is not a finite number, unless
 * on_nonfinite=skip has skips left. After an error the trainer can only be restored or destroyed.
 */
lks_status lks_step(lks_trainer *trainer, bool *epoch_done);
/* Loss and accuracy over a data set (NULL: the validation set), exact means over all ranks. */
lks_status lks_validate(lks_trainer *trainer, lks_dataset *dataset, double *loss, double *acc);

/* Asks for an interruption: all ranks end the step under way (a validation is broken off), lks_fit
 * saves a checkpoint from which the run continues with the same bits, and returns; lks_epoch
 * returns LKS_ESTOPPED, and steps of a program's own loop go on. On any rank, from any thread or a
 * signal handler, at any time of the trainer's life; not collective. A request that comes before
 * lks_fit holds for its first step. */
void lks_trainer_request_stop(lks_trainer *trainer);

/* Why the last lks_fit ended. */
typedef enum lks_fit_end {
    LKS_END_EPOCHS,
    LKS_END_EARLY_STOPPING,
    LKS_END_CALLBACK,
    LKS_END_REQUEST,
    LKS_END_TIME_LIMIT
} lks_fit_end;
lks_fit_end lks_trainer_end(const lks_trainer *trainer);     /* not collective */
int64_t lks_trainer_epochs_done(const lks_trainer *trainer); /* not collective */

/* Outputs of the model for inputs in this rank's host memory: inputs float32 [count, input],
 * outputs float32 [count, output], row-major. Each rank may have another count, 0 included; not
 * collective. Data settings (scale, mean, std) are not applied. */
lks_status lks_predict(lks_trainer *trainer, int64_t count, const float *inputs, float *outputs);
/* This rank's copy of one output's shape. Not collective. */
const lks_shape *lks_trainer_output_shape(const lks_trainer *trainer);

/* Saves and restores the whole state (model, optimizer, schedule, early stopping, place in the
 * epoch, history), between any two steps, on any number of ranks. A failed save leaves the file
 * that was there, and a file that is refused or damaged leaves the trainer as it is; it waits for a
 * save in the background. LKS_EIO; LKS_ECHECKPOINT with all that differs: the model, the
 * optimizer's or schedule's type, the seed, batch_size, drop_last, shuffle, the training samples.
 * Other hyper-parameters are a warning: those of this run hold, but for learning rates, which are
 * the schedule's state. */
lks_status lks_trainer_save(lks_trainer *trainer, const char *path);
lks_status lks_trainer_restore(lks_trainer *trainer, const char *path);
/* Restores from `which`: a checkpoint's path, or "auto" for the one in the run directory's
 * checkpoints/ that was saved last (one that cannot be restored is reported and skipped). With
 * "auto" and no checkpoint there, *resumed is false and the trainer stays as it is. */
lks_status lks_trainer_resume(lks_trainer *trainer, const char *which, bool *resumed);
/* Parameters and buffers alone, of a checkpoint of the same model. LKS_EIO, LKS_ECHECKPOINT. */
lks_status lks_trainer_load_weights(lks_trainer *trainer, const char *path);
/* The same for a model that is this one in part. params, exclude: shell patterns of state_dict
 * names, separated by blanks, "conv*"; NULL: all, none. What they choose must be in the file with
 * the same shape: LKS_ECHECKPOINT lists everything that is not. What else the file has is left
 * there. The log says what was taken and what was not. LKS_ECONFIG for a pattern that matches
 * nothing; LKS_EIO. */
lks_status lks_trainer_init_from(lks_trainer *trainer, const char *path, const char *params,
                                 const char *exclude);

/* The history, one entry per finished epoch. Not collective. The array is the trainer's, valid
 * until its next epoch. */
const lks_epoch_result *lks_trainer_history(const lks_trainer *trainer, int64_t *out_count);

/* Parameters by their state_dict names, copied to host memory; not collective. With precision bf16
 * as they are computed with, rounded. shape and values may be NULL. LKS_EINVAL for an unknown name;
 * a name is NULL where the index is out of range. */
int lks_trainer_param_count(const lks_trainer *trainer);
const char *lks_trainer_param_name(const lks_trainer *trainer, int index);
lks_status lks_trainer_get_param(lks_trainer *trainer, const char *name, lks_shape *shape,
                                 float *values);
/* Collective with equal values on every rank. values: as many float32 as the shape has. */
lks_status lks_trainer_set_param(lks_trainer *trainer, const char *name, const float *values);

#ifdef __cplusplus
}
#endif
#endif
