#include "train/state.h"

#include <stdlib.h>
#include <string.h>

#define SERIES(member, flag) \
    { #member, offsetof(lks_epoch_result, member), flag }
const lks_history_series lks_history_table[] = {
    SERIES(train_loss, false),
    SERIES(train_acc, false),
    SERIES(val_loss, false),
    SERIES(val_acc, false),
    SERIES(lr, false),
    SERIES(seconds, false),
    SERIES(samples_per_second, false),
    SERIES(is_best, true),
};
const int lks_history_table_count = (int)(sizeof(lks_history_table) / sizeof(lks_history_table[0]));

/* ---- the mirror ---- */

static lks_status mirror_array(lks_trainer *t, float *device_array, int64_t count,
                               lks_state_direction direction, float **out) {
    lks_device *device = t->context->device;
    *out = device_array;
    if (lks_device_is_host(device) || count == 0) return LKS_OK;
    size_t bytes = (size_t)count * sizeof(float);
    lks_status status = lks_device_alloc_host(device, bytes, (void **)out);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    if (status == LKS_OK && direction == LKS_STATE_SAVE)
        status = lks_device_copy(device, stream, *out, device_array, bytes, LKS_COPY_TO_HOST);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

static int state_array_count(const lks_trainer *t) {
    return t->optimizer == NULL ? 0 : lks_optimizer_state_array_count(t->optimizer);
}

/* This rank's part of every bucket, and behind them what of the frozen parameters it saves: rank 0
 * all. */
static void own_parts(const lks_trainer *t, lks_range *params, lks_range *states) {
    const lks_shard_plan *plan = t->plan;
    int64_t begin = plan->padded_count, frozen = lks_graph_flat_count(t->graph) - begin;
    int count = lks_shard_plan_overlap(plan, LKS_SHARD_OWNED, 0, begin, states);
    for (int i = 0; i < count; i++) {
        params[i] = states[i];
        params[i].state_offset = params[i].offset;
    }
    params[plan->bucket_count] =
        (lks_range){.offset = begin, .count = plan->rank == 0 ? frozen : 0, .state_offset = begin};
}

lks_status lks_state_mirror_open(lks_trainer *t, lks_state_direction direction,
                                 lks_state_mirror *out) {
    *out = (lks_state_mirror){.batches_tracked = lks_graph_batches_tracked(t->graph)};
    int states = state_array_count(t);
    size_t buckets = (size_t)t->plan->bucket_count;
    out->states = calloc((size_t)states + 1, sizeof(*out->states));
    out->owned = calloc(buckets + 1, sizeof(*out->owned));
    out->owned_states = calloc(buckets + 1, sizeof(*out->owned_states));
    if (out->states == NULL || out->owned == NULL || out->owned_states == NULL)
        return lks_fail(LKS_ENOMEM, "a checkpoint's staging: out of host memory");
    own_parts(t, out->owned, out->owned_states);

    lks_status status =
        mirror_array(t, t->params, lks_graph_flat_count(t->graph), direction, &out->params);
    if (status == LKS_OK)
        status = mirror_array(t, lks_graph_buffers(t->graph),
                              lks_graph_buffers_flat_count(t->graph), direction, &out->buffers);
    for (int i = 0; i < states && status == LKS_OK; i++)
        status = mirror_array(t, lks_optimizer_state(t->optimizer, i), t->plan->state_count,
                              direction, &out->states[i]);
    return status;
}

lks_status lks_state_mirror_apply(lks_trainer *t, lks_state_mirror *mirror) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_graph_set_batches_tracked(t->graph, mirror->batches_tracked);
    if (lks_device_is_host(device)) return LKS_OK;
    lks_status status =
        lks_device_copy(device, stream, t->params, mirror->params,
                        (size_t)lks_graph_flat_count(t->graph) * sizeof(float), LKS_COPY_TO_DEVICE);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, lks_graph_buffers(t->graph), mirror->buffers,
                                 (size_t)lks_graph_buffers_flat_count(t->graph) * sizeof(float),
                                 LKS_COPY_TO_DEVICE);
    for (int i = 0; i < state_array_count(t) && status == LKS_OK; i++)
        status =
            lks_device_copy(device, stream, lks_optimizer_state(t->optimizer, i), mirror->states[i],
                            (size_t)t->plan->state_count * sizeof(float), LKS_COPY_TO_DEVICE);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

void lks_state_mirror_close(lks_trainer *t, lks_state_mirror *mirror) {
    lks_device *device = t->context->device;
    if (!lks_device_is_host(device)) {
        lks_device_free_host(device, mirror->params);
        lks_device_free_host(device, mirror->buffers);
        for (int i = 0; i < state_array_count(t) && mirror->states != NULL; i++)
            lks_device_free_host(device, mirror->states[i]);
    }
    free(mirror->states);
    free(mirror->owned);
    free(mirror->owned_states);
    *mirror = (lks_state_mirror){0};
}

/* ---- the arrays ---- */

/* Frozen parameters belong to the model alone: they have no state, and the best model has the same.
 */
static void list_params(lks_trainer *t, const char *group, bool frozen, float *values,
                        const lks_range *ranges, int range_count, lks_state_list *list) {
    for (int i = 0; i < lks_graph_param_count(t->graph); i++) {
        const lks_param *param = lks_graph_param(t->graph, i);
        if (param->frozen && !frozen) continue;
        lks_state_list_add_flat(list, group, param->name, LKS_F32, &param->shape, param->offset,
                                values, ranges, range_count);
    }
}

/* PyTorch's state_dict has num_batches_tracked beside every running_mean. */
static void list_buffers(lks_trainer *t, const char *group, float *values, int64_t *batches_tracked,
                         bool mine, lks_state_list *list) {
    static const char suffix[] = ".running_mean";
    for (int i = 0; i < lks_graph_buffer_count(t->graph); i++) {
        const lks_param *buffer = lks_graph_buffer(t->graph, i);
        lks_state_list_add_whole(list, group, buffer->name, LKS_F32, &buffer->shape,
                                 values + buffer->offset, mine);
        size_t length = strlen(buffer->name), tail = sizeof(suffix) - 1;
        if (batches_tracked == NULL || length < tail ||
            strcmp(buffer->name + length - tail, suffix) != 0)
            continue;
        char *name =
            lks_strdup_printf("%.*s.num_batches_tracked", (int)(length - tail), buffer->name);
        if (name == NULL)
            list->status = lks_fail(LKS_ENOMEM, "a checkpoint's names: out of host memory");
        else
            lks_state_list_add_whole(list, group, name, LKS_I64, &(lks_shape){0}, batches_tracked,
                                     mine);
        free(name);
    }
}

static const lks_range whole = {.offset = 0, .count = INT64_MAX, .state_offset = 0};

void lks_state_list_model(lks_trainer *t, lks_state_mirror *mirror, lks_state_direction direction,
                          lks_state_list *list) {
    bool save = direction == LKS_STATE_SAVE;
    bool mine = !save || lks_comm_rank(t->context->comm) == 0;
    list_params(t, "/model", true, mirror->params, save ? mirror->owned : &whole,
                save ? t->plan->bucket_count + 1 : 1, list);
    list_buffers(t, "/model", mirror->buffers, &mirror->batches_tracked, mine, list);
}

void lks_state_list_training(lks_trainer *t, lks_state_mirror *mirror,
                             lks_state_direction direction, lks_state_list *list) {
    bool save = direction == LKS_STATE_SAVE;
    bool mine = !save || lks_comm_rank(t->context->comm) == 0;
    for (int i = 0; i < state_array_count(t); i++) {
        char *group = lks_strdup_printf("/optimizer/%s", lks_optimizer_state_name(t->optimizer, i));
        if (group == NULL)
            list->status = lks_fail(LKS_ENOMEM, "a checkpoint's names: out of host memory");
        else
            list_params(t, group, false, mirror->states[i],
                        save ? mirror->owned_states : t->plan->shards, t->plan->bucket_count, list);
        free(group);
    }
    if (t->best_params != NULL && t->stopping.best_epoch > 0) {
        list_params(t, "/best_model", false, t->best_params, save ? mirror->owned : &whole,
                    save ? t->plan->bucket_count : 1, list);
        list_buffers(t, "/best_model", t->best_buffers, NULL, mine, list);
    }
}
