#include "train/rates.h"

#include <math.h>
#include <stdlib.h>

struct lks_rates {
    int count;
    lks_schedule **schedules; /* [count] */
};

/* Adds the schedule of the next group. */
static lks_status add_group(lks_rates *rates, const lks_spec *spec,
                            const lks_schedule_lambda *lambda, const lks_optimizer *optimizer) {
    int g = rates->count;
    lks_schedule **schedule = &rates->schedules[g];
    lks_status status = lks_schedule_create_lambda(spec, lks_optimizer_base_lr(optimizer, g),
                                                   lambda->function ? lambda : NULL, schedule);
    if (status) return status;
    rates->count++;
    if (isnan(lks_schedule_momentum(*schedule)) || !isnan(lks_optimizer_momentum(optimizer, g)))
        return LKS_OK;
    return lks_fail(LKS_ECONFIG,
                    "%s%sschedule %s cycles the momentum, but the optimizer %s has none here: give "
                    "it one, or set cycle_momentum to false",
                    spec->where ? spec->where : "", spec->where ? ": " : "",
                    lks_schedule_name(*schedule), lks_optimizer_name(optimizer));
}

lks_status lks_rates_create(const lks_spec *spec, const lks_schedule_lambda *lambda,
                            const lks_optimizer *optimizer, lks_rates **out) {
    int count = lks_optimizer_group_count(optimizer);
    lks_rates *rates = calloc(1, sizeof *rates);
    lks_schedule **schedules = calloc((size_t)count, sizeof *schedules);
    if (!rates || !schedules) {
        free(rates);
        free(schedules);
        return lks_fail(LKS_ENOMEM, "the schedules of %d groups: out of host memory", count);
    }
    rates->schedules = schedules;
    lks_status status = LKS_OK;
    for (int g = 0; g < count && !status; g++)
        status = add_group(rates, spec, lambda, optimizer);
    if (status)
        lks_rates_destroy(rates);
    else
        *out = rates;
    return status;
}

void lks_rates_destroy(lks_rates *rates) {
    if (!rates) return;
    for (int g = 0; g < rates->count; g++)
        lks_schedule_destroy(rates->schedules[g]);
    free(rates->schedules);
    free(rates);
}

int lks_rates_group_count(const lks_rates *rates) {
    return rates->count;
}

const char *lks_rates_name(const lks_rates *rates) {
    return lks_schedule_name(rates->schedules[0]);
}

void lks_rates_now(const lks_rates *rates, lks_group_rates *out) {
    for (int g = 0; g < rates->count; g++)
        out[g] = (lks_group_rates){.lr = lks_schedule_lr(rates->schedules[g]),
                                   .momentum = lks_schedule_momentum(rates->schedules[g])};
}

double lks_rates_lr(const lks_rates *rates) {
    return lks_schedule_lr(rates->schedules[0]);
}

void lks_rates_advance(lks_rates *rates, double metric) {
    for (int g = 0; g < rates->count; g++)
        lks_schedule_advance(rates->schedules[g], &(lks_schedule_input){.metric = metric});
}

bool lks_rates_per_step(const lks_rates *rates) {
    return lks_schedule_per_step(rates->schedules[0]);
}

int lks_rates_monitor(const lks_rates *rates) {
    return lks_schedule_monitor(rates->schedules[0]);
}

bool lks_rates_is_verbose(const lks_rates *rates) {
    return lks_schedule_is_verbose(rates->schedules[0]);
}

/* Schedules of one type have states of one length. */
static int state_count_of_one(const lks_rates *rates) {
    double state[LKS_SCHEDULE_STATE_MAX];
    return lks_schedule_get_state(rates->schedules[0], state);
}

int lks_rates_state_count(const lks_rates *rates) {
    return rates->count * state_count_of_one(rates);
}

void lks_rates_get_state(const lks_rates *rates, double *out) {
    for (int g = 0; g < rates->count; g++)
        out += lks_schedule_get_state(rates->schedules[g], out);
}

lks_status lks_rates_set_state(lks_rates *rates, const double *state, int count) {
    if (count != lks_rates_state_count(rates))
        return lks_fail(LKS_ECHECKPOINT, "the schedule's state has %d numbers, expected %d", count,
                        lks_rates_state_count(rates));
    int each = state_count_of_one(rates);
    lks_status status = LKS_OK;
    for (int g = 0; g < rates->count && !status; g++)
        status = lks_schedule_set_state(rates->schedules[g], state + g * each, each);
    return status;
}
