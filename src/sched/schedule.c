#include "sched/schedule.h"

#include <stdlib.h>
#include <string.h>

struct lks_schedule {
    const lks_schedule_kind *kind;
    void *config;
    lks_schedule_state state;
};

enum { FIXED_STATE = 3, NAME_MAX_COUNT = 32 };

/* LKS_ECONFIG that names the nearest known type. */
static lks_status fail_unknown(const char *type) {
    const char *names[NAME_MAX_COUNT];
    int count = lks_schedule_names(names, NAME_MAX_COUNT);
    const char *nearest = lks_nearest_name(type, names, (size_t)count);
    if (nearest)
        return lks_fail(LKS_ECONFIG, "unknown schedule '%s': did you mean '%s'?", type, nearest);
    lks_strbuf list = {0};
    for (int i = 0; i < count; i++)
        lks_strbuf_add(&list, "%s%s", i ? ", " : "", names[i]);
    lks_status status = lks_fail(LKS_ECONFIG, "unknown schedule '%s': expected one of %s", type,
                                 list.failed ? "the known ones" : list.text);
    lks_strbuf_free(&list);
    return status;
}

static lks_status configure(lks_schedule *schedule, const char *type, const char *options) {
    schedule->kind = lks_schedule_find(type);
    if (!schedule->kind) return fail_unknown(type);
    const lks_option_table *table = schedule->kind->options;
    char what[64];
    snprintf(what, sizeof what, "schedule (%s)", type);

    void *config = calloc(1, table->struct_bytes);
    if (!config) return lks_fail(LKS_ENOMEM, "%s: out of memory", what);
    lks_status status = lks_options_parse(table, config, options, what);
    if (status) {
        free(config); /* the parser has freed what is inside */
        return status;
    }
    schedule->config = config;
    if (schedule->kind->check) {
        status = schedule->kind->check(config);
        if (status) return lks_fail_in(status, "%s", what);
    }
    return LKS_OK;
}

lks_status lks_schedule_create(const lks_spec *spec, double base_lr, lks_schedule **out) {
    *out = NULL;
    const char *type = spec && spec->type ? spec->type : "constant";
    const char *options = spec ? spec->options : NULL;
    if (!(base_lr >= 0) || isinf(base_lr)) {
        return lks_fail(LKS_EINVAL, "schedule (%s): base learning rate %g: expected a number >= 0",
                        type, base_lr);
    }
    lks_schedule *schedule = calloc(1, sizeof *schedule);
    if (!schedule) return lks_fail(LKS_ENOMEM, "schedule (%s): out of memory", type);

    lks_status status = configure(schedule, type, options);
    if (status) {
        if (spec && spec->where) status = lks_fail_in(status, "%s", spec->where);
        lks_schedule_destroy(schedule);
        return status;
    }
    schedule->state = (lks_schedule_state){.base_lr = base_lr, .lr = base_lr};
    if (schedule->kind->start) schedule->kind->start(schedule->config, &schedule->state);
    *out = schedule;
    return LKS_OK;
}

void lks_schedule_destroy(lks_schedule *schedule) {
    if (!schedule) return;
    if (schedule->config) lks_options_free(schedule->kind->options, schedule->config);
    free(schedule->config);
    free(schedule);
}

const char *lks_schedule_name(const lks_schedule *schedule) {
    return schedule->kind->options->name;
}

double lks_schedule_lr(const lks_schedule *schedule) {
    return schedule->state.lr;
}

void lks_schedule_advance(lks_schedule *schedule, const lks_schedule_input *input) {
    schedule->state.moves += 1;
    schedule->kind->advance(schedule->config, &schedule->state, input);
}

bool lks_schedule_per_step(const lks_schedule *schedule) {
    return ((const lks_schedule_common *)schedule->config)->interval == 1;
}

int lks_schedule_monitor(const lks_schedule *schedule) {
    return schedule->kind->monitor ? schedule->kind->monitor(schedule->config) : -1;
}

int lks_schedule_get_state(const lks_schedule *schedule, double *out) {
    const lks_schedule_state *state = &schedule->state;
    int extra_count = schedule->kind->extra_count;
    out[0] = state->moves;
    out[1] = state->base_lr;
    out[2] = state->lr;
    memcpy(out + FIXED_STATE, state->extra, (size_t)extra_count * sizeof *out);
    return FIXED_STATE + extra_count;
}

lks_status lks_schedule_set_state(lks_schedule *schedule, const double *state, int count) {
    int extra_count = schedule->kind->extra_count;
    const char *name = lks_schedule_name(schedule);
    if (count != FIXED_STATE + extra_count) {
        return lks_fail(LKS_ECHECKPOINT, "state of schedule %s: %d numbers, expected %d", name,
                        count, FIXED_STATE + extra_count);
    }
    if (!isfinite(state[0]) || state[0] < 0 || state[0] != floor(state[0]) || !isfinite(state[1]) ||
        !isfinite(state[2])) {
        return lks_fail(LKS_ECHECKPOINT,
                        "state of schedule %s: %g moves, base rate %g, rate %g: expected a whole "
                        "number and two finite rates",
                        name, state[0], state[1], state[2]);
    }
    schedule->state.moves = state[0];
    schedule->state.base_lr = state[1];
    schedule->state.lr = state[2];
    memcpy(schedule->state.extra, state + FIXED_STATE, (size_t)extra_count * sizeof *state);
    return LKS_OK;
}
