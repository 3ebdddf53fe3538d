#include "train/options.h"

#include "checkpoint/checkpoint.h"
#include "lockstep/train.h"
#include "sched/sched.h"

/* In the order of lks_grad_reduce. */
static const char *const grad_reduce_names[] = {"auto", "fp32", "bf16", NULL};

static const lks_option train_options[] = {
    {.key = "seed",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, seed),
     .text = "1",
     .low = 0,
     .high = 9007199254740992.0, /* 2^53: the table's bounds are doubles */
     .help = "Seed of initial parameters, shuffling, dropout and augmentation."},
    {.key = "epochs",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, epochs),
     .text = "10",
     .low = 1,
     .high = 1e9,
     .help = "Epochs to train."},
    {.key = "batch_size",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, batch_size),
     .text = "32",
     .low = 1,
     .high = 1e9,
     .help = "Samples of one step, over all ranks together; at least one for each rank."},
    {.key = "micro_batch_size",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, micro_batch_size),
     .text = "0",
     .low = 0,
     .high = 1e9,
     .help = "Most samples of a rank that go through the model at a time; the gradients of its "
             "micro-batches are added up to the whole batch's, for less memory; 0: all at once."},
    {.key = "zero_stage",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, zero_stage),
     .text = "1",
     .low = 0,
     .high = 2,
     .help =
         "0: every rank updates all parameters; 1: each rank keeps optimizer state for, and "
         "updates, its share; 2: each rank also keeps only its share of the summed gradients. The "
         "numbers are the same, but that with 2 the gradients of micro-batches are summed over "
         "the ranks one by one and then added up, in another order."},
    {.key = "bucket_bytes",
     .type = LKS_OPTION_BYTES,
     .offset = offsetof(lks_train_config, bucket_bytes),
     .text = "25MiB",
     .low = 1024,
     .high = 1099511627776.0,
     .word = "auto",
     .word_value = LKS_BUCKET_BYTES_AUTO,
     .help =
         "Bytes of gradients that are summed over the ranks at a time while backward goes on; "
         "with zero_stage 2, room for two such buckets and the largest layer is all that a rank "
         "has for gradients beside its share. auto: of 1, 4, 10, 25 and 50 MiB, those that cut the "
         "model differently are tried in steps before the first one, ten each at most, which leave "
         "nothing behind; the fastest is taken, told in the log and kept in metrics.jsonl."},
    {.key = "first_bucket_bytes",
     .type = LKS_OPTION_BYTES,
     .offset = offsetof(lks_train_config, first_bucket_bytes),
     .text = "1MiB",
     .low = 1024,
     .high = 1099511627776.0,
     .help = "Bytes of the first bucket, and of the last one where bucket_bytes is more: "
             "communication starts early, and little of it is left when backward has ended."},
    {.key = "grad_reduce_dtype",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_train_config, grad_reduce_dtype),
     .text = "auto",
     .choices = grad_reduce_names,
     .help = "In what type gradients are summed over the ranks. auto: as the model computes, bf16 "
             "with precision bf16, else fp32. fp32 with precision bf16: gradients are not rounded "
             "to bfloat16 at all, and take twice the memory and bandwidth. bf16 with another "
             "precision: each rank's gradients are rounded for the sum alone, which takes half the "
             "bandwidth, and half as much memory again for what is sent; one rank has nothing to "
             "round."},
    {.key = "overlap",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_train_config, overlap),
     .text = "true",
     .help = "Gradients are summed over the ranks while backward goes on, and updated parameters "
             "gathered while the next forward does. With false all of it is done in between, with "
             "the same numbers, which shows what overlap hides."},
    {.key = "check_sync",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_train_config, check_sync),
     .text = "0",
     .low = 0,
     .high = 1e15,
     .help = "Compare the hashes of all parameters over the ranks after every so many steps; a "
             "difference ends the run and names the rank and the first parameter. They are always "
             "compared at the start. 0: never."},
    {.key = "time_limit",
     .type = LKS_OPTION_DURATION,
     .offset = offsetof(lks_train_config, time_limit),
     .text = "0",
     .help = "End the run so early that its checkpoint is saved before so much time has passed "
             "since its start, as a signal would, with the exit code 75; 0: no limit. Give it what "
             "the batch system gives the job."},
    {.key = "cuda_graph",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_train_config, cuda_graph),
     .text = "false",
     .help = "On GPUs: the work of a step is recorded once and then replayed with one call, which "
             "pays where a step is many short kernels. The numbers are the same to the last bit. "
             "Several ranks need a GPU each, and NCCL. Changes nothing on the CPU."},
    {.key = "output",
     .type = LKS_OPTION_STRING,
     .offset = offsetof(lks_train_config, output),
     .optional = true,
     .help = "Run directory for metrics.jsonl, log.txt, config.yaml and checkpoints/, relative to "
             "the current directory; nothing is written without it."},
    {0},
};

const lks_option_table lks_train_options = {
    .name = "run",
    .help = "The run as a whole.",
    .struct_bytes = sizeof(lks_train_config),
    .options = train_options,
};

/* In the order of lks_norm_kind. */
static const char *const norm_type_names[] = {"1", "2", "inf", NULL};
static const char *const nonfinite_names[] = {"error", "skip", NULL};

