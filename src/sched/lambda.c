/* torch.optim.lr_scheduler.LambdaLR: lr = base_lr times a function of the caller's. */
#include "sched/schedule.h"

static const lks_option options[] = {
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "lambda",
    .help = "Multiplies the optimizer's learning rate by a function of the epoch (LambdaLR), which "
            "only a C program can give: lks_train_config.lr_lambda.",
    .struct_bytes = sizeof(lks_schedule_common),
    .options = options,
};

static lks_status prepare(void *config) {
    if (((lks_schedule_common *)config)->lambda.function) return LKS_OK;
    return lks_fail(LKS_ECONFIG, "there is no function: a run file cannot give one, a C program "
                                 "does so in lks_train_config.lr_lambda");
}

static void set_lr(const void *config, lks_schedule_state *state) {
    const lks_schedule_lambda *lambda = &((const lks_schedule_common *)config)->lambda;
    state->lr = state->base_lr * lambda->function(lambda->data, (int64_t)state->moves);
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    (void)input;
    set_lr(config, state);
}

const lks_schedule_kind lks_schedule_by_lambda = {
    .options = &table, .prepare = prepare, .start = set_lr, .advance = advance};
