/* The hot loop: one step. Nothing here allocates. */
#include <math.h>

#include "device/trace.h"
#include "train/record.h"
#include "train/same.h"
#include "train/saver.h"

static lks_status begin_epoch(lks_trainer *t) {
    lks_device *device = t->context->device;
    t->epoch_began = t->last_progress = lks_clock_seconds();
    if (t->position.step == 0) {
        t->epoch_lr = lks_rates_lr(t->rates);
        lks_status status = lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE),
                                            t->epoch_sums, LKS_LOSS_SUM_COUNT * sizeof(double));
        if (status != LKS_OK) return status;
    }
    return lks_feed_begin(t->feed, t->position.epoch, t->position.step);
}

lks_status lks_trainer_note(lks_trainer *t, lks_status status) {
    if (status == LKS_ECOMM) return status;
    lks_failure_note(&t->failure, status);
    return LKS_OK;
}

/* Rank 0 looks at the sums at most every progress_seconds, and at the end of the epoch. */
static void report_progress(lks_trainer *t, bool epoch_done) {
    const lks_callbacks *callbacks = &t->config.callbacks;
    double now = lks_clock_seconds();
    if (callbacks->on_step == NULL && t->run_dir == NULL) return;
    if (!epoch_done && now - t->last_progress < t->config.progress_seconds) return;
    t->last_progress = now;

    double sums[LKS_LOSS_SUM_COUNT];
    lks_trainer_note(t, lks_trainer_read_sums(t, t->epoch_sums, LKS_LOSS_SUM_COUNT, sums));
    if (lks_trainer_has_failed(t)) return;
    lks_progress progress = {
        .epoch = t->position.epoch + 1,
        .epochs = t->config.epochs,
        .step = t->position.step,
        .steps = lks_loader_steps(t->loader),
        .lr = lks_rates_lr(t->rates),
        .grad_norm = t->grad_norm,
        .skipped_steps = t->skipped,
        .samples_per_second =
            t->train_seconds > 0 ? (double)lks_trainer_epoch_samples(t) / t->train_seconds : NAN,
    };
    lks_sums_means(sums, &progress.loss, &progress.acc);
    double samples_left = (double)((progress.steps - progress.step) * t->config.batch_size);
    progress.seconds_left = samples_left / progress.samples_per_second;
    if (t->run_dir != NULL) lks_run_dir_progress(t->run_dir, &progress, t->position.global_step);
    if (callbacks->on_step != NULL && callbacks->on_step(callbacks->data, &progress) == LKS_STOP)
        t->callback_stop = true;
}

/* After LKS_ECOMM. Where it is this rank that cannot go on, the others may wait for what it does
 * not do: they are told why. */
static lks_status tell_peers(lks_trainer *t) {
    if (!lks_trainer_has_failed(t)) return LKS_ECOMM;
    (void)lks_failure_tell(&t->failure);
    return lks_comm_give_up(t->context->comm);
}

/* From the loader's samples to the updated parameters. */
static lks_status learn(lks_trainer *t) {
    lks_device *device = t->context->device;
    lks_host_batch batch = {0};
    lks_trace_enter(device, LKS_PHASE_INPUT, LKS_TRACE_NO_LAYER, "input");
    if (!lks_trainer_has_failed(t)) lks_failure_note(&t->failure, lks_feed_take(t->feed, &batch));
    lks_trace_leave(device);

    lks_status status =
        t->recorder != NULL ? lks_step_recorder_run(t, &batch) : lks_trainer_queue_step(t, &batch);
    if (status == LKS_OK) {
        lks_feed_go_on(t->feed);
        status = lks_trainer_conclude(t);
    }
    return status == LKS_ECOMM ? tell_peers(t) : status;
}

static lks_status run_step(lks_trainer *t, bool *epoch_done) {
    if (t->epoch_began == 0) lks_failure_note(&t->failure, begin_epoch(t));

    double began = lks_clock_seconds();
    lks_trace_begin_step(t->context->device);
    lks_status status = learn(t);
    lks_trace_end_step(t->context->device);
    if (status != LKS_OK) return status;

    if (lks_rates_per_step(t->rates)) lks_rates_advance(t->rates, NAN);
    t->position.step++;
    t->position.global_step++;
    lks_guard_step(t->context->guard, t->position.global_step);
    double seconds = lks_clock_seconds() - began;
    t->train_seconds += seconds;
    if (seconds > t->slowest_step) t->slowest_step = seconds;
    *epoch_done = t->position.step >= lks_loader_steps(t->loader);
    if (lks_comm_rank(t->context->comm) == 0 || t->config.callbacks.on_step != NULL)
        report_progress(t, *epoch_done);
    return t->profile != NULL ? lks_profile_step(t) : LKS_OK;
}

lks_status lks_trainer_step(lks_trainer *t, bool *epoch_done) {
    lks_status status = run_step(t, epoch_done);
    int64_t every = t->config.check_sync;
    if (status == LKS_OK && every > 0 && t->position.global_step % every == 0)
        status = lks_trainer_check_sync(t);
    return status;
}

lks_status lks_trainer_settle_params(lks_trainer *t, lks_status before) {
    if (t->exchange == NULL || before == LKS_ECOMM) return before;
    lks_status status = lks_exchange_settle(t->exchange);
    return status == LKS_OK ? before : status;
}

lks_status lks_step(lks_trainer *t, bool *epoch_done) {
    if (t->train_data == NULL)
        return lks_fail(LKS_EINVAL, "lks_step: this trainer has no training data");
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_TRAIN);
    lks_status status = lks_trainer_settle_params(t, lks_trainer_step(t, epoch_done));
    lks_guard_enter(t->context->guard, before);
    return status == LKS_OK ? LKS_OK : lks_saver_after_failure(t, status);
}
