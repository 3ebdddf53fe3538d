/* torch.optim.lr_scheduler.ExponentialLR: lr *= gamma in every move. */
#include "sched/schedule.h"

typedef struct exponential_config {
    lks_schedule_common common;
    double gamma;
} exponential_config;

static const lks_option options[] = {
    {.key = "gamma",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(exponential_config, gamma),
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "Factor of each epoch (or step)."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "exponential",
    .help = "Multiplies the learning rate by gamma every epoch (ExponentialLR).",
    .struct_bytes = sizeof(exponential_config),
    .options = options,
};

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    state->lr *= ((const exponential_config *)config)->gamma;
}

const lks_schedule_kind lks_schedule_exponential = {.options = &table, .advance = advance};
