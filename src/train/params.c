/* Parameters by name, for embedding programs. */
#include <stdlib.h>
#include <string.h>

#include "train/saver.h"
#include "train/trainer.h"

int lks_trainer_param_count(const lks_trainer *t) {
    return lks_graph_param_count(t->graph);
}

const char *lks_trainer_param_name(const lks_trainer *t, int index) {
    return index < 0 || index >= lks_trainer_param_count(t)
               ? NULL
               : lks_graph_param(t->graph, index)->name;
}

/* NULL, with the error recorded, where the model has no such parameter. */
static const lks_param *find(const lks_trainer *t, const char *name) {
    for (int i = 0; i < lks_trainer_param_count(t) && name != NULL; i++)
        if (strcmp(lks_graph_param(t->graph, i)->name, name) == 0)
            return lks_graph_param(t->graph, i);
    lks_fail(LKS_EINVAL, "the model has no parameter \"%s\"", name == NULL ? "(null)" : name);
    return NULL;
}

/* Parameters in the graph's memory, to host memory or from there as the graph's type. */
static lks_status copy_flat(lks_trainer *t, const lks_param *param, void *host,
                            lks_copy_kind kind) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    void *there = lks_param_store_at(&t->params, param->offset);
    const bool back = kind == LKS_COPY_TO_DEVICE;
    /* Nothing is under way but when a callback asks, and then on every rank. */
    lks_status status = lks_trainer_settle_params(t, LKS_OK);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, back ? there : host, back ? host : there,
                                 (size_t)param->count * lks_dtype_bytes(t->params.type), kind);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

static lks_status alloc_halves(const lks_param *param, uint16_t **out) {
    *out = malloc((size_t)param->count * sizeof **out + 1);
    return *out != NULL ? LKS_OK : lks_fail(LKS_ENOMEM, "%s: out of host memory", param->name);
}

lks_status lks_trainer_get_param(lks_trainer *t, const char *name, lks_shape *shape,
                                 float *values) {
    const lks_param *param = find(t, name);
    if (param == NULL) return LKS_EINVAL;
    if (shape != NULL) *shape = param->shape;
    if (values == NULL) return LKS_OK;
    if (t->params.type == LKS_F32) return copy_flat(t, param, values, LKS_COPY_TO_HOST);
    uint16_t *halves;
    lks_status status = alloc_halves(param, &halves);
    if (status == LKS_OK) status = copy_flat(t, param, halves, LKS_COPY_TO_HOST);
    for (int64_t i = 0; i < param->count && status == LKS_OK; i++)
        values[i] = lks_bf16_to_float(halves[i]);
    free(halves);
    return status;
}

/* What this rank has of the parameter's masters. */
static lks_status set_masters(lks_trainer *t, const lks_param *param, const float *values) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_range *ranges = malloc(((size_t)t->plan->bucket_count + 1) * sizeof *ranges);
    if (ranges == NULL) return lks_fail(LKS_ENOMEM, "%s: out of host memory", param->name);
    const int count =
        lks_param_store_ranges(&t->params, LKS_SHARD_HELD, param->offset, param->count, ranges);
    lks_status status = LKS_OK;
    for (int i = 0; i < count && status == LKS_OK; i++)
        status = lks_device_copy(device, stream, t->params.masters + ranges[i].state_offset,
                                 values + (ranges[i].offset - param->offset),
                                 (size_t)ranges[i].count * sizeof(float), LKS_COPY_TO_DEVICE);
    free(ranges);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

static lks_status set_rounded(lks_trainer *t, const lks_param *param, const float *values) {
    uint16_t *halves;
    lks_status status = alloc_halves(param, &halves);
    for (int64_t i = 0; i < param->count && status == LKS_OK; i++)
        halves[i] = lks_bf16_of_float(values[i]);
    if (status == LKS_OK) status = copy_flat(t, param, halves, LKS_COPY_TO_DEVICE);
    free(halves);
    return status == LKS_OK ? set_masters(t, param, values) : status;
}

lks_status lks_trainer_set_param(lks_trainer *t, const char *name, const float *values) {
    const lks_param *param = find(t, name);
    lks_status status = param == NULL ? LKS_EINVAL : LKS_OK;
    if (param != NULL && values == NULL)
        status = lks_fail(LKS_EINVAL, "lks_trainer_set_param %s: values is NULL", name);
    if (status == LKS_OK) status = lks_saver_hold(t);
    if (status == LKS_OK)
        status = lks_param_store_has_masters(&t->params)
                     ? set_rounded(t, param, values)
                     : copy_flat(t, param, (void *)values, LKS_COPY_TO_DEVICE);
    return lks_comm_agree(t->context->comm, status);
}
