#include "train/record.h"

#include <inttypes.h>
#include <stdlib.h>

#include "device/trace.h"
#include "train/saver.h"

/* Steps that are queued before one is recorded: what an operation plans or allocates when it first
 * meets a batch cannot be recorded. */
enum { WARM_UP_STEPS = 2 };

struct lks_step_recorder {
    lks_device *device;
    int warm_up;              /* whole batches so far, up to WARM_UP_STEPS */
    lks_recording *recording; /* NULL: not yet */
    int64_t collectives;      /* in it */
};

/* ---- creation ---- */

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
    lks_recording_destroy(recorder->recording);
    free(recorder);
}

/* ---- a step ---- */

static lks_stream *compute_stream(const lks_step_recorder *recorder) {
    return lks_device_stream(recorder->device, LKS_STREAM_COMPUTE);
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
    lks_stream *stream = compute_stream(recorder);
    const int64_t before = lks_graph_batches_tracked(t->graph);
    const int64_t recorded = lks_comm_recorded(t->context->comm);
    if (lks_trainer_has_failed(t)) return keep_if_all_have(t);
    lks_status status = lks_recording_begin(stream);
    lks_failure_note(&t->failure, status);
    if (status == LKS_OK) {
        lks_failure_note(&t->failure,
                         lks_trainer_settle_params(t, lks_trainer_queue_work(t, batch)));
        lks_failure_note(&t->failure, lks_recording_end(stream, &recorder->recording));
    }
    recorder->collectives = lks_comm_recorded(t->context->comm) - recorded;
    lks_graph_set_batches_tracked(t->graph, before); /* none has run */
    lks_failure_add_place(&t->failure, "cuda_graph: recording a step");
    return keep_if_all_have(t);
}

/* A rank that has failed replays what it did last, and has sent word of its failure: NCCL promises
 * that recorded collectives meet recorded ones, and no others. A rank that cannot even do this
 * keeps the others waiting. The event that tells of the decision was recorded with everything else;
 * the host needs one that is not. */
static lks_status replay(lks_trainer *t) {
    lks_step_recorder *recorder = t->recorder;
    lks_comm *comm = t->context->comm;
    lks_stream *stream = compute_stream(recorder);
    lks_status status = lks_trainer_send_step(t);
    if (status == LKS_OK) status = lks_recording_replay(recorder->recording, stream);
    if (status == LKS_OK) status = lks_event_record(t->decided, stream);
    if (status != LKS_OK) {
        status =
            lks_fail_in(status, "cuda_graph: replaying step %" PRId64, t->position.global_step + 1);
        return lks_failure_strand(&t->failure, lks_comm_size(comm), status);
    }
    lks_comm_replayed(comm, recorder->collectives);
    lks_graph_set_batches_tracked(t->graph, lks_graph_batches_tracked(t->graph) +
                                                lks_trainer_micro_batches(t));
    return LKS_OK;
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

/* A recording ends when all of its work has come back to the compute stream, and begins with none
 * elsewhere: so no step leaves parameters that are still being gathered. */
lks_status lks_step_recorder_run(lks_trainer *t, const lks_host_batch *batch) {
    if (!is_recorded(t)) return lks_trainer_settle_params(t, lks_trainer_queue_step(t, batch));
    /* what is recorded begins behind it, too */
    lks_status status =
        lks_failure_strand(&t->failure, lks_comm_size(t->context->comm), lks_saver_hold(t));
    if (status == LKS_OK && t->recorder->recording == NULL) status = record(t, batch);
    return status == LKS_OK ? replay(t) : status;
}