static const lks_option gradient_options[] = {
    {.key = "clip_norm",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(lks_gradient_settings, clip_norm),
     .text = "0",
     .low = 0,
     .high = 1e300,
     .help = "Largest norm of all gradients together; larger ones are scaled down to it, as "
             "torch.nn.utils.clip_grad_norm_ does; 0: not clipped."},
    {.key = "norm_type",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_gradient_settings, norm_type),
     .text = "2",
     .choices = norm_type_names,
     .help = "The norm that is clipped and reported."},
    {.key = "clip_value",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(lks_gradient_settings, clip_value),
     .text = "0",
     .low = 0,
     .high = 1e300,
     .help = "Largest magnitude of a gradient's element, after clip_norm; 0: not clipped."},
    {.key = "on_nonfinite",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_gradient_settings, on_nonfinite),
     .text = "error",
     .choices = nonfinite_names,
     .help = "When the loss or the norm is not a finite number: end with an error that names the "
             "step and the first parameter concerned, or skip the step."},
    {.key = "max_skipped",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_gradient_settings, max_skipped),
     .text = "10",
     .low = 0,
     .high = 1e9,
     .help = "Steps that may be skipped in a row; one more is an error."},
    {0},
};

const lks_option_table lks_gradient_settings_options = {
    .name = "gradients",
    .help = "What is done to gradients before the update.",
    .struct_bytes = sizeof(lks_gradient_settings),
    .options = gradient_options,
};

static const char *const on_error_names[] = {"continue", "stop", NULL};
/* In the order of lks_transfer. */
static const char *const transfer_names[] = {"independent", "collective", NULL};

static const lks_option checkpoint_options[] = {
    {.key = "every.epochs",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_checkpoint_settings, every_epochs),
     .optional = true,
     .low = 0,
     .high = 1e9,
     .help = "Save checkpoints/epoch-NNNN.h5 after every so many epochs; 0: never. Without `every` "
             "after every epoch; with it as often as it says, and no more."},
    {.key = "every.steps",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_checkpoint_settings, every_steps),
     .optional = true,
     .low = 0,
     .high = 1e15,
     .help = "Save checkpoints/step-NNNNNNNN.h5 after every so many steps of the run; 0: never."},
    {.key = "every.minutes",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(lks_checkpoint_settings, every_minutes),
     .optional = true,
     .low = 0,
     .high = 1e9,
     .help = "Save checkpoints/step-NNNNNNNN.h5 when so many minutes have passed since the last of "
             "these files, by rank 0's clock; 0: never."},
    {.key = "keep_last",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_checkpoint_settings, keep_last),
     .text = "2",
     .low = 0,
     .high = 1e9,
     .help = "How many of epoch-NNNN.h5 and step-NNNNNNNN.h5 together to keep, the newest ones; 0: "
             "all."},
    {.key = "best",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_checkpoint_settings, best),
     .text = "true",
     .help = "Save checkpoints/best.h5 whenever the monitored value is the best so far."},
    {.key = "keep_best",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_checkpoint_settings, keep_best),
     .text = "1",
     .low = 1,
     .high = 1e9,
     .help = "How many of the best epochs to keep: from 2 on each as best-epoch-NNNN.h5, the best "
             "one also as best.h5."},
    {.key = "monitor",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_checkpoint_settings, monitor),
     .text = "val_loss",
     .choices = lks_monitor_names,
     .help = "What `best` goes by; without validation data, train_loss stands for val_loss."},
    {.key = "final",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_checkpoint_settings, final),
     .text = "true",
     .help = "Save checkpoints/final.h5 when training ends. One that is interrupted always leaves "
             "checkpoints/step-NNNNNNNN.h5."},
    {.key = "on_error",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_checkpoint_settings, on_error),
     .text = "continue",
     .choices = on_error_names,
     .help = "When a checkpoint cannot be saved: report it, go on and try again at the next one, "
             "or end the run with the error. When final.h5 cannot be saved there is no next one: "
             "the run ends with the error."},
    {.key = "transfer",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_checkpoint_settings, transfer),
     .text = "independent",
     .choices = transfer_names,
     .help = "How ranks write: each by itself, or together through MPI-IO, for file systems that "
             "want few writers."},
    {.key = "async",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_checkpoint_settings, async),
     .text = "false",
     .help =
         "Training goes on while each rank copies what it has to save, and waits only where it "
         "would change that; a thread writes the copy. Takes memory for that copy, and time of the "
         "processor: where training fills all cores, saves at once take less in all. A save takes "
         "eight steps at least: one that is due sooner waits for the one before."},
    {0},
};

const lks_option_table lks_checkpoint_settings_options = {
    .name = "checkpoint",
    .help = "When checkpoints are written, and which are kept.",
    .struct_bytes = sizeof(lks_checkpoint_settings),
    .options = checkpoint_options,
};

lks_status lks_checkpoint_settings_parse(const char *text, lks_checkpoint_settings *out) {
    const lks_option_table *table = &lks_checkpoint_settings_options;
    uint64_t given = 0;
    lks_status status = lks_options_init(table, out);
    if (status == LKS_OK) status = lks_options_override(table, out, text, &given);
    bool every = false;
    for (int i = 0; table->options[i].key != NULL; i++)
        every =
            every || ((given >> i & 1) != 0 && lks_glob_match("every.*", table->options[i].key));
    if (!every) out->every_epochs = 1;
    if (status == LKS_OK && out->async && out->transfer == LKS_TRANSFER_COLLECTIVE)
        status = lks_fail(LKS_ECONFIG, "async: true does not go with transfer: collective, in "
                                       "which training would have to take part");
    return status == LKS_OK ? LKS_OK : lks_fail_in(status, "checkpoint");
}

static const lks_option init_from_options[] = {
    {.key = "path",
     .type = LKS_OPTION_PATH,
     .offset = offsetof(lks_init_from_settings, path),
     .help = "The checkpoint, or what `lockstep import` has made. Relative to the run file's "
             "folder; on the command line to the current directory."},
    {0},
};

const lks_option_table lks_init_from_options = {
    .name = "init_from",
    .help = "Weights to begin with.",
    .struct_bytes = sizeof(lks_init_from_settings),
    .options = init_from_options,
};
