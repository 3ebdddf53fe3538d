/* Validation and prediction. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

/* The next batch's rows through the graph, as many at a time as fit. */
static lks_status evaluate_batch(lks_trainer *t, lks_loader *loader) {
    lks_host_batch batch;
    lks_status status = lks_loader_next(loader, &batch);
    if (status != LKS_OK) return status;
    for (int64_t first = 0; first < batch.rows && status == LKS_OK; first += t->max_rows) {
        lks_batch_info info = {.training = false};
        status = lks_trainer_load_rows(t, &batch, first, &info);
        if (status == LKS_OK) status = lks_graph_forward(t->graph, &info);
        if (status == LKS_OK) status = lks_graph_loss(t->graph, &info, t->step_sums);
    }
    lks_guard_tick(t->context->guard);
    lks_status released = lks_trainer_release_batch(t, loader, &batch);
    return status == LKS_OK ? released : status;
}

/* Whether all ranks go on with the next batch. What they say for one is known with the next, so
 * that none waits for the others; *request and halts[LKS_HALT_COUNT] are what is under way. */
static lks_status agree_on_batch(lks_trainer *t, lks_request **request, double *halts) {
    lks_comm *comm = t->context->comm;
    lks_status status = lks_comm_wait(comm, *request);
    *request = NULL;
    if (status == LKS_OK) lks_trainer_agree_halt(t, halts);
    if (status != LKS_OK || lks_is_interruption(t->halt)) return status;
    lks_trainer_add_halt(t, halts);
    halts[LKS_HALT_CALLBACK] = 0; /* an epoch that has all its steps is brought to its end */
    return lks_comm_all_reduce_start(comm, halts, LKS_HALT_COUNT, LKS_F64, LKS_REDUCE_SUM, request);
}

/* This rank's sums over its part of every batch, or *local, why it has none; where others wait for
 * its word on every batch, it gives it all the same. LKS_ECOMM. */
static lks_status evaluate_part(lks_trainer *t, lks_loader *loader, bool may_halt, double *sums,
                                lks_status *local) {
    lks_device *device = t->context->device;
    double halts[LKS_HALT_COUNT] = {0};
    lks_request *request = NULL;
    lks_status status = LKS_OK;
    *local = lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), t->step_sums,
                             LKS_LOSS_SUM_COUNT * sizeof(double));
    if (*local == LKS_OK) *local = lks_loader_begin(loader, 0, 0);
    for (int64_t step = 0; step < lks_loader_steps(loader); step++) {
        if (may_halt) status = agree_on_batch(t, &request, halts);
        if (status != LKS_OK || (may_halt && lks_is_interruption(t->halt))) break;
        if (*local == LKS_OK) *local = evaluate_batch(t, loader);
    }
    if (status == LKS_OK) status = lks_comm_wait(t->context->comm, request);
    if (*local == LKS_OK) *local = lks_trainer_read_sums(t, t->step_sums, LKS_LOSS_SUM_COUNT, sums);
    return status;
}

lks_status lks_trainer_evaluate(lks_trainer *t, lks_loader *loader, bool may_halt, double *out_loss,
                                double *out_acc) {
    enum { FAILED = LKS_LOSS_SUM_COUNT, COUNT };
    double sums[COUNT] = {0};
    lks_guard *guard = t->context->guard;
    lks_guard_phase before = lks_guard_enter(guard, LKS_GUARD_VALIDATE);
    lks_status local, status = evaluate_part(t, loader, may_halt, sums, &local);
    lks_guard_enter(guard, before);
    if (status != LKS_OK) return status;
    if (local != LKS_OK) memset(sums, 0, sizeof(sums));
    sums[FAILED] = local == LKS_OK ? 0 : 1;

    lks_comm *comm = t->context->comm;
    status = lks_comm_all_reduce(comm, sums, COUNT, LKS_F64, LKS_REDUCE_SUM);
    if (status == LKS_OK && sums[FAILED] > 0) status = lks_comm_agree(comm, local);
    if (status == LKS_OK) lks_sums_means(sums, out_loss, out_acc);
    return status;
}

