/* What comes of a step, and what happens to one that is not finite. */
#include <inttypes.h>
#include <math.h>

#include "train/saver.h"
#include "train/trainer.h"

/* ---- a step that is not finite ---- */

/* Does this rank's part of a parameter's gradient hold a number that is not finite? */
static lks_status is_nonfinite(lks_trainer *t, const lks_param *param, lks_range *ranges,
                               bool *out) {
    int count =
        lks_shard_plan_overlap(t->plan, LKS_SHARD_OWNED, param->offset, param->count, ranges);
    double largest;
    lks_status status = lks_exchange_norm(t->exchange, LKS_NORM_INF, ranges, count, &largest);
    *out = status == LKS_OK && !isfinite(largest);
    return status;
}

/* The first parameter, in the order of the layers, whose gradient is not finite on any rank; NULL
 * where only the loss is not. Collective. */
static lks_status find_culprit(lks_trainer *t, const lks_param **out) {
    int count = lks_graph_param_count(t->graph);
    lks_range *ranges = lks_exchange_ranges(t->exchange);
    lks_status status = LKS_OK;
    int64_t first = count;
    for (int i = 0; i < first && status == LKS_OK; i++) {
        bool nonfinite;
        status = is_nonfinite(t, lks_graph_param(t->graph, i), ranges, &nonfinite);
        if (nonfinite) first = i;
    }
    lks_comm *comm = t->context->comm;
    status = lks_comm_agree(comm, status);
    int64_t least = -first; /* the smallest index is the largest of its negatives */
    if (status == LKS_OK) status = lks_comm_all_reduce(comm, &least, 1, LKS_I64, LKS_REDUCE_MAX);
    *out = status == LKS_OK && -least < count ? lks_graph_param(t->graph, (int)-least) : NULL;
    return status;
}

/* The same on every rank: all have the same sums and the same norm. */
static lks_status handle_nonfinite(lks_trainer *t, double loss, double lr) {
    const lks_gradient_settings *settings = &t->gradient_settings;
    const lks_param *culprit;
    lks_status status = find_culprit(t, &culprit);
    if (status != LKS_OK) return status;

    char what[256];
    snprintf(what, sizeof what,
             "the %s is not a finite number%s%s in step %" PRId64 " (epoch %" PRId64 ", lr %g)",
             isfinite(loss) ? "gradient" : "loss",
             culprit != NULL ? ", first seen in the gradient of " : "",
             culprit != NULL ? culprit->name : "", t->position.global_step + 1,
             t->position.epoch + 1, lr);
    if (settings->on_nonfinite == LKS_NONFINITE_ERROR)
        return lks_fail(LKS_ENUMERIC,
                        "%s: lower the learning rate, clip the gradients, or look at the data",
                        what);
    t->skipped++;
    if (++t->skipped_in_row > settings->max_skipped)
        return lks_fail(LKS_ENUMERIC, "%s, and %" PRId64 " steps before it: given up", what,
                        settings->max_skipped);
    lks_log(&t->context->logger, LKS_LOG_WARNING,
            "%s: the step is skipped (%" PRId64 " in a row, %" PRId64 " in all)", what,
            t->skipped_in_row, t->skipped);
    return LKS_OK;
}

/* ---- the verdict ---- */

lks_status lks_trainer_conclude(lks_trainer *t) {
    lks_comm *comm = t->context->comm;
    lks_status status =
        lks_failure_strand(&t->failure, lks_comm_size(comm), lks_event_synchronize(t->decided));
    if (status != LKS_OK) return status;
    const lks_update_control *control = t->control_host;
    const double *sums = t->step_sums_host;
    if (control->failed) return lks_comm_agree(comm, lks_failure_tell(&t->failure));
    t->grad_norm = control->norm;
    lks_trainer_agree_halt(t, sums + LKS_STEP_HALT);
    lks_saver_agreed(t, sums[LKS_STEP_SAVE] > 0, sums[LKS_STEP_READY] == lks_comm_size(comm),
                     sums[LKS_STEP_FAILED_SAVE] == 0);
    if (control->skip) return handle_nonfinite(t, sums[LKS_SUM_LOSS], sums[LKS_STEP_RATES]);
    t->skipped_in_row = 0;
    lks_optimizer_set_steps(t->optimizer, control->step);
    return LKS_OK;
}
