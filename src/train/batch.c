/* From a batch into the graph, and from a step's sums to its means. */
#include <math.h>

#include "train/trainer.h"

/* int32 labels and float32 values have the same size. */
size_t lks_trainer_target_bytes(const lks_trainer *t) {
    const int64_t count = lks_graph_targets_are_classes(t->graph) ? 1 : t->output_count;
    return (size_t)count * sizeof(float);
}

lks_status lks_trainer_load_rows(lks_trainer *t, const lks_host_batch *batch, int64_t first,
                                 lks_batch_info *info) {
    int64_t left = batch->rows - first;
    info->batch = left < 0 ? 0 : left < t->max_rows ? left : t->max_rows;
    info->first_row = batch->first_row + first;
    if (info->batch == 0) return LKS_OK;

    size_t input_bytes = (size_t)(info->batch * t->input_count) * sizeof(float);
    size_t target_bytes = lks_trainer_target_bytes(t);
    const char *targets = (const char *)batch->targets + (size_t)first * target_bytes;
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const lks_copy_kind kind =
        lks_device_holds(device, batch->inputs) ? LKS_COPY_ON_DEVICE : LKS_COPY_TO_DEVICE;
    lks_status status = lks_device_copy(device, stream, lks_graph_input(t->graph),
                                        batch->inputs + first * t->input_count, input_bytes, kind);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, lks_graph_targets(t->graph), targets,
                                 (size_t)info->batch * target_bytes, kind);
    if (status == LKS_OK && kind == LKS_COPY_TO_DEVICE)
        status = lks_event_record(t->copied, stream);
    return status;
}

lks_status lks_trainer_release_batch(lks_trainer *t, lks_loader *loader,
                                     const lks_host_batch *batch) {
    lks_status status = lks_event_synchronize(t->copied);
    lks_loader_release(loader, batch);
    return status;
}

lks_status lks_trainer_read_sums(lks_trainer *t, const double *sums, int count, double *out) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_status status = lks_device_copy(device, stream, out, sums, (size_t)count * sizeof(double),
                                        LKS_COPY_TO_HOST);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

void lks_sums_means(const double *sums, double *out_loss, double *out_acc) {
    *out_loss = sums[LKS_SUM_WEIGHT] > 0 ? sums[LKS_SUM_LOSS] / sums[LKS_SUM_WEIGHT] : NAN;
    *out_acc = sums[LKS_SUM_COUNTED] > 0 ? sums[LKS_SUM_CORRECT] / sums[LKS_SUM_COUNTED] : NAN;
}
