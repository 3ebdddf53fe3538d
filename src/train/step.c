/* The hot loop: one step. Nothing here allocates. */
#include <math.h>
#include <string.h>

#include "device/trace.h"
#include "train/saver.h"
#include "train/trainer.h"

static lks_status begin_epoch(lks_trainer *t) {
    lks_device *device = t->context->device;
    t->epoch_began = t->last_progress = lks_clock_seconds();
    if (t->position.step == 0) {
        t->epoch_lr = lks_rates_lr(t->rates);
        lks_status status = lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE),
                                            t->epoch_sums, LKS_LOSS_SUM_COUNT * sizeof(double));
        if (status != LKS_OK) return status;
    }
    return lks_loader_begin(t->loader, t->position.epoch, t->position.step);
}

static bool has_failed(const lks_trainer *t) {
    return t->failure.status != LKS_OK;
}

lks_status lks_trainer_note(lks_trainer *t, lks_status status) {
    if (status == LKS_ECOMM) return status;
    lks_failure_note(&t->failure, status);
    return LKS_OK;
}

/* What this rank adds to the step's sums beside the loss: whether it should stop, how far a
 * background save is, and what rank 0 decides. */
static lks_status add_decisions(lks_trainer *t) {
    double *mine = t->step_sums_host + LKS_LOSS_SUM_COUNT;
    size_t bytes = (size_t)(t->step_sum_count - LKS_LOSS_SUM_COUNT) * sizeof *mine;
    memset(mine, 0, bytes);
    lks_trainer_add_halt(t, t->step_sums_host + LKS_STEP_HALT);
    t->step_sums_host[LKS_STEP_READY] = lks_saver_is_ready(t) ? 1 : 0;
    if (lks_comm_rank(t->context->comm) == 0) {
        t->step_sums_host[LKS_STEP_SAVE] = lks_saver_wants(t) ? 1 : 0;
        lks_rates_now(t->rates, t->group_rates);
        for (int g = 0; g < lks_rates_group_count(t->rates); g++) {
            t->step_sums_host[LKS_STEP_RATES + 2 * g] = t->group_rates[g].lr;
            t->step_sums_host[LKS_STEP_RATES + 2 * g + 1] = t->group_rates[g].momentum;
        }
    }
    lks_device *device = t->context->device;
    return lks_device_copy(device, lks_device_stream(device, LKS_STREAM_COMPUTE),
                           t->step_sums + LKS_LOSS_SUM_COUNT, mine, bytes, LKS_COPY_TO_DEVICE);
}

/* Samples of the present step over all ranks. Known without the loader, so also to a rank that has
 * failed. */
static int64_t global_rows(const lks_trainer *t) {
    int64_t begin, end;
    lks_sampler_batch(lks_dataset_count(t->train_data), t->config.batch_size, t->position.step,
                      &begin, &end);
    return end - begin;
}

/* How many micro-batches this step takes: as many on every rank, since batch norm may sum over the
 * ranks in each. */
static int64_t micro_batches(const lks_trainer *t) {
    int64_t begin, end; /* of rank 0's part, a largest one */
    lks_split(global_rows(t), 0, lks_comm_size(t->context->comm), &begin, &end);
    return (end - begin - 1) / t->max_rows + 1;
}

/* The step's sums are complete with the last loss; they are summed over the ranks while its
 * backward runs. */
static lks_status start_sums(lks_trainer *t) {
    lks_status status = lks_trainer_note(t, add_decisions(t));
    if (status == LKS_OK)
        status = lks_comm_all_reduce_start(t->context->comm, t->step_sums, t->step_sum_count,
                                           LKS_F64, LKS_REDUCE_SUM, &t->sums_request);
    return status;
}

/* Rows [first, ...) of the batch through forward and the loss. A rank that has failed takes part
 * with no samples: the others must not wait for it in vain. */
