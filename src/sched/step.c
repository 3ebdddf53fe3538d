/* torch.optim.lr_scheduler.StepLR: lr *= gamma after every step_size moves. */
#include "sched/schedule.h"

typedef struct step_config {
    lks_schedule_common common;
    int64_t step_size;
    double gamma;
} step_config;

static const lks_option options[] = {
    {.key = "step_size",
     .type = LKS_OPTION_INT,
     .offset = offsetof(step_config, step_size),
     .low = 1,
     .high = INFINITY,
     .high_open = true,
     .help = "Epochs (or steps) between two decays."},
    {.key = "gamma",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(step_config, gamma),
     .text = "0.1",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "Factor of each decay."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "step",
    .help = "Multiplies the learning rate by gamma every step_size epochs (StepLR).",
    .struct_bytes = sizeof(step_config),
    .options = options,
};

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const step_config *step = config;
    if ((int64_t)state->moves % step->step_size == 0) state->lr *= step->gamma;
}

const lks_schedule_kind lks_schedule_step = {.options = &table, .advance = advance};
