/* torch.optim.lr_scheduler.CosineAnnealingLR: from the base rate to eta_min in T_max moves along a
 * cosine, and back. */
#include "sched/schedule.h"

static const double PI = 3.14159265358979323846;

typedef struct cosine_config {
    lks_schedule_common common;
    int64_t T_max;
    double eta_min;
} cosine_config;

static const lks_option options[] = {
    {.key = "T_max",
     .type = LKS_OPTION_INT,
     .offset = offsetof(cosine_config, T_max),
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) from the base rate down to eta_min."},
    {.key = "eta_min",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(cosine_config, eta_min),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "The lowest learning rate."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "cosine_annealing",
    .help = "Decays along a cosine (CosineAnnealingLR).",
    .struct_bytes = sizeof(cosine_config),
    .options = options,
};

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const cosine_config *cosine = config;
    double period = (double)cosine->T_max, low = cosine->eta_min;
    /* At the bottom the quotient below would divide by zero. */
    if (fmod(state->moves - 1 - period, 2 * period) == 0) {
        state->lr += (state->base_lr - low) * (1 - cos(PI / period)) / 2;
        return;
    }
    state->lr = (1 + cos(PI * state->moves / period)) /
                    (1 + cos(PI * (state->moves - 1) / period)) * (state->lr - low) +
                low;
}

const lks_schedule_kind lks_schedule_cosine_annealing = {.options = &table, .advance = advance};
