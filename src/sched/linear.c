/* torch.optim.lr_scheduler.LinearLR: from start_factor to end_factor times the rate, in a straight
 * line. */
#include "sched/schedule.h"

typedef struct linear_config {
    lks_schedule_common common;
    double start_factor, end_factor;
    int64_t total_iters;
} linear_config;

static const lks_option options[] = {
    {.key = "start_factor",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(linear_config, start_factor),
     .text = "0.3333333333333333",
     .high = 1,
     .low_open = true,
     .help = "Factor at the beginning."},
    {.key = "end_factor",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(linear_config, end_factor),
     .text = "1",
     .high = 1,
     .help = "Factor from total_iters on."},
    {.key = "total_iters",
     .type = LKS_OPTION_INT,
     .offset = offsetof(linear_config, total_iters),
     .text = "5",
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) from start_factor to end_factor."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "linear",
    .help = "Warms up or decays in a straight line (LinearLR).",
    .struct_bytes = sizeof(linear_config),
    .options = options,
};

static void start(const void *config, lks_schedule_state *state) {
    state->lr *= ((const linear_config *)config)->start_factor;
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const linear_config *linear = config;
    double total = (double)linear->total_iters;
    if (state->moves > total) return;
    double slope = linear->end_factor - linear->start_factor;
    state->lr *= 1.0 + slope / (total * linear->start_factor + (state->moves - 1) * slope);
}

const lks_schedule_kind lks_schedule_linear = {
    .options = &table, .start = start, .advance = advance};
