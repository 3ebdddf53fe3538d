/* torch.optim.lr_scheduler.OneCycleLR: the learning rate goes up from max_lr / div_factor to
 * max_lr, then down to a fraction of where it began, and momentum the other way. The optimizer's
 * own rate and momentum play no part. */
#include "sched/schedule.h"

static const double PI = 3.14159265358979323846;

enum { ANNEAL_COS, ANNEAL_LINEAR };
static const char *const anneal_names[] = {"cos", "linear", NULL};

typedef struct one_cycle_config {
    lks_schedule_common common;
    double max_lr;
    int64_t total_steps;
    double pct_start;
    int anneal_strategy;
    bool cycle_momentum;
    double base_momentum, max_momentum;
    double div_factor, final_div_factor;
    bool three_phase;
} one_cycle_config;

static const lks_option options[] = {
    {.key = "max_lr",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, max_lr),
     .high = INFINITY,
     .high_open = true,
     .help = "The highest learning rate."},
    {.key = "total_steps",
     .type = LKS_OPTION_INT,
     .offset = offsetof(one_cycle_config, total_steps),
     .low = 2,
     .high = INFINITY,
     .help = "Epochs (or steps) of the whole cycle; its last rate stays from then on."},
    {.key = "pct_start",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, pct_start),
     .text = "0.3",
     .high = 1,
     .help = "Part of the cycle in which the rate goes up."},
    {.key = "anneal_strategy",
     .type = LKS_OPTION_CHOICE,
     .offset = offsetof(one_cycle_config, anneal_strategy),
     .text = "cos",
     .choices = anneal_names,
     .help = "Along a cosine or a straight line."},
    {.key = "cycle_momentum",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(one_cycle_config, cycle_momentum),
     .text = "true",
     .help = "Momentum (Adam's first beta) goes down while the rate goes up, and up again."},
    {.key = "base_momentum",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, base_momentum),
     .text = "0.85",
     .high = 1,
     .high_open = true,
     .help = "The lowest momentum, at max_lr."},
    {.key = "max_momentum",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, max_momentum),
     .text = "0.95",
     .high = 1,
     .high_open = true,
     .help = "The highest momentum, at the beginning and the end."},
    {.key = "div_factor",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, div_factor),
     .text = "25",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "The cycle begins with max_lr / div_factor."},
    {.key = "final_div_factor",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(one_cycle_config, final_div_factor),
     .text = "1e4",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "The cycle ends with its first rate / final_div_factor."},
    {.key = "three_phase",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(one_cycle_config, three_phase),
     .text = "false",
     .help = "Down to the first rate in as many steps as up, and then on to the last."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "one_cycle",
    .help = "One rise and fall of the learning rate (OneCycleLR).",
    .struct_bytes = sizeof(one_cycle_config),
    .options = options,
};

typedef struct phase {
    double end; /* the move with which it ends */
    double lr_from, lr_to;
    double momentum_from, momentum_to;
} phase;

static double first_lr(const one_cycle_config *cycle) {
    return cycle->max_lr / cycle->div_factor;
}

/* Fills phases[3] and returns how many there are. */
static int make_phases(const one_cycle_config *cycle, phase *phases) {
    double total = (double)cycle->total_steps;
    double first = first_lr(cycle), top = cycle->max_lr, last = first / cycle->final_div_factor;
    double low = cycle->base_momentum, high = cycle->max_momentum;
    phases[0] = (phase){cycle->pct_start * total - 1, first, top, high, low};
    if (!cycle->three_phase) {
        phases[1] = (phase){total - 1, top, last, low, high};
        return 2;
    }
    phases[1] = (phase){2 * cycle->pct_start * total - 2, top, first, low, high};
    phases[2] = (phase){total - 1, first, last, high, high};
    return 3;
}

/* The phase of a move, and which part of it lies behind: 0..1. */
static phase find_phase(const one_cycle_config *cycle, double move, double *out_part) {
    phase phases[3];
    int count = make_phases(cycle, phases), i = 0;
    double begin = 0;
    if (move > phases[count - 1].end) move = phases[count - 1].end;
    while (i < count - 1 && move > phases[i].end)
        begin = phases[i++].end;
    double length = phases[i].end - begin;
    *out_part = length != 0 ? (move - begin) / length : 1; /* one without length is over at once */
    return phases[i];
}

static double anneal(const one_cycle_config *cycle, double from, double to, double part) {
    if (cycle->anneal_strategy == ANNEAL_LINEAR) return (to - from) * part + from;
    return to + (from - to) / 2.0 * (cos(PI * part) + 1);
}

static void set_lr(const one_cycle_config *cycle, lks_schedule_state *state) {
    double part;
    phase p = find_phase(cycle, state->moves, &part);
    state->lr = anneal(cycle, p.lr_from, p.lr_to, part);
}

static void start(const void *config, lks_schedule_state *state) {
    state->base_lr = first_lr(config);
    set_lr(config, state);
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    set_lr(config, state);
}

static double momentum(const void *config, const lks_schedule_state *state) {
    const one_cycle_config *cycle = config;
    double part;
    if (!cycle->cycle_momentum) return NAN;
    phase p = find_phase(cycle, state->moves, &part);
    return anneal(cycle, p.momentum_from, p.momentum_to, part);
}

const lks_schedule_kind lks_schedule_one_cycle = {
    .options = &table, .start = start, .advance = advance, .momentum = momentum};
