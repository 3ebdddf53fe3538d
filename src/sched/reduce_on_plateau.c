/* torch.optim.lr_scheduler.ReduceLROnPlateau: lr *= factor when a metric has not improved for
 * `patience` epochs. */
#include "sched/schedule.h"

enum { MODE_AUTO, MODE_MIN, MODE_MAX };
static const char *const mode_names[] = {"auto", "min", "max", NULL};
enum { THRESHOLD_REL, THRESHOLD_ABS };
static const char *const threshold_modes[] = {"rel", "abs", NULL};

/* The metric exists after epochs alone. */
static const char *const intervals[] = {"epoch", NULL};

typedef struct plateau_config {
    lks_schedule_common common;
    int monitor, mode;
    double factor;
    int64_t patience;
    double threshold;
    int threshold_mode;
    int64_t cooldown;
    double min_lr, eps;
    bool verbose;
} plateau_config;

enum { BEST, BAD_EPOCHS, COOLDOWN_LEFT, EXTRA_COUNT }; /* state.extra */

static const lks_option options[] = {
    {.key = "monitor",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(plateau_config, monitor),
     .text = "val_loss",
     .choices = lks_monitor_names,
     .help = "What is watched after every epoch."},
    {.key = "mode",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(plateau_config, mode),
     .text = "auto",
     .choices = mode_names,
     .help = "Which way is better; auto: low for losses, high for accuracies."},
    {.key = "factor",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(plateau_config, factor),
     .text = "0.1",
     .high = 1,
     .low_open = true,
     .high_open = true,
     .help = "Factor of each reduction."},
    {.key = "patience",
     .type = LKS_OPTION_INT,
     .offset = offsetof(plateau_config, patience),
     .text = "10",
     .high = INFINITY,
     .help = "Epochs in a row without improvement that are allowed; the next one reduces."},
    {.key = "threshold",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(plateau_config, threshold),
     .text = "1e-4",
     .high = INFINITY,
     .high_open = true,
     .help = "A change counts as an improvement when it is larger than this."},
    {.key = "threshold_mode",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(plateau_config, threshold_mode),
     .text = "rel",
     .choices = threshold_modes,
     .help = "Is threshold a part of the best value, or a difference to it?"},
    {.key = "cooldown",
     .type = LKS_OPTION_INT,
     .offset = offsetof(plateau_config, cooldown),
     .text = "0",
     .high = INFINITY,
     .help = "Epochs after a reduction in which bad epochs are not counted."},
    {.key = "min_lr",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(plateau_config, min_lr),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "The lowest learning rate."},
    {.key = "eps",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(plateau_config, eps),
     .text = "1e-8",
     .high = INFINITY,
     .high_open = true,
     .help = "Smaller reductions than this are not made."},
    {.key = "verbose",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(plateau_config, verbose),
     .text = "false",
     .help = "Say when the rate is reduced."},
    {.key = "interval",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(lks_schedule_common, interval),
     .text = "epoch",
     .choices = intervals,
     .help = "It moves on after every epoch, since there is no metric in between."},
    {0},
};

static const lks_option_table table = {
    .name = "reduce_on_plateau",
    .help = "Reduces the learning rate when a metric has stopped improving (ReduceLROnPlateau).",
    .struct_bytes = sizeof(plateau_config),
    .options = options,
};

static bool minimizes(const plateau_config *plateau) {
    if (plateau->mode == MODE_AUTO)
        return lks_monitor_minimizes(lks_monitor_names[plateau->monitor]);
    return plateau->mode == MODE_MIN;
}

static bool is_better(const plateau_config *plateau, double value, double best) {
    double threshold = plateau->threshold;
    if (plateau->threshold_mode == THRESHOLD_REL) {
        return minimizes(plateau) ? value < best * (1.0 - threshold)
                                  : value > best * (threshold + 1.0);
    }
    return minimizes(plateau) ? value < best - threshold : value > best + threshold;
}

static void start(const void *config, lks_schedule_state *state) {
    state->extra[BEST] = minimizes(config) ? INFINITY : -INFINITY;
}

static void reduce(const plateau_config *plateau, lks_schedule_state *state) {
    double lr = state->lr * plateau->factor;
    if (lr < plateau->min_lr) lr = plateau->min_lr;
    if (state->lr - lr > plateau->eps) state->lr = lr;
    state->extra[COOLDOWN_LEFT] = (double)plateau->cooldown;
    state->extra[BAD_EPOCHS] = 0;
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    const plateau_config *plateau = config;
    if (is_better(plateau, input->metric, state->extra[BEST])) {
        state->extra[BEST] = input->metric;
        state->extra[BAD_EPOCHS] = 0;
    } else {
        state->extra[BAD_EPOCHS] += 1;
    }
    if (state->extra[COOLDOWN_LEFT] > 0) {
        state->extra[COOLDOWN_LEFT] -= 1;
        state->extra[BAD_EPOCHS] = 0;
    }
    if (state->extra[BAD_EPOCHS] > (double)plateau->patience) reduce(plateau, state);
}

static int monitor(const void *config) {
    return ((const plateau_config *)config)->monitor;
}

static bool verbose(const void *config) {
    return ((const plateau_config *)config)->verbose;
}

const lks_schedule_kind lks_schedule_reduce_on_plateau = {
    .options = &table,
    .extra_count = EXTRA_COUNT,
    .start = start,
    .advance = advance,
    .monitor = monitor,
    .verbose = verbose,
};
