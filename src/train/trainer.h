/* What a trainer is made of; included by src/train alone, and by tests. */
#ifndef LKS_TRAIN_TRAINER_H
#define LKS_TRAIN_TRAINER_H

#include <stdatomic.h>

#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "comm/guard.h"
#include "data/data.h"
#include "device/device.h"
#include "engine/engine.h"
#include "optim/optim.h"
#include "sched/sched.h"
#include "train/bucket_trial.h"
#include "train/exchange.h"
#include "train/feed.h"
#include "train/groups.h"
#include "train/param_store.h"
#include "train/profile.h"
#include "train/rates.h"
#include "train/run_dir.h"
#include "train/train.h"

struct lks_context {
    lks_comm *comm;
    lks_device *device;
    lks_logger logger;
    double created;   /* clock */
    int host_cores;   /* that the ranks of this host share */
    lks_guard *guard; /* NULL: none */
};

/* Why training stops before its end, as summed over the ranks; the weightiest reason last. */
enum {
    LKS_HALT_CALLBACK,
    LKS_HALT_TIME_LIMIT, /* rank 0's clock */
    LKS_HALT_REQUEST,
    LKS_HALT_COUNT
};

/* One step's numbers, all-reduced together as float64 while backward runs: the sums of the loss,
 * and behind them what all ranks must agree on. Rank 0 alone adds to RATES, so the sum is
 * rank 0's value to the last bit. */
enum {
    LKS_STEP_HALT = LKS_LOSS_SUM_COUNT,             /* [LKS_HALT_COUNT] */
    LKS_STEP_SAVE = LKS_STEP_HALT + LKS_HALT_COUNT, /* rank 0: a checkpoint is due by the clock */
    LKS_STEP_READY,       /* how many ranks' background save waits for the others */
    LKS_STEP_FAILED_SAVE, /* and of them, those on which it has failed */
    LKS_STEP_RATES        /* learning rate and momentum of every group */
};

/* Where the run stands: everything that decides the next step beside the tensors. */
typedef struct lks_position {
    int64_t epoch;       /* finished epochs */
    int64_t step;        /* finished steps of the present epoch */
    int64_t global_step; /* finished steps of the run */
} lks_position;

typedef struct lks_saver lks_saver;
typedef struct lks_sync_check lks_sync_check;
typedef struct lks_step_recorder lks_step_recorder;

struct lks_trainer {
    lks_context *context;
    lks_train_config config; /* its strings are the trainer's own copies */
    lks_data_settings data_settings;
    lks_checkpoint_settings checkpoint_settings;
    lks_gradient_settings gradient_settings;
    lks_early_stopping_config stopping_config;

    lks_dataset *train_data, *validation_data; /* borrowed */
    lks_loader *loader, *validation_loader;
    lks_feed *feed; /* between the loader and the device */
    lks_param_groups *groups;
    lks_graph *graph;
    lks_shard_plan *plan;
    lks_optimizer *optimizer;
    lks_rates *rates;
    double *rates_state;          /* [lks_rates_state_count] scratch */
    lks_group_rates *group_rates; /* [group count] of the running step */
    lks_exchange *exchange;
    lks_run_dir *run_dir;       /* rank 0 with an output, else NULL */
    lks_saver *saver;           /* with an output, else NULL */
    lks_sync_check *sync_check; /* NULL where there is one rank */
    lks_profile *profile;       /* while steps are profiled, else NULL */
    int64_t sample_hash;        /* of some training samples, to know the data set again */
    int64_t created_ns; /* largest creation number of a checkpoint that was saved or restored */