static lks_status run_forward(lks_trainer *t, const lks_host_batch *batch, int64_t first,
                              lks_batch_info *info) {
    lks_device *device = t->context->device;
    lks_trace_enter(device, LKS_PHASE_INPUT, LKS_TRACE_NO_LAYER, "input");
    if (!has_failed(t)) lks_failure_note(&t->failure, lks_trainer_load_rows(t, batch, first, info));
    lks_trace_leave(device);
    if (has_failed(t)) info->batch = 0;
    lks_trace_enter(device, LKS_PHASE_FORWARD, LKS_TRACE_NO_LAYER, "forward");
    lks_status status = lks_trainer_note(t, lks_graph_forward(t->graph, info));
    if (status == LKS_OK && !has_failed(t))
        status = lks_trainer_note(t, lks_graph_loss(t->graph, info, t->step_sums));
    lks_trace_leave(device);
    if (has_failed(t)) info->batch = 0;
    return status;
}

/* Forward, loss and backward of every micro-batch. */
static lks_status compute(lks_trainer *t, const lks_host_batch *batch) {
    lks_device *device = t->context->device;
    lks_status status = lks_trainer_note(
        t, lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), t->step_sums,
                           (size_t)t->step_sum_count * sizeof(double)));
    int64_t count = micro_batches(t);
    for (int64_t i = 0; i < count && status == LKS_OK; i++) {
        lks_batch_info info = {.step = t->position.global_step, .training = true};
        bool last = i == count - 1;
        status = run_forward(t, batch, i * t->max_rows, &info);
        if (status == LKS_OK && last) status = start_sums(t);
        if (status == LKS_OK)
            status = lks_exchange_begin(t->exchange, i == 0, last, &info.accumulate);
        lks_trace_enter(device, LKS_PHASE_BACKWARD, LKS_TRACE_NO_LAYER, "backward");
        if (status == LKS_OK)
            status = lks_trainer_note(
                t, lks_graph_backward(t->graph, &info, lks_exchange_grads_ready, t->exchange));
        lks_trace_leave(device);
    }
    return status;
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
    if (has_failed(t)) return;
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

/* From the loader's samples to the updated parameters. */
static lks_status learn(lks_trainer *t) {
    lks_device *device = t->context->device;
    lks_host_batch batch = {0};
    lks_trace_enter(device, LKS_PHASE_INPUT, LKS_TRACE_NO_LAYER, "input");
    if (!has_failed(t)) lks_failure_note(&t->failure, lks_loader_next(t->loader, &batch));
    lks_trace_leave(device);
    bool holds_batch = !has_failed(t);

    lks_status status = compute(t, &batch);
    if (holds_batch) lks_trainer_note(t, lks_trainer_release_batch(t, t->loader, &batch));
    lks_trace_enter(device, LKS_PHASE_OPTIMIZER, LKS_TRACE_NO_LAYER, "optimizer");
    if (status == LKS_OK) status = lks_trainer_update(t);
    lks_trace_leave(device);
    return status;
}

static lks_status run_step(lks_trainer *t, bool *epoch_done) {
    if (t->epoch_began == 0) lks_failure_note(&t->failure, begin_epoch(t));

    double began = lks_clock_seconds();
    lks_trace_begin_step(t->context->device);
    lks_status status = learn(t);
    lks_trace_end_step(t->context->device);
    if (status == LKS_OK && t->profile != NULL) status = lks_profile_step(t);
    if (status != LKS_OK) return status;

    if (lks_rates_per_step(t->rates)) lks_rates_advance(t->rates, NAN);
    t->position.step++;
    t->position.global_step++;
    double seconds = lks_clock_seconds() - began;
    t->train_seconds += seconds;
    if (seconds > t->slowest_step) t->slowest_step = seconds;
    *epoch_done = t->position.step >= lks_loader_steps(t->loader);
    if (lks_comm_rank(t->context->comm) == 0 || t->config.callbacks.on_step != NULL)
        report_progress(t, *epoch_done);
    return LKS_OK;
}

lks_status lks_step(lks_trainer *t, bool *epoch_done) {
    if (t->train_data == NULL)
        return lks_fail(LKS_EINVAL, "lks_step: this trainer has no training data");
    lks_status status = run_step(t, epoch_done);
    return status == LKS_OK ? LKS_OK : lks_saver_after_failure(t, status);
}
