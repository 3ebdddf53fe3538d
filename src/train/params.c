/* Parameters by name, for embedding programs. */
#include <string.h>

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

lks_status lks_trainer_get_param(lks_trainer *t, const char *name, lks_shape *shape,
                                 float *values) {
    const lks_param *param = find(t, name);
    if (param == NULL) return LKS_EINVAL;
    if (shape != NULL) *shape = param->shape;
    if (values == NULL) return LKS_OK;
    lks_stream *stream = lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
    lks_status status =
        lks_device_copy(t->context->device, stream, values, t->params + param->offset,
                        (size_t)param->count * sizeof(float), LKS_COPY_TO_HOST);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

lks_status lks_trainer_set_param(lks_trainer *t, const char *name, const float *values) {
    const lks_param *param = find(t, name);
    lks_status status = param == NULL ? LKS_EINVAL : LKS_OK;
    if (param != NULL && values == NULL)
        status = lks_fail(LKS_EINVAL, "lks_trainer_set_param %s: values is NULL", name);
    lks_stream *stream = lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
    if (status == LKS_OK)
        status = lks_device_copy(t->context->device, stream, t->params + param->offset, values,
                                 (size_t)param->count * sizeof(float), LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    return lks_comm_agree(t->context->comm, status);
}