    int64_t input_count, output_count; /* elements of one sample */
    int64_t max_rows;                  /* samples that go through the graph at a time */
    lks_param_store params;
    /* A step's numbers, one block in device memory and its image in pinned host memory. Before the
     * step the host sends what it adds to the sums, and the counters; when the step is decided, all
     * of it comes back. */
    double *step_sums, *step_sums_host; /* [step_sum_count] */
    lks_step_counters *counters, *counters_host;
    double *norm_parts, *norm_parts_host; /* [2], as lks_exchange_reduce's */
    lks_update_control *control, *control_host;
    int step_sum_count;          /* LKS_STEP_RATES + 2 * groups */
    size_t step_block_bytes;     /* all of it */
    lks_request *sums_request;   /* the sums' reduction, while it is under way */
    lks_event *decided;          /* the block of the running step has come back */
    lks_step_recorder *recorder; /* with cuda_graph, else NULL */
    double *epoch_sums; /* device, [LKS_LOSS_SUM_COUNT]: of all ranks, over the present epoch */
    lks_event *copied;  /* rows that go to the device directly have left the host */

    lks_position position;
    lks_early_stopping stopping;
    double best_value;  /* of the checkpoint's monitor */
    int64_t best_epoch; /* from 1; 0: none yet */
    float *best_params; /* host copy for restore_best of the params' masters, but for frozen ones;
                           else NULL */
    float *best_buffers;
    lks_epoch_result *history;
    bool *epoch_lost; /* beside the history: one of the best, whose checkpoint was not saved */
    int64_t history_count, history_capacity;

    double grad_norm;                /* of the last step, before clipping */
    int64_t skipped, skipped_in_row; /* steps that were not finite */
    lks_failure failure;             /* of this rank; the next reduction tells the others */
    bool callback_stop;              /* this rank's on_step said so, not yet told to the others */
    atomic_bool stop_requested;      /* of this rank, from any thread or a signal handler */
    lks_fit_end halt;                /* agreed by all ranks; LKS_END_EPOCHS: training goes on */
    lks_fit_end end;
    double slowest_step;  /* seconds */
    double epoch_began;   /* clock at its begin in this process; 0: not yet */
    double epoch_seconds; /* of the present epoch before that, in an interrupted run */
    double train_seconds; /* of the present epoch, training alone */
    double epoch_lr;      /* with which the present epoch began */
    double last_progress;
};

/* trainer.c */
/* In what type the ranks sum gradients. */
lks_dtype lks_trainer_sum_type(const lks_trainer *trainer);
/* How buckets of this size cut the model's parameters. Local. LKS_EINVAL, LKS_ENOMEM. */
lks_status lks_trainer_plan_shards(const lks_trainer *trainer, int64_t bucket_bytes,
                                   lks_shard_plan **out);
/* lks_trainer_create without a word about it, and with a size of buckets. Collective. */
lks_status lks_trainer_build(lks_context *context, const lks_layer_spec *layers,
                             const lks_shape *input, lks_dataset *train, lks_dataset *validation,
                             const lks_train_config *config, lks_trainer **out);
/* Do the data set's samples and targets fit the model and its loss? Local. LKS_ESHAPE, LKS_EDATA.
 */
lks_status lks_trainer_check_dataset(lks_trainer *trainer, lks_dataset *dataset);
lks_status lks_trainer_open_loader(lks_trainer *trainer, lks_dataset *dataset, bool training,
                                   lks_loader **out);

/* For work of a step that other ranks do not wait for: its failure is kept, and told to them with
 * the norm of the gradients or at the end of the epoch. Returns LKS_ECOMM (then nobody can be told)
 * or LKS_OK. */
lks_status lks_trainer_note(lks_trainer *trainer, lks_status status);
static inline bool lks_trainer_has_failed(const lks_trainer *trainer) {
    return trainer->failure.status != LKS_OK;
}

/* step.c */
/* lks_step without its end: parameters may still be gathered, and a save in the background is not
 * told of a failure. Collective. */
lks_status lks_trainer_step(lks_trainer *trainer, bool *epoch_done);
/* Before parameters are read or written outside of a step, and before the caller's program goes on:
 * waits for those that are being gathered. before: the status of what came before, which all ranks
 * have alike; it comes back, or LKS_ECOMM. Collective. */
lks_status lks_trainer_settle_params(lks_trainer *trainer, lks_status before);

