/* The learning rate that the optimizer was given, always. */
#include "sched/schedule.h"

static const lks_option options[] = {
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "constant",
    .help = "Keeps the optimizer's learning rate.",
    .struct_bytes = sizeof(lks_schedule_common),
    .options = options,
};

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)config, (void)state, (void)input;
}

const lks_schedule_kind lks_schedule_constant = {.options = &table, .advance = advance};
