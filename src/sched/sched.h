/* Learning-rate schedules and early stopping: arithmetic on small structs. No MPI, no device; rank
 * 0 computes, train broadcasts. */
#ifndef LKS_SCHED_H
#define LKS_SCHED_H

#include "base/base.h"

typedef struct lks_schedule lks_schedule;

/* What a schedule may look at when it moves on by one epoch (or step). */
typedef struct lks_schedule_input {
    double metric; /* reduce_on_plateau's; NAN where there is none */
} lks_schedule_input;

/* A caller's own schedule, torch's LambdaLR: the rate of epoch (or step) `epoch`, from 0, is the
 * base rate times function(data, epoch). It must depend on nothing else, so that a restored run
 * goes on alike. */
typedef struct lks_schedule_lambda {
    double (*function)(void *data, int64_t epoch);
    void *data;
} lks_schedule_lambda;

/* spec: torch.optim.lr_scheduler's names and options ("step", "step_size=10 gamma=0.5"); NULL or
 * type "constant" keeps base_lr. One schedule serves one parameter group; base_lr is the group's.
 * LKS_ECONFIG. */
lks_status lks_schedule_create(const lks_spec *spec, double base_lr, lks_schedule **out);
/* The same where the type "lambda" may stand, too: for itself or in a sequence. lambda may be NULL.
 */
lks_status lks_schedule_create_lambda(const lks_spec *spec, double base_lr,
                                      const lks_schedule_lambda *lambda, lks_schedule **out);
void lks_schedule_destroy(lks_schedule *schedule);

const char *lks_schedule_name(const lks_schedule *schedule);
/* The learning rate in force now; before the first advance: that of epoch (step) 0. */
double lks_schedule_lr(const lks_schedule *schedule);
/* The momentum (or Adam's beta1) in force now, where the schedule cycles it (one_cycle); NAN where
 * it does not, and the optimizer's own stays. */
double lks_schedule_momentum(const lks_schedule *schedule);
/* What PyTorch's scheduler.step() does: moves on by one. */
void lks_schedule_advance(lks_schedule *schedule, const lks_schedule_input *input);
/* true: advance after every optimizer step; false: after every epoch. (option `interval: epoch |
 * step` of every schedule) */
bool lks_schedule_per_step(const lks_schedule *schedule);
/* The index into lks_monitor_names of what it wants as its input's metric (reduce_on_plateau); -1:
 * nothing. */
int lks_schedule_monitor(const lks_schedule *schedule);
/* Shall the run say when the rate is reduced? (reduce_on_plateau's option `verbose`) */
bool lks_schedule_is_verbose(const lks_schedule *schedule);

/* The whole state as numbers, for a checkpoint and a broadcast: restoring it continues exactly. */
enum { LKS_SCHEDULE_STATE_MAX = 64 };
int lks_schedule_get_state(const lks_schedule *schedule,
                           double *out); /* writes count numbers, returns count */
lks_status lks_schedule_set_state(lks_schedule *schedule, const double *state, int count);

const lks_option_table *lks_schedule_options(const char *type);
const char *lks_schedule_type(int index);

/* ---- early stopping ---- */

typedef enum lks_stop_mode { LKS_STOP_MIN, LKS_STOP_MAX } lks_stop_mode;

typedef struct lks_early_stopping_config {
    bool enabled; /* whether the section stands in the run file */
    int monitor;  /* index into lks_monitor_names */
    int mode;     /* 0 auto (min for losses, max for accuracies), 1 min, 2 max */
    double min_delta;
    int64_t patience;  /* epochs without improvement before stopping */
    bool restore_best; /* end with the best epoch's parameters */
} lks_early_stopping_config;

extern const char
    *const lks_monitor_names[]; /* "val_loss", "val_acc", "train_loss", "train_acc", NULL */
extern const lks_option_table lks_early_stopping_options;

/* Plain data: copy, broadcast and save it as it is. */
typedef struct lks_early_stopping {
    double best;
    int64_t bad_epochs;
    int64_t best_epoch; /* -1 before the first */
    bool stopped;
} lks_early_stopping;

lks_early_stopping lks_early_stopping_start(const lks_early_stopping_config *config);
/* Takes one epoch's value; returns true when training should stop. NaN counts as no improvement. */
bool lks_early_stopping_update(const lks_early_stopping_config *config, lks_early_stopping *state,
                               int64_t epoch, double value);
/* Is lower better for this monitor? */
bool lks_monitor_minimizes(const char *monitor);

#endif
