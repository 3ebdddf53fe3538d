#include "train/record.h"

#include <stdlib.h>

#include "device/trace.h"

/* Steps that are queued before one is recorded: what an operation plans or allocates when it first
 * meets a batch cannot be recorded. */
enum { WARM_UP_STEPS = 2 };

/* Batches come from different places of the host's memory, and a recording knows but one: each is
 * brought to the same place on the device first, from which the recorded work takes its rows. */
struct lks_step_recorder {
    lks_device *device;
    float *inputs;            /* [rows of this rank, input] */
    void *targets;            /* [rows of this rank, target] */
    int warm_up;              /* whole batches so far, up to WARM_UP_STEPS */
    lks_recording *recording; /* NULL: not yet */
};

/* ---- creation ---- */

static lks_status allocate(lks_trainer *t, lks_step_recorder *recorder) {
    const size_t rows = (size_t)lks_loader_max_rows(t->loader);
    size_t input_bytes, target_bytes;
    if (!lks_size_mul(rows, (size_t)t->input_count * sizeof(float), &input_bytes) ||
        !lks_size_mul(rows, lks_trainer_target_bytes(t), &target_bytes))
        return lks_fail(LKS_ENOMEM, "a batch is more bytes than this machine can address");
    lks_status status =
        lks_device_alloc(t->context->device, input_bytes, (void **)&recorder->inputs);
    if (status == LKS_OK)
        status = lks_device_alloc(t->context->device, target_bytes, &recorder->targets);
    return status;
}

lks_status lks_step_recorder_create(lks_trainer *t, lks_step_recorder **out) {
    lks_device *device = t->context->device;
    const lks_comm *comm = t->context->comm;
    *out = NULL;
    if (!lks_device_can_record(device)) {
        lks_log(&t->context->logger, LKS_LOG_WARNING,
                "cuda_graph: true changes nothing on the device %s", lks_device_kind(device));
        return LKS_OK;
    }
    /* Ranks that are only imagined have no path. */
    if (lks_comm_size(comm) > 1 && !lks_comm_is_on_device(comm) && !lks_device_is_measuring(device))
        return lks_fail(
            LKS_ECONFIG,
            "cuda_graph: true takes one rank, or ranks with a GPU each whose sums go by "
            "NCCL; those of these %d ranks go by %s: set it to false",
            lks_comm_size(comm), lks_comm_device_path(comm));
    lks_step_recorder *recorder = calloc(1, sizeof *recorder);
    if (recorder == NULL) return lks_fail(LKS_ENOMEM, "cuda_graph: out of host memory");
    recorder->device = device;
    lks_status status = allocate(t, recorder);
    if (status != LKS_OK) {
        lks_step_recorder_destroy(recorder);
        return lks_fail_in(status, "cuda_graph");
    }
    *out = recorder;
    return LKS_OK;
}

void lks_step_recorder_reset(lks_step_recorder *recorder) {
    lks_recording_destroy(recorder->recording);
    recorder->recording = NULL;
    recorder->warm_up = 0;
}

void lks_step_recorder_destroy(lks_step_recorder *recorder) {
    if (recorder == NULL) return;
    lks_device_free(recorder->device, recorder->inputs);
    lks_device_free(recorder->device, recorder->targets);
    lks_recording_destroy(recorder->recording);
    free(recorder);
}

/* ---- a step ---- */

static lks_status bring(lks_trainer *t, const lks_host_batch *batch) {
    lks_step_recorder *recorder = t->recorder;
    lks_stream *stream = lks_device_stream(recorder->device, LKS_STREAM_COMPUTE);
    const size_t rows = (size_t)batch->rows;
    lks_status status =
        lks_device_copy(recorder->device, stream, recorder->inputs, batch->inputs,
                        rows * (size_t)t->input_count * sizeof(float), LKS_COPY_TO_DEVICE);
    if (status == LKS_OK)
        status = lks_device_copy(recorder->device, stream, recorder->targets, batch->targets,
                                 rows * lks_trainer_target_bytes(t), LKS_COPY_TO_DEVICE);
    return status == LKS_OK ? lks_event_record(t->copied, stream) : status;
}

