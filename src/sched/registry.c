#include <string.h>

#include "sched/schedule.h"

const char *const lks_schedule_intervals[] = {"epoch", "step", NULL};

static const lks_schedule_kind *const kinds[] = {
    &lks_schedule_constant,         &lks_schedule_step,
    &lks_schedule_multi_step,       &lks_schedule_exponential,
    &lks_schedule_cosine_annealing, &lks_schedule_cosine_annealing_warm_restarts,
    &lks_schedule_one_cycle,        &lks_schedule_linear,
    &lks_schedule_polynomial,       &lks_schedule_reduce_on_plateau,
    &lks_schedule_sequential,       &lks_schedule_by_lambda,
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

const lks_schedule_kind *lks_schedule_find(const char *type) {
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kinds[i]->options->name, type) == 0) return kinds[i];
    }
    return NULL;
}

int lks_schedule_names(const char **out, int capacity) {
    int count = 0;
    while (count < KIND_COUNT && count < capacity) {
        out[count] = kinds[count]->options->name;
        count++;
    }
    return count;
}

const lks_option_table *lks_schedule_options(const char *type) {
    const lks_schedule_kind *kind = type ? lks_schedule_find(type) : NULL;
    return kind ? kind->options : NULL;
}

const char *lks_schedule_type(int index) {
    return index >= 0 && index < KIND_COUNT ? kinds[index]->options->name : NULL;
}
