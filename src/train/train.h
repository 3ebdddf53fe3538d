/* The interface of src/train for the command: the public API, the option tables, and what stands
 * behind a context. */
#ifndef LKS_TRAIN_H
#define LKS_TRAIN_H

#include "comm/comm.h"
#include "comm/guard.h"
#include "lockstep/lockstep.h"
#include "train/options.h"

/* The context's communicator, guard (NULL: none), device and logger; owned by the context. */
lks_comm *lks_context_comm(const lks_context *context);
lks_device *lks_context_device(const lks_context *context);
lks_logger *lks_context_logger(lks_context *context);
lks_guard *lks_context_guard(const lks_context *context);

/* Follows the next steps: after a few of warm-up and `steps` more, the log has a table of where
 * their time went, and the run directory profile.json, which `lockstep plan` reads. What stands
 * there at the end of a shorter run is of the steps that there were. Before the first step;
 * collective. LKS_EINVAL unless steps >= 1; LKS_ENOMEM. */
lks_status lks_trainer_profile(lks_trainer *trainer, int64_t steps);

/* Is it a status that one rank may have alone, while the others wait for it? */
bool lks_strands_others(lks_status status);

/* What a trainer has on the device, in the order of the start-up table. */
typedef enum lks_memory_kind {
    LKS_MEMORY_PARAMETERS,
    LKS_MEMORY_MASTERS, /* none where parameters are float32 */
    LKS_MEMORY_GRADIENTS,
    LKS_MEMORY_STATE,
    LKS_MEMORY_ACTIVATIONS,
    LKS_MEMORY_KINDS
} lks_memory_kind;
extern const char *const lks_memory_kind_names[LKS_MEMORY_KINDS];

/* What training takes of this rank's memory, in bytes. */
typedef struct lks_trainer_needs {
    int64_t kinds[LKS_MEMORY_KINDS];
    int64_t device;     /* these and what little there is beside */
    int64_t host;       /* batches read ahead, data sets, the best model so far: on top of the
                           device's where that is the host */
    int64_t sums;       /* host memory while gradients are summed over the ranks */
    int64_t checkpoint; /* this rank's part of a checkpoint file */
    int64_t copy;       /* of that, on the host, while one is saved; 0: none is made */
} lks_trainer_needs;
/* Of a trainer on a device that measures (lks_device_measure). Local. LKS_ENOMEM. */
lks_status lks_trainer_get_needs(lks_trainer *trainer, lks_trainer_needs *out);

/* What a step computes and exchanges, for those who predict how long it takes. */
typedef struct lks_outline_bucket {
    int64_t grad_bytes;  /* of its gradients, as they are summed over the ranks */
    int64_t param_bytes; /* of its parameters, as they are gathered */
    int layer;           /* whose backward completes it */
} lks_outline_bucket;
typedef struct lks_outline {
    int64_t run_steps;      /* of all epochs */
    int64_t batch;          /* samples of all ranks in a step, */
    int64_t rows;           /* and of this one, in */
    int64_t micro_batches;  /* so many parts; */
    bool sums_each;         /* the gradients of each are summed over the ranks */
    bool overlap;           /* sums begin while backward goes on, not after it */
    bool gathers_ahead;     /* the next step begins while parameters are gathered */
    int64_t updated;        /* parameters that this rank updates */
    int synchronized_count; /* layers with statistics over all ranks */
    int layer_count;
    lks_outline_bucket *buckets; /* in the order in which backward completes them */
    int bucket_count;
} lks_outline;
/* Of a trainer for training. Local; lks_outline_free ends it. LKS_ENOMEM. */
lks_status lks_trainer_get_outline(const lks_trainer *trainer, lks_outline *out);
void lks_outline_free(lks_outline *outline);

/* The words of lks_train_config.no_decay, ended by NULL. */
extern const char *const lks_no_decay_words[];
/* What an lks_param_group has beside its patterns and the optimizer's options. */
extern const lks_option_table lks_param_group_options;

/* "Epoch 3/20: Train Loss: 0.1234, Train Acc: 98.76% | Val Loss: 0.2345, Val Acc: 97.65%"; what
 * does not exist is left out. */
void lks_epoch_print(const lks_epoch_result *result, int64_t epochs, lks_strbuf *out);

#endif