/* A recording ends when all of its work has come back to the compute stream, and begins with none
 * elsewhere: so no step leaves parameters that are still being gathered. */
static lks_status queue(lks_trainer *t, const lks_host_batch *batch) {
    return lks_trainer_settle_params(t, lks_trainer_queue_work(t, batch, LKS_COPY_ON_DEVICE));
}

/* The peers' collectives are in their recordings: every rank has one, or none has. */
static lks_status keep_if_all_have(lks_trainer *t) {
    lks_status status = lks_comm_agree(t->context->comm, lks_failure_tell(&t->failure));
    if (status != LKS_OK) lks_step_recorder_reset(t->recorder);
    return status;
}

/* A rank that has failed records nothing. Collective. */
static lks_status record(lks_trainer *t, const lks_host_batch *batch) {
    lks_step_recorder *recorder = t->recorder;
    lks_stream *stream = lks_device_stream(recorder->device, LKS_STREAM_COMPUTE);
    const int64_t before = lks_graph_batches_tracked(t->graph);
    if (lks_trainer_has_failed(t)) return keep_if_all_have(t);
    lks_status status = lks_recording_begin(stream);
    lks_failure_note(&t->failure, status);
    if (status == LKS_OK) {
        lks_failure_note(&t->failure, queue(t, batch));
        lks_failure_note(&t->failure, lks_recording_end(stream, &recorder->recording));
    }
    lks_graph_set_batches_tracked(t->graph, before); /* none has run */
    lks_failure_add_place(&t->failure, "cuda_graph: recording a step");
    return keep_if_all_have(t);
}

/* *queued: also where the rest fails. The event that tells of the decision was recorded with
 * everything else; the host needs one that is not. */
static lks_status replay(lks_trainer *t, bool *queued) {
    lks_stream *stream = lks_device_stream(t->recorder->device, LKS_STREAM_COMPUTE);
    lks_status status = lks_recording_replay(t->recorder->recording, stream);
    *queued = status == LKS_OK;
    lks_failure_note(&t->failure, status);
    if (!*queued) return LKS_OK;
    lks_graph_set_batches_tracked(t->graph, lks_graph_batches_tracked(t->graph) +
                                                lks_trainer_micro_batches(t));
    return lks_failure_strand(&t->failure, lks_comm_size(t->context->comm),
                              lks_event_record(t->decided, stream));
}

/* Is the step one of those that are replayed? The same on every rank, whether it has failed or not.
 * A trace tells of single layers, which a replay does not. */
static bool is_recorded(lks_trainer *t) {
    lks_step_recorder *recorder = t->recorder;
    if (lks_device_is_traced(recorder->device) || lks_trainer_global_rows(t) < t->config.batch_size)
        return false;
    if (recorder->warm_up == WARM_UP_STEPS) return true;
    recorder->warm_up++;
    return false;
}

/* A rank that has failed queues the step with no samples: its collectives are those that the others
 * replay. */
lks_status lks_step_recorder_run(lks_trainer *t, const lks_host_batch *batch) {
    lks_step_recorder *recorder = t->recorder;
    lks_trace_enter(recorder->device, LKS_PHASE_INPUT, LKS_TRACE_NO_LAYER, "input");
    if (!lks_trainer_has_failed(t)) lks_failure_note(&t->failure, bring(t, batch));
    lks_trace_leave(recorder->device);
    lks_host_batch here = *batch;
    here.inputs = recorder->inputs;
    here.targets = recorder->targets;
    bool queued = false;
    lks_status status = LKS_OK;
    if (is_recorded(t)) {
        if (recorder->recording == NULL) status = record(t, &here);
        if (status != LKS_OK) return status;
        if (!lks_trainer_has_failed(t)) status = replay(t, &queued);
    }
    return queued ? status : queue(t, &here);
}
