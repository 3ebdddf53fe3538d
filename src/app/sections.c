#include "app/sections.h"

#include <string.h>

#include "data/data.h"
#include "device/device.h"
#include "engine/engine.h"
#include "optim/optim.h"
#include "sched/sched.h"
#include "train/train.h"

enum { MAX_TYPES = 256 };

const char *const lks_device_names[] = {"auto", "cpu", "cuda", NULL};

static const lks_option machine_options[] = {
    {.key = "device",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_machine_settings, device),
     .text = "auto",
     .choices = lks_device_names,
     .help = "Where to compute; auto: a GPU where this build and machine have one, else the CPU."},
    {.key = "threads",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_machine_settings, threads),
     .text = "0",
     .low = 0,
     .high = 4096,
     .help = "CPU threads of each rank; 0: its share of the cores."},
    {.key = "precision",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_machine_settings, precision),
     .text = "fp32",
     .choices = lks_precision_names,
     .help = "In what the model computes. tf32: float32, but products round their factors to 10 "
             "bits on a GPU; on a CPU the same as fp32. bf16: activations, gradients and the "
             "parameters that are computed with are bfloat16, sums and the loss float32; what the "
             "optimizer updates stays float32, each rank's share of it (zero_stage), and is what "
             "checkpoints hold."},
    {.key = "stall_timeout",
     .type = LKS_OPTION_DURATION,
     .offset = offsetof(lks_machine_settings, stall_timeout),
     .text = "300s",
     .help = "End the job, with a message that says who is missing, when nothing has got any "
             "further for so long and the longest pause of the training so far, or when a rank has "
             "given no sign of life for half of it; ten times that at start-up and where "
             "checkpoints are read or written; 0: never."},
    {0},
};

const lks_option_table lks_machine_options = {
    .name = "machine",
    .help = "Where the run computes.",
    .struct_bytes = sizeof(lks_machine_settings),
    .options = machine_options,
};

