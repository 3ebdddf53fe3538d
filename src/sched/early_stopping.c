/* Early stopping: ends a run whose monitored value has stopped getting better. */
#include <math.h>
#include <string.h>

#include "sched/sched.h"

const char *const lks_monitor_names[] = {"val_loss", "val_acc", "train_loss", "train_acc", NULL};

enum { MODE_AUTO, MODE_MIN, MODE_MAX };
static const char *const mode_names[] = {"auto", "min", "max", NULL};

static const lks_option options[] = {
    {.key = "monitor",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_early_stopping_config, monitor),
     .text = "val_loss",
     .choices = lks_monitor_names,
     .help = "What is watched after every epoch."},
    {.key = "mode",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_early_stopping_config, mode),
     .text = "auto",
     .choices = mode_names,
     .help = "Which way is better; auto: low for losses, high for accuracies."},
    {.key = "min_delta",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(lks_early_stopping_config, min_delta),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "A change counts as an improvement when it is larger than this."},
    {.key = "patience",
     .type = LKS_OPTION_INT,
     .offset = offsetof(lks_early_stopping_config, patience),
     .text = "10",
     .high = INFINITY,
     .high_open = true,
     .help = "Epochs in a row without improvement after which training stops; 0 is as 1."},
    {.key = "restore_best",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_early_stopping_config, restore_best),
     .text = "false",
     .help = "End with the parameters of the best epoch."},
    {0},
};

const lks_option_table lks_early_stopping_options = {
    .name = "early_stopping",
    .help = "Stops training when the monitored value has not improved for a while.",
    .struct_bytes = sizeof(lks_early_stopping_config),
    .options = options,
};

bool lks_monitor_minimizes(const char *monitor) {
    size_t length = strlen(monitor);
    return length < 4 || strcmp(monitor + length - 4, "_acc") != 0;
}

static bool minimizes(const lks_early_stopping_config *config) {
    if (config->mode == MODE_AUTO) return lks_monitor_minimizes(lks_monitor_names[config->monitor]);
    return config->mode == MODE_MIN;
}

lks_early_stopping lks_early_stopping_start(const lks_early_stopping_config *config) {
    return (lks_early_stopping){
        .best = minimizes(config) ? INFINITY : -INFINITY,
        .best_epoch = -1,
    };
}

bool lks_early_stopping_update(const lks_early_stopping_config *config, lks_early_stopping *state,
                               int64_t epoch, double value) {
    bool better = minimizes(config) ? value < state->best - config->min_delta
                                    : value > state->best + config->min_delta;
    if (better) {
        state->best = value;
        state->best_epoch = epoch;
        state->bad_epochs = 0;
    } else {
        state->bad_epochs++;
        state->stopped = state->stopped || state->bad_epochs >= config->patience;
    }
    return state->stopped;
}
