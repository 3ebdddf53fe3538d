/* What one learning-rate schedule provides; known to src/sched alone. A new schedule is one file
 * with one of these and one line in the table of registry.c. */
#ifndef LKS_SCHED_SCHEDULE_H
#define LKS_SCHED_SCHEDULE_H

#include <math.h>

#include "sched/sched.h"

extern const char *const lks_schedule_intervals[]; /* "epoch", "step", NULL */
enum { LKS_SCHEDULE_INTERVAL_STEP = 1 };           /* an index into them */

/* Every schedule's configuration struct begins with this, and its option table ends with
 * LKS_SCHEDULE_INTERVAL_OPTION. */
typedef struct lks_schedule_common {
    int interval;               /* index into lks_schedule_intervals */
    lks_schedule_lambda lambda; /* the caller's; function NULL: none */
} lks_schedule_common;

#define LKS_SCHEDULE_INTERVAL_OPTION                                                 \
    {                                                                                \
        .key = "interval", .type = LKS_OPTION_CHOICE,                                \
        .offset = offsetof(lks_schedule_common, interval), .text = "epoch",          \
        .choices = lks_schedule_intervals,                                           \
        .help = "When the schedule moves on: after every epoch or after every step." \
    }

enum { LKS_SCHEDULE_EXTRA_MAX = LKS_SCHEDULE_STATE_MAX - 3 };

/* All that changes while a schedule runs, as numbers, so that it is saved as it is. */
typedef struct lks_schedule_state {
    double moves; /* advances made so far: PyTorch's last_epoch */
    double base_lr, lr;
    double extra[LKS_SCHEDULE_EXTRA_MAX]; /* the kind's own */
} lks_schedule_state;

typedef struct lks_schedule_kind {
    const lks_option_table *options; /* its name is the type's */
    int extra_count;                 /* numbers of state.extra in use */
    /* Checks what single options cannot say, and makes what the other functions need: LKS_ECONFIG,
     * LKS_ENOMEM; NULL: nothing to do. */
    lks_status (*prepare)(void *config);
    /* Frees what prepare has made, also after it failed; NULL: nothing. */
    void (*release)(void *config);
    /* Sets lr (and extra) of the beginning; lr is base_lr and extra is zero before. NULL: nothing
     * to do. A kind that has a base rate of its own sets base_lr, too. */
    void (*start)(const void *config, lks_schedule_state *state);
    /* Sets lr after one move; state->moves counts it already. PyTorch's chained form: from the lr
     * before, so that its rounding is PyTorch's too. */
    void (*advance)(const void *config, lks_schedule_state *state, const lks_schedule_input *input);
    /* The index into lks_monitor_names of what it wants as its input's metric; NULL: nothing. */
    int (*monitor)(const void *config);
    /* The momentum in force; NULL: it does not cycle. */
    double (*momentum)(const void *config, const lks_schedule_state *state);
    bool (*verbose)(const void *config); /* NULL: no */
} lks_schedule_kind;

/* A kind with its configuration: all of a schedule but its state. */
typedef struct lks_schedule_part {
    const lks_schedule_kind *kind;
    void *config;
} lks_schedule_part;

/* Finds the type and reads its options. LKS_ECONFIG, LKS_ENOMEM. *out is closed also after a
 * failure. */
lks_status lks_schedule_part_open(const char *type, const char *options,
                                  const lks_schedule_lambda *lambda, lks_schedule_part *out);
void lks_schedule_part_close(lks_schedule_part *part);
/* The state of the beginning. */
void lks_schedule_part_start(const lks_schedule_part *part, double base_lr,
                             lks_schedule_state *out);
void lks_schedule_part_advance(const lks_schedule_part *part, lks_schedule_state *state,
                               const lks_schedule_input *input);
/* What lks_schedule_monitor, _momentum and _is_verbose say. */
int lks_schedule_part_monitor(const lks_schedule_part *part);
double lks_schedule_part_momentum(const lks_schedule_part *part, const lks_schedule_state *state);
bool lks_schedule_part_is_verbose(const lks_schedule_part *part);

extern const lks_schedule_kind lks_schedule_constant;
extern const lks_schedule_kind lks_schedule_step;
extern const lks_schedule_kind lks_schedule_multi_step;
extern const lks_schedule_kind lks_schedule_exponential;
extern const lks_schedule_kind lks_schedule_cosine_annealing;
extern const lks_schedule_kind lks_schedule_cosine_annealing_warm_restarts;
extern const lks_schedule_kind lks_schedule_one_cycle;
extern const lks_schedule_kind lks_schedule_linear;
extern const lks_schedule_kind lks_schedule_polynomial;
extern const lks_schedule_kind lks_schedule_reduce_on_plateau;
extern const lks_schedule_kind lks_schedule_sequential;
extern const lks_schedule_kind lks_schedule_by_lambda;

/* The kind called `type`, or NULL. */
const lks_schedule_kind *lks_schedule_find(const char *type);
/* Names of all kinds for lks_fail_unknown; returns how many of them were written. */
int lks_schedule_names(const char **out, int capacity);

#endif
