/* torch.optim.lr_scheduler.OneCycleLR, its learning rate: up from max_lr / div_factor to max_lr,
 * then down to a fraction of where it began. The optimizer's own rate plays no part. */
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
    .help = "One rise and fall of the learning rate (OneCycleLR without momentum cycling).",
    .struct_bytes = sizeof(one_cycle_config),
    .options = options,
};

typedef struct phase {
    double end; /* the move with which it ends */
    double from, to;
} phase;

/* Fills phases[3] and returns how many there are. */
static int make_phases(const one_cycle_config *cycle, phase *phases) {
    double total = (double)cycle->total_steps;
    double first = cycle->max_lr / cycle->div_factor;
    double last = first / cycle->final_div_factor;
    phases[0] = (phase){cycle->pct_start * total - 1, first, cycle->max_lr};
    if (!cycle->three_phase) {
        phases[1] = (phase){total - 1, cycle->max_lr, last};
        return 2;
    }
    phases[1] = (phase){2 * cycle->pct_start * total - 2, cycle->max_lr, first};
    phases[2] = (phase){total - 1, first, last};
    return 3;
}

static double anneal(const one_cycle_config *cycle, const phase *p, double part) {
    if (cycle->anneal_strategy == ANNEAL_LINEAR) return (p->to - p->from) * part + p->from;
    return p->to + (p->from - p->to) / 2.0 * (cos(PI * part) + 1);
}

static void set_lr(const void *config, lks_schedule_state *state) {
    const one_cycle_config *cycle = config;
    phase phases[3];
    int count = make_phases(cycle, phases);
    double move = state->moves;
    if (move > phases[count - 1].end) move = phases[count - 1].end;
    double begin = 0;
    for (int i = 0; i < count; i++) {
        const phase *p = &phases[i];
        if (move <= p->end || i == count - 1) {
            /* A phase without length is over at once. */
            double part = p->end != begin ? (move - begin) / (p->end - begin) : 1;
            state->lr = anneal(cycle, p, part);
            return;
        }
        begin = p->end;
    }
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    set_lr(config, state);
}

const lks_schedule_kind lks_schedule_one_cycle = {
    .options = &table, .start = set_lr, .advance = advance};