lks_status lks_validate(lks_trainer *t, lks_dataset *dataset, double *loss, double *acc) {
    double unused[2];
    loss = loss == NULL ? &unused[0] : loss;
    acc = acc == NULL ? &unused[1] : acc;
    if (dataset == NULL && t->validation_loader == NULL)
        return lks_fail(LKS_EINVAL,
                        "lks_validate: neither a data set was given nor does the trainer have one");
    if (dataset == NULL || dataset == t->validation_data)
        return lks_trainer_evaluate(t, t->validation_loader, false, loss, acc);

    lks_loader *loader = NULL;
    lks_status status = lks_trainer_check_dataset(t, dataset);
    if (status == LKS_OK) status = lks_trainer_open_loader(t, dataset, false, &loader);
    status = lks_comm_agree(t->context->comm, status);
    if (status == LKS_OK) status = lks_trainer_evaluate(t, loader, false, loss, acc);
    lks_loader_destroy(loader);
    return status;
}

/* Samples in row-major order into the layout that the graph wants: [c, s] to [s, c] for
 * channels-last images. */
static void arrange_inputs(const lks_trainer *t, int64_t rows, const float *inputs, float *out) {
    const lks_shape *shape = lks_graph_input_shape(t->graph);
    if (lks_graph_input_layout(t->graph) == LKS_LAYOUT_ROWS || shape->rank != 3) {
        memcpy(out, inputs, (size_t)(rows * t->input_count) * sizeof(float));
        return;
    }
    int64_t channels = shape->dim[0], spatial = shape->dim[1] * shape->dim[2];
    for (int64_t row = 0; row < rows; row++, inputs += t->input_count, out += t->input_count)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t s = 0; s < spatial; s++)
                out[s * channels + c] = inputs[c * spatial + s];
}

static lks_status predict_rows(lks_trainer *t, int64_t rows, const float *inputs, float *staging,
                               float *outputs) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    arrange_inputs(t, rows, inputs, staging);
    lks_status status =
        lks_device_copy(device, stream, lks_graph_input(t->graph), staging,
                        (size_t)(rows * t->input_count) * sizeof(float), LKS_COPY_TO_DEVICE);
    lks_batch_info info = {.batch = rows};
    if (status == LKS_OK) status = lks_graph_forward(t->graph, &info);
    if (status == LKS_OK)
        status =
            lks_device_copy(device, stream, outputs, lks_graph_output(t->graph),
                            (size_t)(rows * t->output_count) * sizeof(float), LKS_COPY_TO_HOST);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    return status;
}

lks_status lks_predict(lks_trainer *t, int64_t count, const float *inputs, float *outputs) {
    if (count < 0 || (count > 0 && (inputs == NULL || outputs == NULL)))
        return lks_fail(LKS_EINVAL, "lks_predict: count %lld with inputs %p and outputs %p",
                        (long long)count, (const void *)inputs, (void *)outputs);
    int64_t chunk = t->max_rows;
    float *staging;
    lks_status status = lks_device_alloc_host(
        t->context->device, (size_t)(chunk * t->input_count) * sizeof(float), (void **)&staging);
    if (status != LKS_OK) return status;
    for (int64_t row = 0; row < count && status == LKS_OK; row += chunk) {
        int64_t rows = count - row < chunk ? count - row : chunk;
        lks_guard_tick(t->context->guard);
        status = predict_rows(t, rows, inputs + row * t->input_count, staging,
                              outputs + row * t->output_count);
    }
    lks_device_free_host(t->context->device, staging);
    return status;
}

const lks_shape *lks_trainer_output_shape(const lks_trainer *t) {
    return lks_graph_output_shape(t->graph);
}
