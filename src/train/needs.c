/* What a run takes of memory, for those who ask before it starts. */
#include "train/state.h"

/* This rank's part of a checkpoint: what a copy of all of it takes. */
static lks_status get_checkpoint_bytes(lks_trainer *t, int64_t *out) {
    lks_snapshot snapshot = {0};
    lks_status status = lks_snapshot_open(t, true, &snapshot);
    *out = snapshot.copy_capacity * (int64_t)sizeof(float);
    lks_snapshot_close(t, &snapshot, false);
    return status;
}

/* Host memory that the device has not been asked for. */
static int64_t other_host_bytes(const lks_trainer *t) {
    int64_t bytes = 0;
    if (t->best_params != NULL)
        bytes += (t->params.trained_count + lks_graph_buffers_flat_count(t->graph)) *
                 (int64_t)sizeof(float);
    if (t->train_data != NULL) bytes += lks_dataset_memory_bytes(t->train_data);
    if (t->validation_data != NULL) bytes += lks_dataset_memory_bytes(t->validation_data);
    return bytes;
}

lks_status lks_trainer_get_needs(lks_trainer *t, lks_trainer_needs *out) {
    lks_device *device = t->context->device;
    const int64_t asked = (int64_t)lks_device_measured_host_bytes(device);
    lks_trainer_device_bytes(t, out->kinds);
    out->device = (int64_t)lks_device_allocated_bytes(device);
    lks_status status = get_checkpoint_bytes(t, &out->checkpoint);
    out->host = asked + other_host_bytes(t);
    out->sums = t->exchange != NULL ? (int64_t)lks_exchange_sum_bytes(t->exchange) : 0;
    bool copied = t->checkpoint_settings.async || !lks_device_is_host(device);
    out->copy = copied ? out->checkpoint : 0;
    return status;
}
