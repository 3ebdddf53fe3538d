/* A step's work on the device: queued from its inputs to the updated parameters, without a look at
 * what comes of it. */
#include <string.h>

#include "device/trace.h"
#include "train/saver.h"
#include "train/trainer.h"

static lks_stream *compute_stream(const lks_trainer *t) {
    return lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
}

/* ---- what the device is told before a step ---- */

/* The rates of rank 0 hold for all; wrong ones end the step before anything is updated. */
static lks_status add_rates(lks_trainer *t, double *sums) {
    lks_rates_now(t->rates, t->group_rates);
    for (int g = 0; g < lks_rates_group_count(t->rates); g++) {
        sums[LKS_STEP_RATES + 2 * g] = t->group_rates[g].lr;
        sums[LKS_STEP_RATES + 2 * g + 1] = t->group_rates[g].momentum;
    }
    return lks_optimizer_check_rates(t->optimizer, t->group_rates);
}

/* What this rank adds to the step's sums beside the loss: whether it should stop, how far a
 * background save is, and what rank 0 decides. */
static lks_status add_decisions(lks_trainer *t, double *sums) {
    memset(sums + LKS_LOSS_SUM_COUNT, 0,
           (size_t)(t->step_sum_count - LKS_LOSS_SUM_COUNT) * sizeof *sums);
    lks_trainer_add_halt(t, sums + LKS_STEP_HALT);
    const bool ready = lks_saver_is_ready(t);
    sums[LKS_STEP_READY] = ready ? 1 : 0;
    sums[LKS_STEP_FAILED_SAVE] = ready && lks_saver_has_failed(t) ? 1 : 0;
    if (lks_comm_rank(t->context->comm) != 0) return LKS_OK;
    sums[LKS_STEP_SAVE] = lks_saver_wants(t) ? 1 : 0;
    return add_rates(t, sums);
}

/* The block's image is free to be written: the last step's verdict has been read from it. */
lks_status lks_trainer_send_step(lks_trainer *t) {
    double *from = t->step_sums_host + LKS_LOSS_SUM_COUNT;
    lks_failure_note(&t->failure, add_decisions(t, t->step_sums_host));
    *t->counters_host = (lks_step_counters){.step = t->position.global_step,
                                            .batches_tracked = lks_graph_batches_tracked(t->graph),
                                            .updates = lks_optimizer_steps(t->optimizer)};
    t->norm_parts_host[0] = 0;
    t->norm_parts_host[1] = lks_trainer_has_failed(t) ? 1 : 0;
    return lks_device_copy(t->context->device, compute_stream(t), t->step_sums + LKS_LOSS_SUM_COUNT,
                           from, (size_t)((char *)(t->norm_parts_host + 2) - (char *)from),
                           LKS_COPY_TO_DEVICE);
}

/* ---- forward, loss and backward ---- */

int64_t lks_trainer_global_rows(const lks_trainer *t) {
    int64_t begin, end;
    lks_sampler_batch(lks_dataset_count(t->train_data), t->config.batch_size, t->position.step,
                      &begin, &end);
    return end - begin;
}

int64_t lks_trainer_micro_batches(const lks_trainer *t) {
    int64_t begin, end; /* of rank 0's part, a largest one */
    lks_split(lks_trainer_global_rows(t), 0, lks_comm_size(t->context->comm), &begin, &end);
    return (end - begin - 1) / t->max_rows + 1;
}

/* Rows [first, ...) of the batch through forward and the loss. A rank that has failed takes part
 * with no samples: the others must not wait for it in vain. */
static lks_status run_forward(lks_trainer *t, const lks_host_batch *batch, int64_t first,
                              lks_batch_info *info) {
    lks_device *device = t->context->device;
    lks_trace_enter(device, LKS_PHASE_INPUT, LKS_TRACE_NO_LAYER, "input");
    if (!lks_trainer_has_failed(t))
        lks_failure_note(&t->failure, lks_trainer_load_rows(t, batch, first, info));
    lks_trace_leave(device);
    if (lks_trainer_has_failed(t)) info->batch = 0;
    lks_trace_enter(device, LKS_PHASE_FORWARD, LKS_TRACE_NO_LAYER, "forward");
    lks_status status = lks_trainer_note(t, lks_graph_forward(t->graph, info));
    if (status == LKS_OK && !lks_trainer_has_failed(t))
        status = lks_trainer_note(t, lks_graph_loss(t->graph, info, t->step_sums));
    lks_trace_leave(device);
    if (lks_trainer_has_failed(t)) info->batch = 0;
    return status;
}

