/* Why training stops before its end: a callback's wish, a request from outside, a time limit. Every
 * rank brings its own reasons, and a reduction that is made anyway tells all of them. */
#include "train/saver.h"
#include "train/trainer.h"

void lks_trainer_request_stop(lks_trainer *t) {
    atomic_store(&t->stop_requested, true);
}

/* Does what is left of the time just suffice to finish the step under way and to save? A background
 * save may have to end before the last one begins, and a file system has slower hours: twice what
 * was measured so far, and never less than 5 % of the limit up to a minute, since nothing may have
 * been measured yet. */
static bool is_time_up(const lks_trainer *t) {
    double limit = t->config.time_limit;
    double least = 0.05 * limit < 60 ? 0.05 * limit : 60;
    double room = 2 * (t->slowest_step + lks_saver_slowest(t));
    double spent = lks_clock_seconds() - t->context->created;
    return limit > 0 && spent + (room > least ? room : least) >= limit;
}

static bool is_stop_requested(const lks_trainer *t) {
    const lks_callbacks *callbacks = &t->config.callbacks;
    return atomic_load(&t->stop_requested) ||
           (callbacks->stop_requested != NULL && callbacks->stop_requested(callbacks->data));
}

void lks_trainer_add_halt(const lks_trainer *t, double *out) {
    out[LKS_HALT_CALLBACK] = t->callback_stop ? 1 : 0;
    out[LKS_HALT_REQUEST] = is_stop_requested(t) ? 1 : 0;
    out[LKS_HALT_TIME_LIMIT] = lks_comm_rank(t->context->comm) == 0 && is_time_up(t) ? 1 : 0;
}

void lks_trainer_agree_halt(lks_trainer *t, const double *sums) {
    static const lks_fit_end ends[LKS_HALT_COUNT] = {
        [LKS_HALT_CALLBACK] = LKS_END_CALLBACK,
        [LKS_HALT_TIME_LIMIT] = LKS_END_TIME_LIMIT,
        [LKS_HALT_REQUEST] = LKS_END_REQUEST,
    };
    for (int h = 0; h < LKS_HALT_COUNT; h++)
        if (sums[h] > 0) t->halt = ends[h];
}

bool lks_is_interruption(lks_fit_end end) {
    return end == LKS_END_REQUEST || end == LKS_END_TIME_LIMIT;
}

lks_status lks_trainer_tell_halt(lks_trainer *t) {
    static const char *const reasons[] = {
        [LKS_END_CALLBACK] = "by a callback",
        [LKS_END_REQUEST] = "on request",
        [LKS_END_TIME_LIMIT] = "before time_limit is over",
    };
    t->end = t->halt;
    t->halt = LKS_END_EPOCHS;
    t->callback_stop = false;
    atomic_store(&t->stop_requested, false);
    return lks_fail(LKS_ESTOPPED, "stopped %s after %lld epochs and %lld steps", reasons[t->end],
                    (long long)t->position.epoch, (long long)t->position.step);
}
