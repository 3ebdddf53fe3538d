/* The learning rates of a run: one schedule for each group of parameters, all of one type. */
#ifndef LKS_TRAIN_RATES_H
#define LKS_TRAIN_RATES_H

#include "optim/optim.h"
#include "sched/sched.h"

typedef struct lks_rates lks_rates;

/* A schedule of `spec` for every group of the optimizer, from its base rates. lambda: of the
 * caller's own schedule, may have no function. LKS_ECONFIG, also where the schedule cycles a
 * momentum that the optimizer does not have; LKS_ENOMEM. */
lks_status lks_rates_create(const lks_spec *spec, const lks_schedule_lambda *lambda,
                            const lks_optimizer *optimizer, lks_rates **out);
void lks_rates_destroy(lks_rates *rates);

int lks_rates_group_count(const lks_rates *rates);
const char *lks_rates_name(const lks_rates *rates);
/* What is in force now, into out[group_count]. */
void lks_rates_now(const lks_rates *rates, lks_group_rates *out);
/* The learning rate of the first group, for displays. */
double lks_rates_lr(const lks_rates *rates);
/* As lks_schedule_advance, lks_schedule_per_step, lks_schedule_monitor, lks_schedule_is_verbose. */
void lks_rates_advance(lks_rates *rates, double metric);
bool lks_rates_per_step(const lks_rates *rates);
int lks_rates_monitor(const lks_rates *rates);
bool lks_rates_is_verbose(const lks_rates *rates);

/* The schedules' states one after the other, as many numbers as lks_rates_state_count says. */
int lks_rates_state_count(const lks_rates *rates);
void lks_rates_get_state(const lks_rates *rates, double *out);
lks_status lks_rates_set_state(lks_rates *rates, const double *state, int count);

#endif
