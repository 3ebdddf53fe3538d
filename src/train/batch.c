/* From the loader's host memory into the graph. */
#include <math.h>

#include "train/trainer.h"

lks_status lks_trainer_load_batch(lks_trainer *t, lks_loader *loader, lks_batch_info *info,
                                  int64_t *out_global_rows) {
    lks_host_batch batch;
    lks_status status = lks_loader_next(loader, &batch);
    if (status != LKS_OK) return status;

    /* int32 labels and float32 values have the same size */
    size_t input_bytes = (size_t)(batch.rows * t->input_count) * sizeof(float);
    int64_t target_count = lks_graph_targets_are_classes(t->graph) ? 1 : t->output_count;
    size_t target_bytes = (size_t)(batch.rows * target_count) * sizeof(float);
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    status = lks_device_copy(device, stream, lks_graph_input(t->graph), batch.inputs, input_bytes,
                             LKS_COPY_TO_DEVICE);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, lks_graph_targets(t->graph), batch.targets,
                                 target_bytes, LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_event_record(t->copied, stream);
    if (status == LKS_OK) status = lks_event_synchronize(t->copied);
    lks_loader_release(loader, &batch);

    info->batch = batch.rows;
    info->first_row = batch.first_row;
    *out_global_rows = batch.global_rows;
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
