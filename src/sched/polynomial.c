/* torch.optim.lr_scheduler.PolynomialLR: lr = base_lr (1 - t / total_iters)^power, then 0. */
#include "sched/schedule.h"

typedef struct polynomial_config {
    lks_schedule_common common;
    int64_t total_iters;
    double power;
} polynomial_config;

static const lks_option options[] = {
    {.key = "total_iters",
     .type = LKS_OPTION_INT,
     .offset = offsetof(polynomial_config, total_iters),
     .text = "5",
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) until the rate is 0."},
    {.key = "power",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(polynomial_config, power),
     .text = "1",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "Power of the polynomial."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "polynomial",
    .help = "Decays to 0 along a polynomial (PolynomialLR).",
    .struct_bytes = sizeof(polynomial_config),
    .options = options,
};

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const polynomial_config *polynomial = config;
    double total = (double)polynomial->total_iters;
    if (state->moves > total) return;
    double ratio = (1.0 - state->moves / total) / (1.0 - (state->moves - 1) / total);
    state->lr *= pow(ratio, polynomial->power);
}

const lks_schedule_kind lks_schedule_polynomial = {.options = &table, .advance = advance};
