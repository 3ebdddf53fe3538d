/* Parameters by name, for embedding programs. */
#include <string.h>

#include "train/trainer.h"

int lks_trainer_param_count(const lks_trainer *t) {
    return lks_graph_param_count(t->graph);
}

/* The engine keeps them in the order of backward; users expect the order of the layers. */
static const lks_param *param_at(const lks_trainer *t, int index) {
    return lks_graph_param(t->graph, lks_graph_param_count(t->graph) - 1 - index);
}

const char *lks_trainer_param_name(const lks_trainer *t, int index) {
    return index < 0 || index >= lks_trainer_param_count(t) ? NULL : param_at(t, index)->name;
}

static lks_status find(const lks_trainer *t, const char *name, const lks_param **out) {
    for (int i = 0; i < lks_trainer_param_count(t) && name != NULL; i++) {
        *out = param_at(t, i);
        if (strcmp((*out)->name, name) == 0) return LKS_OK;
    }
    return lks_fail(LKS_EINVAL, "the model has no parameter \"%s\"",
                    name == NULL ? "(null)" : name);
}

lks_status lks_trainer_get_param(lks_trainer *t, const char *name, lks_shape *shape,
                                 float *values) {
    const lks_param *param;
    lks_status status = find(t, name, &param);
    if (status == LKS_OK && shape != NULL) *shape = param->shape;
    if (status != LKS_OK || values == NULL) return status;
    lks_stream *stream = lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
    status = lks_device_copy(t->context->device, stream, values, t->params + param->offset,
                             (size_t)param->count * sizeof(float), LKS_COPY_TO_HOST);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

lks_status lks_trainer_set_param(lks_trainer *t, const char *name, const float *values) {
    const lks_param *param;
    lks_status status = find(t, name, &param);
    if (status == LKS_OK && values == NULL)
        status = lks_fail(LKS_EINVAL, "lks_trainer_set_param %s: values is NULL", name);
    lks_stream *stream = lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
    if (status == LKS_OK)
        status = lks_device_copy(t->context->device, stream, t->params + param->offset, values,
                                 (size_t)param->count * sizeof(float), LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    return lks_comm_agree(t->context->comm, status);
}