/* Every micro-batch. The step's sums are complete with the last loss; they are summed over the
 * ranks while its backward runs. */
static lks_status queue_gradients(lks_trainer *t, const lks_host_batch *batch) {
    lks_device *device = t->context->device;
    lks_status status = lks_trainer_note(t, lks_device_zero(device, compute_stream(t), t->step_sums,
                                                            LKS_LOSS_SUM_COUNT * sizeof(double)));
    int64_t count = lks_trainer_micro_batches(t);
    for (int64_t i = 0; i < count && status == LKS_OK; i++) {
        lks_batch_info info = {.training = true, .counters = t->counters, .micro_batch = i};
        bool last = i == count - 1;
        status = run_forward(t, batch, i * t->max_rows, &info);
        lks_comm_set_label(t->context->comm, "backward, sums of the step", -1);
        if (status == LKS_OK && last)
            status = lks_comm_all_reduce_start(t->context->comm, t->step_sums, t->step_sum_count,
                                               LKS_F64, LKS_REDUCE_SUM, &t->sums_request);
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

/* ---- the update ---- */

/* The device decides by the norm, and the host is told while the updates run. */
static lks_status queue_decision(lks_trainer *t) {
    const lks_gradient_settings *settings = &t->gradient_settings;
    const lks_decision decision = {
        .norm_kind = (lks_norm_kind)settings->norm_type,
        .clip_norm = settings->clip_norm,
        .parts = t->norm_parts,
        .sums = t->step_sums,
        .totals = t->epoch_sums,
        .counters = t->counters,
    };
    lks_device *device = t->context->device;
    lks_stream *stream = compute_stream(t);
    lks_status status = lks_device_decide(device, stream, &decision, t->control);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, t->step_sums_host, t->step_sums,
                                 t->step_block_bytes, LKS_COPY_TO_HOST);
    if (status == LKS_OK) status = lks_event_record(t->decided, stream);
    return lks_failure_strand(&t->failure, lks_comm_size(t->context->comm), status);
}

static lks_status queue_update(lks_trainer *t) {
    lks_request *request = t->sums_request;
    t->sums_request = NULL;
    lks_status status = lks_comm_wait(t->context->comm, request);
    if (status == LKS_OK)
        status = lks_exchange_reduce(t->exchange, (lks_norm_kind)t->gradient_settings.norm_type,
                                     t->norm_parts);
    if (status == LKS_OK) status = queue_decision(t);
    if (status != LKS_OK) return status;
    const lks_grad_scale scale = {
        .divisor = t->step_sums + LKS_SUM_WEIGHT,
        .clip_value = t->gradient_settings.clip_value,
        .control = t->control,
        .rates = t->step_sums + LKS_STEP_RATES,
    };
    status = lks_failure_strand(&t->failure, lks_comm_size(t->context->comm), lks_saver_hold(t));
    return status == LKS_OK ? lks_exchange_update(t->exchange, &scale) : status;
}

lks_status lks_trainer_queue_work(lks_trainer *t, const lks_host_batch *batch) {
    lks_status status = queue_gradients(t, batch);
    lks_trace_enter(t->context->device, LKS_PHASE_OPTIMIZER, LKS_TRACE_NO_LAYER, "optimizer");
    if (status == LKS_OK) status = queue_update(t);
    lks_trace_leave(t->context->device);
    return status;
}

lks_status lks_trainer_queue_step(lks_trainer *t, const lks_host_batch *batch) {
    lks_failure_note(&t->failure, lks_trainer_send_step(t));
    return lks_trainer_queue_work(t, batch);
}
