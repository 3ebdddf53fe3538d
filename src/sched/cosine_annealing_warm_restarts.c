/* torch.optim.lr_scheduler.CosineAnnealingWarmRestarts: a cosine from the base rate to eta_min that
 * starts again, each time T_mult times as long. */
#include "sched/schedule.h"

static const double PI = 3.14159265358979323846;

typedef struct restarts_config {
    lks_schedule_common common;
    int64_t T_0, T_mult;
    double eta_min;
} restarts_config;

enum { T_CUR, T_I, EXTRA_COUNT }; /* state.extra: moves since the restart, moves between restarts */

static const lks_option options[] = {
    {.key = "T_0",
     .type = LKS_OPTION_INT,
     .offset = offsetof(restarts_config, T_0),
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) until the first restart."},
    {.key = "T_mult",
     .type = LKS_OPTION_INT,
     .offset = offsetof(restarts_config, T_mult),
     .text = "1",
     .low = 1,
     .high = INFINITY,
     .help = "How many times as long each cycle is as the one before."},
    {.key = "eta_min",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(restarts_config, eta_min),
     .text = "0",
     .high = INFINITY,
     .high_open = true,
     .help = "The lowest learning rate."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "cosine_annealing_warm_restarts",
    .help = "Cosine decay that starts again (CosineAnnealingWarmRestarts).",
    .struct_bytes = sizeof(restarts_config),
    .options = options,
};

static void set_lr(const restarts_config *restarts, lks_schedule_state *state) {
    state->lr = restarts->eta_min + (state->base_lr - restarts->eta_min) *
                                        (1 + cos(PI * state->extra[T_CUR] / state->extra[T_I])) / 2;
}

static void start(const void *config, lks_schedule_state *state) {
    state->extra[T_I] = (double)((const restarts_config *)config)->T_0;
    set_lr(config, state);
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const restarts_config *restarts = config;
    state->extra[T_CUR] += 1;
    if (state->extra[T_CUR] >= state->extra[T_I]) {
        state->extra[T_CUR] -= state->extra[T_I];
        state->extra[T_I] *= (double)restarts->T_mult;
    }
    set_lr(restarts, state);
}

const lks_schedule_kind lks_schedule_cosine_annealing_warm_restarts = {
    .options = &table, .extra_count = EXTRA_COUNT, .start = start, .advance = advance};
