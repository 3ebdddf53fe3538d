#include "sched/schedule.h"

#include <stdlib.h>
#include <string.h>

struct lks_schedule {
    lks_schedule_part part;
    lks_schedule_state state;
};

enum { FIXED_STATE = LKS_SCHEDULE_STATE_MAX - LKS_SCHEDULE_EXTRA_MAX, NAME_MAX_COUNT = 32 };

static lks_status fail_unknown(const char *type) {
    const char *names[NAME_MAX_COUNT];
    int count = lks_schedule_names(names, NAME_MAX_COUNT);
    return lks_fail_unknown("schedule", type, names, (size_t)count);
}

/* ---- parts ---- */

lks_status lks_schedule_part_open(const char *type, const char *options,
                                  const lks_schedule_lambda *lambda, lks_schedule_part *out) {
    *out = (lks_schedule_part){.kind = lks_schedule_find(type)};
    if (!out->kind) return fail_unknown(type);
    const lks_option_table *table = out->kind->options;
    char what[64];
    snprintf(what, sizeof what, "schedule (%s)", type);

    void *config = calloc(1, table->struct_bytes);
    if (!config) return lks_fail(LKS_ENOMEM, "%s: out of memory", what);
    lks_status status = lks_options_parse(table, config, options, what);
    if (status) {
        free(config); /* the parser has freed what is inside */
        return status;
    }
    out->config = config;
    if (lambda) ((lks_schedule_common *)config)->lambda = *lambda;
    if (out->kind->prepare) status = out->kind->prepare(config);
    return status ? lks_fail_in(status, "%s", what) : LKS_OK;
}

void lks_schedule_part_close(lks_schedule_part *part) {
    if (part->config) {
        if (part->kind->release) part->kind->release(part->config);
        lks_options_free(part->kind->options, part->config);
    }
    free(part->config);
    *part = (lks_schedule_part){0};
}

void lks_schedule_part_start(const lks_schedule_part *part, double base_lr,
                             lks_schedule_state *out) {
    *out = (lks_schedule_state){.base_lr = base_lr, .lr = base_lr};
    if (part->kind->start) part->kind->start(part->config, out);
}

void lks_schedule_part_advance(const lks_schedule_part *part, lks_schedule_state *state,
                               const lks_schedule_input *input) {
    state->moves += 1;
    part->kind->advance(part->config, state, input);
}

int lks_schedule_part_monitor(const lks_schedule_part *part) {
    return part->kind->monitor ? part->kind->monitor(part->config) : -1;
}

double lks_schedule_part_momentum(const lks_schedule_part *part, const lks_schedule_state *state) {
    return part->kind->momentum ? part->kind->momentum(part->config, state) : NAN;
}

bool lks_schedule_part_is_verbose(const lks_schedule_part *part) {
    return part->kind->verbose && part->kind->verbose(part->config);
}

/* ---- schedules ---- */

lks_status lks_schedule_create(const lks_spec *spec, double base_lr, lks_schedule **out) {
    return lks_schedule_create_lambda(spec, base_lr, NULL, out);
}

lks_status lks_schedule_create_lambda(const lks_spec *spec, double base_lr,
                                      const lks_schedule_lambda *lambda, lks_schedule **out) {
    *out = NULL;
    const char *type = spec && spec->type ? spec->type : "constant";
    if (!(base_lr >= 0) || isinf(base_lr)) {
        return lks_fail(LKS_EINVAL, "schedule (%s): base learning rate %g: expected a number >= 0",
                        type, base_lr);
    }
    lks_schedule *schedule = calloc(1, sizeof *schedule);
    if (!schedule) return lks_fail(LKS_ENOMEM, "schedule (%s): out of memory", type);

    lks_status status =
        lks_schedule_part_open(type, spec ? spec->options : NULL, lambda, &schedule->part);
    if (status) {
        if (spec && spec->where) status = lks_fail_in(status, "%s", spec->where);
        lks_schedule_destroy(schedule);
        return status;
    }
    lks_schedule_part_start(&schedule->part, base_lr, &schedule->state);
    *out = schedule;
    return LKS_OK;
}

void lks_schedule_destroy(lks_schedule *schedule) {
    if (!schedule) return;
    lks_schedule_part_close(&schedule->part);
    free(schedule);
}

const char *lks_schedule_name(const lks_schedule *schedule) {
    return schedule->part.kind->options->name;
}

double lks_schedule_lr(const lks_schedule *schedule) {
    return schedule->state.lr;
}

double lks_schedule_momentum(const lks_schedule *schedule) {
    return lks_schedule_part_momentum(&schedule->part, &schedule->state);
}

void lks_schedule_advance(lks_schedule *schedule, const lks_schedule_input *input) {
    lks_schedule_part_advance(&schedule->part, &schedule->state, input);
}

bool lks_schedule_per_step(const lks_schedule *schedule) {
    return ((const lks_schedule_common *)schedule->part.config)->interval ==
           LKS_SCHEDULE_INTERVAL_STEP;
}

int lks_schedule_monitor(const lks_schedule *schedule) {
    return lks_schedule_part_monitor(&schedule->part);
}

bool lks_schedule_is_verbose(const lks_schedule *schedule) {
    return lks_schedule_part_is_verbose(&schedule->part);
}

int lks_schedule_get_state(const lks_schedule *schedule, double *out) {
    const lks_schedule_state *state = &schedule->state;
    int extra_count = schedule->part.kind->extra_count;
    out[0] = state->moves;
    out[1] = state->base_lr;
    out[2] = state->lr;
    memcpy(out + FIXED_STATE, state->extra, (size_t)extra_count * sizeof *out);
    return FIXED_STATE + extra_count;
}

lks_status lks_schedule_set_state(lks_schedule *schedule, const double *state, int count) {
    int extra_count = schedule->part.kind->extra_count;
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
