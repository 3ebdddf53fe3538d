/* Epochs: steps, validation, and the decisions that rank 0 takes for all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/saver.h"
#include "train/trainer.h"

/* What rank 0 decides at the end of an epoch, broadcast as bytes (all ranks run the same program).
 */
typedef struct decision {
    lks_epoch_result result;
    lks_early_stopping stopping;
    double best_value;
    int64_t best_epoch;
} decision;

double lks_monitored(const lks_epoch_result *result, int monitor) {
    const char *name = lks_monitor_names[monitor];
    bool validated = !isnan(result->val_loss);
    if (strcmp(name, "val_loss") == 0) return validated ? result->val_loss : result->train_loss;
    if (strcmp(name, "val_acc") == 0) return validated ? result->val_acc : result->train_acc;
    return strcmp(name, "train_loss") == 0 ? result->train_loss : result->train_acc;
}

bool lks_is_better(double value, double best, bool minimize) {
    if (isnan(value)) return false;
    return isnan(best) || (minimize ? value < best : value > best);
}

double lks_trainer_epoch_seconds(const lks_trainer *t) {
    return t->epoch_seconds + (t->epoch_began == 0 ? 0 : lks_clock_seconds() - t->epoch_began);
}

int64_t lks_trainer_epoch_samples(const lks_trainer *t) {
    int64_t begin, end;
    lks_sampler_batch(lks_dataset_count(t->train_data), t->config.batch_size, t->position.step,
                      &begin, &end);
    return begin;
}

/* Rank 0 alone: moves schedule, early stopping and best on by one epoch. */
static void decide(lks_trainer *t, decision *out) {
    lks_epoch_result *result = &out->result;
    int monitor = t->checkpoint_settings.monitor;
    double value = lks_monitored(result, monitor);
    result->is_best =
        lks_is_better(value, t->best_value, lks_monitor_minimizes(lks_monitor_names[monitor]));
    out->best_value = result->is_best ? value : t->best_value;
    out->best_epoch = result->is_best ? result->epoch : t->best_epoch;

    out->stopping = t->stopping;
    if (t->stopping_config.enabled)
        lks_early_stopping_update(&t->stopping_config, &out->stopping, result->epoch,
                                  lks_monitored(result, t->stopping_config.monitor));
    if (!lks_rates_per_step(t->rates)) {
        int watched = lks_rates_monitor(t->rates);
        double before = lks_rates_lr(t->rates);
        lks_rates_advance(t->rates, watched < 0 ? NAN : lks_monitored(result, watched));
        if (lks_rates_is_verbose(t->rates) && lks_rates_lr(t->rates) < before)
            lks_log(&t->context->logger, LKS_LOG_INFO, "epoch %lld: learning rate reduced to %g",
                    (long long)result->epoch, lks_rates_lr(t->rates));
    }
    lks_rates_get_state(t->rates, t->rates_state);
}

/* Whatever the ranks computed themselves, rank 0's numbers hold on all of them. */
static lks_status share_decision(lks_trainer *t, decision *shared) {
    lks_comm *comm = t->context->comm;
    if (lks_comm_rank(comm) == 0) decide(t, shared);
    lks_status status = lks_comm_broadcast(comm, shared, sizeof(*shared), 0);
    if (status != LKS_OK) return status;
    t->stopping = shared->stopping;
    t->best_value = shared->best_value;
    t->best_epoch = shared->best_epoch;
    int count = lks_rates_state_count(t->rates);
    status = lks_comm_broadcast(comm, t->rates_state, count * (int64_t)sizeof *t->rates_state, 0);
    return status ? status : lks_rates_set_state(t->rates, t->rates_state, count);
}