static const lks_section sections[] = {
    {.name = "run",
     .help = "The run as a whole: these keys stand at the top level.",
     .example = "epochs: 20\nbatch_size: 64\noutput: runs/digits\n",
     .table = &lks_train_options},
    {.name = "machine",
     .help = "Where it computes: these keys stand at the top level, too.",
     .example = "device: auto\nthreads: 0\nstall_timeout: 10min\n",
     .table = &lks_machine_options},
    {.key = "data",
     .name = "data",
     .help = "How samples are read and what is done to them. The data sets themselves stand here "
             "under `train` and `validation` (see \"dataset\").",
     .example = "data:\n"
                "  train: {type: hdf5, file: digits.h5, inputs: train/inputs, "
                "targets: train/targets}\n"
                "  scale: 0.0625\n",
     .table = &lks_data_settings_options},
    {.key = "data.train, data.validation",
     .name = "dataset",
     .help = "One data set. Paths are relative to the run file's folder; on the command line "
             "(`--set data.train.file=...`) to the current directory.",
     .example = "data:\n  train: {type: hdf5, file: digits.h5, inputs: train/inputs, "
                "targets: train/targets}\n",
     .type = lks_dataset_type,
     .options = lks_dataset_options},
    {.key = "model.layers",
     .name = "layer",
     .help = "One layer of the list `model.layers`. `name` gives it a name in the checkpoint; "
             "without one it is its place in the list, as in torch.nn.Sequential. A type alone "
             "stands for a layer with all defaults. Containers hold a list of layers under "
             "`block`; residual also under `shortcut`. The shape of one sample, `model.input`, is "
             "taken from the training data when it is not given.",
     .example = "model:\n"
                "  input: [1, 8, 8]\n"
                "  layers:\n"
                "    - {type: conv2d, name: conv1, out_channels: 16, kernel_size: 3, padding: 1}\n"
                "    - relu\n"
                "    - type: residual\n"
                "      block:\n"
                "        - {type: conv2d, out_channels: 16, kernel_size: 3, padding: 1}\n"
                "        - relu\n"
                "    - flatten\n"
                "    - {type: linear, out_features: 10}\n",
     .type = lks_layer_type,
     .options = lks_layer_options},
    {.key = "loss",
     .name = "loss",
     .help = "What training makes small: cross_entropy when it is not given.",
     .example = "loss: {type: cross_entropy, label_smoothing: 0.1}\n",
     .type = lks_loss_type,
     .options = lks_loss_options},
    {.key = "optimizer",
     .name = "optimizer",
     .help = "How parameters are updated: adamw when it is not given. Names, defaults and rules "
             "are torch.optim's.",
     .example = "optimizer: {type: adamw, lr: 1e-3, no_decay: [bias, norm]}\n",
     .type = lks_optimizer_type,
     .options = lks_optimizer_options},
    {.key = "optimizer.groups",
     .name = "group",
     .help = "Parameters with settings of their own. Beside the keys below, a group takes every "
             "option of the optimizer's type, which replaces the optimizer's for its parameters. "
             "A parameter belongs to the first group that names it. Parameters go by their names "
             "in the checkpoint, such as `conv1.weight` or `3.block.0.bias`; `*`, `?` and `[...]` "
             "stand for any text, any character and one of some; a pattern that begins with one "
             "of them needs quotes. A pattern that matches no parameter is an error. Frozen "
             "normalisation layers still update their running statistics.",
     .example = "optimizer:\n"
                "  type: adamw\n"
                "  lr: 1e-3\n"
                "  no_decay: [bias, norm]\n"
                "  groups:\n"
                "    - {params: [conv1.*, conv2.*], frozen: true}\n"
                "    - {params: \"*.bias\", lr_scale: 0.1}\n"
                "    - {params: head.*, lr: 1e-2, weight_decay: 0}\n",
     .table = &lks_param_group_options},
    {.key = "schedule",
     .name = "schedule",
     .help = "How the learning rate changes: not at all when it is not given. Names and defaults "
             "are those of torch.optim.lr_scheduler.",
     .example = "schedule: {type: step, step_size: 10, gamma: 0.5}\n",
     .type = lks_schedule_type,
     .options = lks_schedule_options},
    {.key = "early_stopping",
     .name = "early_stopping",
     .help = "Ends training when the monitored value stops getting better; only where the section "
             "is given.",
     .example = "early_stopping: {monitor: val_loss, patience: 5}\n",
     .table = &lks_early_stopping_options},
    {.key = "gradients",
     .name = "gradients",
     .help = "What is done to gradients between their sum and the update.",
     .example = "gradients: {clip_norm: 1.0, on_nonfinite: skip}\n",
     .table = &lks_gradient_settings_options},
    {.key = "init_from",
     .name = "init_from",
     .help = "Begins with another run's weights, its running statistics included, and nothing else "
             "of it; a run that is resumed has weights of its own. What `params` and `exclude` "
             "choose must be in the file with the same shapes; patterns are as in \"group\". The "
             "log says what was taken, what was not, and what was left in the file.",
     .example = "init_from: {path: pretrained.h5, exclude: head.*}\n",
     .table = &lks_init_from_options},
    {.key = "checkpoint",
     .name = "checkpoint",
     .help = "Which checkpoints are written to the run directory `output`, and when.",
     .example = "checkpoint: {every: {steps: 500, minutes: 10}, keep_last: 3}\n",
     .table = &lks_checkpoint_settings_options},
};

enum { SECTION_COUNT = sizeof sections / sizeof *sections };

const lks_section *lks_section_at(int index) {
    return index < SECTION_COUNT ? &sections[index] : NULL;
}

const lks_section *lks_section_find(const char *name) {
    for (int i = 0; i < SECTION_COUNT; i++)
        if (strcmp(sections[i].name, name) == 0) return &sections[i];
    return NULL;
}

lks_status lks_section_type(const lks_section *section, const char *type,
                            const lks_option_table **out) {
    *out = section->options(type);
    if (*out) return LKS_OK;
    const char *types[MAX_TYPES];
    int count = 0;
    while (count < MAX_TYPES && section->type(count)) {
        types[count] = section->type(count);
        count++;
    }
    char what[64];
    snprintf(what, sizeof what, "%s type", section->name);
    return lks_fail_unknown(what, type, types, (size_t)count);
}
