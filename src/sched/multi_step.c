/* torch.optim.lr_scheduler.MultiStepLR: lr *= gamma at every milestone. */
#include "sched/schedule.h"

typedef struct multi_step_config {
    lks_schedule_common common;
    lks_int_list milestones;
    double gamma;
} multi_step_config;

static const lks_option options[] = {
    {.key = "milestones",
     .type = LKS_OPTION_INT_LIST,
     .offset = offsetof(multi_step_config, milestones),
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) after which the rate decays, in ascending order; one that stands "
             "twice decays twice."},
    {.key = "gamma",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(multi_step_config, gamma),
     .text = "0.1",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "Factor of each decay."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "multi_step",
    .help = "Multiplies the learning rate by gamma at each milestone (MultiStepLR).",
    .struct_bytes = sizeof(multi_step_config),
    .options = options,
};

static lks_status prepare(void *config) {
    const lks_int_list *milestones = &((multi_step_config *)config)->milestones;
    for (int i = 1; i < milestones->count; i++) {
        if (milestones->values[i] < milestones->values[i - 1]) {
            return lks_fail(LKS_ECONFIG,
                            "milestones: %lld stands after %lld: expected ascending order",
                            (long long)milestones->values[i], (long long)milestones->values[i - 1]);
        }
    }
    return LKS_OK;
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    const multi_step_config *multi = config;
    int hits = 0;
    for (int i = 0; i < multi->milestones.count; i++)
        hits += (double)multi->milestones.values[i] == state->moves;
    if (hits > 0) state->lr *= pow(multi->gamma, hits);
}

const lks_schedule_kind lks_schedule_multi_step = {
    .options = &table, .prepare = prepare, .advance = advance};
