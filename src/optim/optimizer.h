/* What one optimizer provides; known to src/optim alone. A new optimizer is one file with one of
 * these and one line in the table of registry.c. */
#ifndef LKS_OPTIM_OPTIMIZER_H
#define LKS_OPTIM_OPTIMIZER_H

#include <math.h>

#include "optim/optim.h"

/* Every optimizer's configuration struct begins with this, so that the shared part of an update is
 * written once. */
typedef struct lks_optimizer_common {
    double lr, weight_decay;
    bool maximize;
} lks_optimizer_common;

/* The rows of the shared part in each optimizer's option table. */
#define LKS_OPTIMIZER_LR_OPTION(default_text)                                                \
    {                                                                                        \
        .key = "lr", .type = LKS_OPTION_FLOAT, .offset = offsetof(lks_optimizer_common, lr), \
        .text = default_text, .high = INFINITY, .high_open = true, .help = "Learning rate."  \
    }
#define LKS_OPTIMIZER_WEIGHT_DECAY_OPTION(default_text, help_text)                    \
    {                                                                                 \
        .key = "weight_decay", .type = LKS_OPTION_FLOAT,                              \
        .offset = offsetof(lks_optimizer_common, weight_decay), .text = default_text, \
        .high = INFINITY, .high_open = true, .help = help_text                        \
    }
#define LKS_OPTIMIZER_L2_HELP \
    "L2 penalty: weight_decay times the parameter is added to the gradient."
/* `config` has a member eps. */
#define LKS_OPTIMIZER_EPS_OPTION(config, default_text)                           \
    {                                                                            \
        .key = "eps", .type = LKS_OPTION_FLOAT, .offset = offsetof(config, eps), \
        .text = default_text, .high = INFINITY, .high_open = true,               \
        .help = "Added to the denominator, against division by zero."            \
    }
#define LKS_OPTIMIZER_MAXIMIZE_OPTION                                        \
    {                                                                        \
        .key = "maximize", .type = LKS_OPTION_BOOL,                          \
        .offset = offsetof(lks_optimizer_common, maximize), .text = "false", \
        .help = "Climb the objective instead of descending it."              \
    }

enum { LKS_OPTIMIZER_STATE_MAX = 3 };

typedef struct lks_optimizer_kind {
    const lks_option_table *options; /* its name is the type's; the struct begins with the above */
    const char *state_names[LKS_OPTIMIZER_STATE_MAX]; /* every array that it may need */
    /* Does this configuration need state_names[index]? */
    bool (*needs_state)(const void *config, int index);
    /* What state_names[index] starts with; NULL: zeros. */
    double (*initial_state)(const void *config, int index);
    /* What single options cannot say: LKS_ECONFIG; NULL: nothing. */
    lks_status (*check)(const void *config);
    /* Where the configuration keeps what a schedule may set as momentum, or NULL where it has none;
     * NULL: it never has. Legal values are 0 <= momentum < momentum_limit. */
    double *(*momentum)(void *config);
    double momentum_limit;
    /* Updates one range. states: where the range begins in each array of state_names; NULL for
     * those that no configuration needs. */
    lks_status (*update)(lks_device *device, lks_stream *stream, const lks_update *update,
                         const void *config, float *const *states);
} lks_optimizer_kind;

extern const lks_optimizer_kind lks_optimizer_sgd;
extern const lks_optimizer_kind lks_optimizer_adam;
extern const lks_optimizer_kind lks_optimizer_adamw;
extern const lks_optimizer_kind lks_optimizer_rmsprop;
extern const lks_optimizer_kind lks_optimizer_adagrad;

/* The kind called `type`, or NULL. */
const lks_optimizer_kind *lks_optimizer_find(const char *type);
/* Names of all kinds for lks_fail_unknown; returns how many of them were written. */
int lks_optimizer_names(const char **out, int capacity);

#endif