/* halt.c */
/* What this rank adds to a reduction to say that it should stop: sums[LKS_HALT_COUNT]. Local. */
void lks_trainer_add_halt(const lks_trainer *trainer, double *out);
/* What came of it over all ranks. Local. */
void lks_trainer_agree_halt(lks_trainer *trainer, const double *sums);
/* Was the run stopped from outside, to be continued later? */
bool lks_is_interruption(lks_fit_end end);
/* Where all ranks have agreed to stop, and do so now: LKS_ESTOPPED with the reason, which is told
 * once, and over with that. Local. */
lks_status lks_trainer_tell_halt(lks_trainer *trainer);

/* batch.c */
/* Bytes of a row of a batch's targets. */
size_t lks_trainer_target_bytes(const lks_trainer *trainer);
/* Puts rows [first, first + max_rows) of this rank's part of a batch (as many as there are) into
 * the graph, from the host or from the device, where the batch is, and fills info->batch and
 * first_row. Local. */
lks_status lks_trainer_load_rows(lks_trainer *trainer, const lks_host_batch *batch, int64_t first,
                                 lks_batch_info *info);
/* Gives the batch back to the loader once its rows have left the host. */
lks_status lks_trainer_release_batch(lks_trainer *trainer, lks_loader *loader,
                                     const lks_host_batch *batch);
/* Copies sums from the device, waiting for what is queued. */
lks_status lks_trainer_read_sums(lks_trainer *trainer, const double *sums, int count, double *out);
/* The means that stand in sums; NaN where the weight is zero. */
void lks_sums_means(const double *sums, double *out_loss, double *out_acc);

/* work.c */
/* Sends what this rank knows of the coming step to the device, also that it has failed. Local.
 * LKS_EDEVICE: the device has not been told. */
lks_status lks_trainer_send_step(lks_trainer *trainer);
/* Samples of the coming step over all ranks. Known without the loader, so also to a rank that has
 * failed. */
int64_t lks_trainer_global_rows(const lks_trainer *trainer);
/* Micro-batches of the coming step: as many on every rank, since batch norm may sum over the ranks
 * in each. */
int64_t lks_trainer_micro_batches(const lks_trainer *trainer);
/* Queues a whole step, once it has been sent, from its inputs to the updated parameters, whether it
 * is skipped or not; waits for nothing but communication through the host. Failures of this rank
 * are noted. Collective. LKS_ECOMM. */
lks_status lks_trainer_queue_work(lks_trainer *trainer, const lks_host_batch *batch);
/* Both. */
lks_status lks_trainer_queue_step(lks_trainer *trainer, const lks_host_batch *batch);

/* verdict.c */
/* Waits until the queued step is decided, and draws the consequences: it counts, or is skipped, or
 * fails with the same status on every rank. Collective. */
lks_status lks_trainer_conclude(lks_trainer *trainer);

/* evaluate.c */
/* Loss and accuracy of a loader's data set from its first step, exact means over all ranks.
 * may_halt: it breaks off where the run is interrupted, with `halt` set and without a result.
 * Collective. */
lks_status lks_trainer_evaluate(lks_trainer *trainer, lks_loader *loader, bool may_halt,
                                double *out_loss, double *out_acc);

/* epoch.c */
/* The value of an epoch by lks_monitor_names' index; training's where there is no validation. */
double lks_monitored(const lks_epoch_result *result, int monitor);
/* NaN is never better, and always worse. */
bool lks_is_better(double value, double best, bool minimize);
/* Of the present epoch so far, all sessions of an interrupted run together. */
double lks_trainer_epoch_seconds(const lks_trainer *trainer);
/* Samples of the present epoch that are done, over all ranks. */
int64_t lks_trainer_epoch_samples(const lks_trainer *trainer);

/* startup.c */
/* This rank's bytes of each kind on its device. */
void lks_trainer_device_bytes(const lks_trainer *trainer, int64_t bytes[LKS_MEMORY_KINDS]);
/* The start-up table. trial: what the run's size of buckets comes from. Collective. */
lks_status lks_trainer_log_startup(const lks_trainer *trainer, const lks_bucket_trial *trial);

#endif