static lks_status remember(lks_trainer *t, const lks_epoch_result *result) {
    if (t->history_count == t->history_capacity) {
        int64_t capacity = t->history_capacity == 0 ? 64 : 2 * t->history_capacity;
        lks_epoch_result *grown = realloc(t->history, (size_t)capacity * sizeof(*grown));
        if (grown != NULL) t->history = grown;
        bool *lost = realloc(t->epoch_lost, (size_t)capacity * sizeof(*lost));
        if (lost != NULL) t->epoch_lost = lost;
        if (grown == NULL || lost == NULL)
            return lks_fail(LKS_ENOMEM, "the history of %lld epochs: out of host memory",
                            (long long)capacity);
        t->history_capacity = capacity;
    }
    t->epoch_lost[t->history_count] = false;
    t->history[t->history_count++] = *result;
    return LKS_OK;
}

/* Ranks whose batch norm does not synchronise have running statistics of their own; rank 0's count,
 * as in DistributedDataParallel. */
static lks_status share_buffers(lks_trainer *t) {
    int64_t count = lks_graph_buffers_flat_count(t->graph);
    if (count == 0 || lks_comm_size(t->context->comm) == 1) return LKS_OK;
    return lks_comm_broadcast(t->context->comm, lks_graph_buffers(t->graph),
                              count * (int64_t)sizeof(float), 0);
}

/* Host copies of the best epoch's model, for restore_best; out of the device or back to it. */
static lks_status copy_best(lks_trainer *t, bool back) {
    lks_status status = lks_saver_hold(t);
    if (status != LKS_OK) return status;
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    size_t params_bytes = (size_t)t->params.trained_count * sizeof(float);
    size_t buffers_bytes = (size_t)lks_graph_buffers_flat_count(t->graph) * sizeof(float);
    lks_copy_kind kind = back ? LKS_COPY_TO_DEVICE : LKS_COPY_TO_HOST;
    float *params = t->params.masters, *buffers = lks_graph_buffers(t->graph);
    status = lks_device_copy(device, stream, back ? params : t->best_params,
                             back ? t->best_params : params, params_bytes, kind);
    if (status == LKS_OK && buffers_bytes > 0)
        status = lks_device_copy(device, stream, back ? buffers : t->best_buffers,
                                 back ? t->best_buffers : buffers, buffers_bytes, kind);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

/* Callbacks may answer differently: one rank's stop stops all. */
static lks_status call_on_epoch(lks_trainer *t, const lks_epoch_result *result) {
    const lks_callbacks *callbacks = &t->config.callbacks;
    int64_t stop = t->callback_stop;
    if (callbacks->on_epoch != NULL && callbacks->on_epoch(callbacks->data, result) == LKS_STOP)
        stop = 1;
    lks_status status = lks_comm_all_reduce(t->context->comm, &stop, 1, LKS_I64, LKS_REDUCE_MAX);
    if (stop != 0) t->halt = LKS_END_CALLBACK;
    return status;
}

static lks_status finish_epoch(lks_trainer *t, lks_epoch_result *out) {
    double sums[LKS_LOSS_SUM_COUNT];
    lks_status status = lks_trainer_settle_params(t, LKS_OK);
    if (status != LKS_OK) return status;
    lks_trainer_note(t, lks_trainer_read_sums(t, t->epoch_sums, LKS_LOSS_SUM_COUNT, sums));
    status = lks_comm_agree(t->context->comm, lks_failure_tell(&t->failure));
    if (status != LKS_OK) return status;
    decision shared = {
        .result = {.epoch = t->position.epoch + 1,
                   .val_loss = NAN,
                   .val_acc = NAN,
                   .lr = t->epoch_lr,
                   .samples_per_second = (double)lks_trainer_epoch_samples(t) / t->train_seconds}};
    lks_sums_means(sums, &shared.result.train_loss, &shared.result.train_acc);
    lks_log(&t->context->logger, LKS_LOG_DEBUG,
            "epoch %lld: %.3f s of training, %.3f s of them waiting for data",
            (long long)shared.result.epoch, t->train_seconds, lks_loader_wait_seconds(t->loader));

    status = share_buffers(t);
    if (status == LKS_OK && t->validation_loader != NULL)
        status = lks_trainer_evaluate(t, t->validation_loader, true, &shared.result.val_loss,
                                      &shared.result.val_acc);
    if (status == LKS_OK && lks_is_interruption(t->halt)) return lks_trainer_tell_halt(t);
    shared.result.seconds = lks_trainer_epoch_seconds(t);
    if (status == LKS_OK) status = share_decision(t, &shared);
    if (status != LKS_OK) return status;

    t->position.epoch++;
    t->position.step = 0;
    t->epoch_began = t->epoch_seconds = t->train_seconds = 0;
    if (t->best_params != NULL && t->stopping.best_epoch == shared.result.epoch)
        status = copy_best(t, false);
    if (status == LKS_OK) status = remember(t, &shared.result);
    status = lks_comm_agree(t->context->comm, status);
    if (status == LKS_OK && t->run_dir != NULL)
        lks_run_dir_epoch(t->run_dir, &shared.result, t->config.epochs, t->position.global_step);
    *out = shared.result;
    return status;
}

/* After a step: a callback's stop leaves an epoch whole that has all its steps, an interruption
 * does not wait for its validation. */
static bool stops_here(const lks_trainer *t, bool epoch_done) {
    return lks_is_interruption(t->halt) || (t->halt == LKS_END_CALLBACK && !epoch_done);
}

static lks_status run_epoch(lks_trainer *t, lks_epoch_result *out) {
    bool epoch_done = t->position.step >= lks_loader_steps(t->loader);
    /* a run that was interrupted between its last step and its end */
    if (epoch_done && t->epoch_began == 0) t->epoch_began = lks_clock_seconds();
    while (!epoch_done) {
        lks_status status = lks_trainer_step(t, &epoch_done);
        if (status == LKS_OK && !epoch_done) status = lks_saver_after_step(t);
        if (status != LKS_OK) return status;
        if (!stops_here(t, epoch_done)) continue;
        status = lks_comm_agree(t->context->comm, lks_failure_tell(&t->failure));
        return status == LKS_OK ? lks_trainer_tell_halt(t) : status;
    }
    lks_status status = finish_epoch(t, out);
    if (status == LKS_OK) status = call_on_epoch(t, out);
    if (status == LKS_OK) status = lks_saver_after_epoch(t, out);
    return status == LKS_OK && t->halt != LKS_END_EPOCHS ? lks_trainer_tell_halt(t) : status;
}

lks_status lks_epoch(lks_trainer *t, lks_epoch_result *out) {
    lks_epoch_result unused;
    if (t->loader == NULL)
        return lks_fail(LKS_EINVAL, "lks_epoch: this trainer has no training data");
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_TRAIN);
    lks_status status = lks_trainer_settle_params(t, run_epoch(t, out == NULL ? &unused : out));
    lks_guard_enter(t->context->guard, before);
    return status == LKS_OK || status == LKS_ESTOPPED ? status : lks_saver_after_failure(t, status);
}

static lks_status restore_best(lks_trainer *t) {
    lks_status status = lks_comm_agree(t->context->comm, copy_best(t, true));
    if (status != LKS_OK || !lks_param_store_has_masters(&t->params)) return status;
    return lks_param_store_share(&t->params, t->context->comm);
}

/* Training has ended as it should. */
static lks_status end_run(lks_trainer *t) {
    lks_status status = LKS_OK;
    bool complete = t->end == LKS_END_EPOCHS || t->end == LKS_END_EARLY_STOPPING;
    if (t->profile != NULL) status = lks_profile_finish(t);
    if (status == LKS_OK && t->best_params != NULL && complete && t->stopping.best_epoch > 0)
        status = restore_best(t);
    return status == LKS_OK ? lks_saver_after_run(t) : status;
}

lks_status lks_fit(lks_trainer *t) {
    lks_status status = LKS_OK;
    t->end = LKS_END_EPOCHS; /* unless lks_epoch says another reason */
    while (t->position.epoch < t->config.epochs && status == LKS_OK && !t->stopping.stopped)
        status = lks_epoch(t, NULL);
    if (status != LKS_OK && status != LKS_ESTOPPED) return status;
    if (t->stopping.stopped) t->end = LKS_END_EARLY_STOPPING;
    return end_run(t);
}
