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

/* ---- what this rank saves and reads ---- */

static int state_array_count(const lks_trainer *t) {
    return t->optimizer == NULL ? 0 : lks_optimizer_state_array_count(t->optimizer);
}

/* This rank's part of the parameters' masters, of the first `count` elements. */
static void add_params(const lks_trainer *t, int64_t count, lks_state_part *part) {
    part->range_count = lks_param_store_ranges(&t->params, LKS_SHARD_OWNED, 0, count, part->ranges);
}

/* Buffers are the same on every rank, and rank 0's count. */
static void add_buffers(const lks_trainer *t, lks_state_part *part) {
    if (t->plan->rank == 0)
        part->ranges[part->range_count++] =
            (lks_range){0, lks_graph_buffers_flat_count(t->graph), 0};
}

static void lay_out_parts(lks_trainer *t, lks_snapshot *s) {
    size_t most = (size_t)t->plan->bucket_count + 1;
    for (int i = 0; i < s->part_count; i++) {
        s->parts[i].ranges = s->ranges + 2 * most * (size_t)i;
        s->parts[i].host_ranges = s->parts[i].ranges + most;
        s->parts[i].on_device = true;
    }
    lks_state_part *params = &s->parts[LKS_PART_PARAMS], *buffers = &s->parts[LKS_PART_BUFFERS];
    params->live = t->params.masters;
    add_params(t, t->params.flat_count, params);
    buffers->live = lks_graph_buffers(t->graph);
    add_buffers(t, buffers);
    if (t->best_params != NULL) {
        lks_state_part *best = &s->parts[LKS_PART_BEST_PARAMS];
        lks_state_part *best_buffers = &s->parts[LKS_PART_BEST_BUFFERS];
        best->live = t->best_params;
        best_buffers->live = t->best_buffers;
        best->on_device = best_buffers->on_device = false;
        add_params(t, t->plan->padded_count, best);
        add_buffers(t, best_buffers);
    }
    for (int i = LKS_PART_STATES; i < s->part_count; i++) {
        s->parts[i].live = lks_optimizer_state(t->optimizer, i - LKS_PART_STATES);
        s->parts[i].range_count = lks_shard_plan_overlap(t->plan, LKS_SHARD_OWNED, 0,
                                                         t->plan->padded_count, s->parts[i].ranges);
    }
}

/* ---- host memory ---- */

static bool is_copied(const lks_trainer *t, const lks_state_part *part, bool copied) {
    return copied || (part->on_device && !lks_device_is_host(t->context->device));
}

/* Where each part's ranges lie on the host; returns how many numbers the copy takes. */
static int64_t lay_out_copy(const lks_trainer *t, lks_snapshot *s, bool copied) {
    int64_t count = 0;
    for (int i = 0; i < s->part_count; i++) {
        lks_state_part *part = &s->parts[i];
        for (int r = 0; r < part->range_count; r++) {
            part->host_ranges[r] = part->ranges[r];
            if (!is_copied(t, part, copied)) continue;
            part->host_ranges[r].state_offset = count;
            count += part->ranges[r].count;
        }
    }
    return count;
}

static lks_status reserve_copy(lks_trainer *t, lks_snapshot *s, int64_t count) {
    if (count <= s->copy_capacity) return LKS_OK;
    lks_device *device = t->context->device;
    lks_device_free_host(device, s->copy);
    s->copy = NULL;
    s->copy_capacity = 0;
    lks_status status =
        lks_device_alloc_host(device, (size_t)count * sizeof(float), (void **)&s->copy);
    if (status != LKS_OK) return lks_fail_in(status, "a checkpoint's copy of the state");
    s->copy_capacity = count;
    return LKS_OK;
}

lks_status lks_snapshot_open(lks_trainer *t, bool copied, lks_snapshot *out) {
    out->part_count = LKS_PART_STATES + state_array_count(t);
    size_t most = (size_t)t->plan->bucket_count + 1;
    out->parts = calloc((size_t)out->part_count, sizeof(*out->parts));
    out->ranges = calloc(2 * most * (size_t)out->part_count, sizeof(*out->ranges));
    if (out->parts == NULL || out->ranges == NULL)
        return lks_fail(LKS_ENOMEM, "the parts of a checkpoint: out of host memory");
    lay_out_parts(t, out);
    lks_status status = reserve_copy(t, out, lay_out_copy(t, out, copied));
    for (int i = 0; i < out->part_count; i++) {
        lks_state_part *part = &out->parts[i];
        part->host = is_copied(t, part, copied) ? out->copy : part->live;
    }
    return status;
}

static void join_thread(lks_snapshot *s) {
    if (s->thread_runs) pthread_join(s->thread, NULL);
    s->thread_runs = false;
}

void lks_snapshot_close(lks_trainer *t, lks_snapshot *s, bool keep) {
    join_thread(s);
    s->copies = false;
    free(s->parts);
    free(s->ranges);
    free(s->history);
    s->parts = NULL;
    s->ranges = NULL;
    s->history = NULL;
    s->part_count = 0;
    if (keep) return;
    if (s->taken != NULL) (void)lks_event_synchronize(s->taken);
    lks_event_destroy(s->taken);
    lks_device_free_host(t->context->device, s->copy);
    *s = (lks_snapshot){0};
}

/* ---- between the run and the host ---- */

static lks_status move_range(lks_trainer *t, const lks_state_part *part, int r, bool back,
                             lks_stream_name stream) {
    float *live = part->live + part->ranges[r].state_offset;
    float *host = part->host + part->host_ranges[r].state_offset;
    size_t bytes = (size_t)part->ranges[r].count * sizeof(float);
    if (bytes == 0) return LKS_OK;
    if (!part->on_device) {
        memcpy(back ? live : host, back ? host : live, bytes);
        return LKS_OK;
    }
    lks_device *device = t->context->device;
    return lks_device_copy(device, lks_device_stream(device, stream), back ? live : host,
                           back ? host : live, bytes, back ? LKS_COPY_TO_DEVICE : LKS_COPY_TO_HOST);
}

static lks_status move_part(lks_trainer *t, const lks_state_part *part, bool back,
                            lks_stream_name stream) {
    lks_status status = LKS_OK;
    for (int r = 0; part->host != part->live && r < part->range_count && status == LKS_OK; r++)
        status = move_range(t, part, r, back, stream);
    return status;
}

static lks_status move_all(lks_trainer *t, lks_snapshot *s, bool back) {
    lks_status status = LKS_OK;
    for (int i = 0; i < s->part_count && status == LKS_OK; i++)
        status = move_part(t, &s->parts[i], back, LKS_STREAM_COMPUTE);
    if (status != LKS_OK) return status;
    return lks_stream_synchronize(lks_device_stream(t->context->device, LKS_STREAM_COMPUTE));
}

lks_status lks_snapshot_take(lks_trainer *t, lks_snapshot *s) {
    s->batches_tracked = lks_graph_batches_tracked(t->graph);
    return move_all(t, s, false);
}

lks_status lks_snapshot_give_back(lks_trainer *t, lks_snapshot *s) {
    lks_graph_set_batches_tracked(t->graph, s->batches_tracked);
    return move_all(t, s, true);
}

/* ---- beside the run ---- */

/* Not with the device's own copy: this is another thread, and the device's computes meanwhile. */
static void *copy_host_memory(void *data) {
    const lks_snapshot *s = data;
    for (int i = 0; i < s->part_count; i++) {
        const lks_state_part *part = &s->parts[i];
        if (i == LKS_PART_BUFFERS || part->by_device) continue;
        for (int r = 0; r < part->range_count; r++)
            memcpy(part->host + part->host_ranges[r].state_offset,
                   part->live + part->ranges[r].state_offset,
                   (size_t)part->ranges[r].count * sizeof(float));
    }
    return NULL;
}

/* The buffers are part of the compute stream's work, in front of what changes them. */
static lks_status queue_copies(lks_trainer *t, lks_snapshot *s) {
    lks_device *device = t->context->device;
    lks_stream *compute = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_stream *save = lks_device_stream(device, LKS_STREAM_SAVE);
    lks_status status = LKS_OK;
    if (s->taken == NULL) status = lks_event_create(device, &s->taken);
    if (status == LKS_OK)
        status = move_part(t, &s->parts[LKS_PART_BUFFERS], false, LKS_STREAM_COMPUTE);
    if (status == LKS_OK) status = lks_event_record(s->taken, compute);
    if (status == LKS_OK) status = lks_stream_wait(save, s->taken);
    for (int i = 0; i < s->part_count && status == LKS_OK; i++)
        if (i != LKS_PART_BUFFERS && s->parts[i].by_device)
            status = move_part(t, &s->parts[i], false, LKS_STREAM_SAVE);
    return status == LKS_OK ? lks_event_record(s->taken, save) : status;
}

lks_status lks_snapshot_start(lks_trainer *t, lks_snapshot *s) {
    s->batches_tracked = lks_graph_batches_tracked(t->graph);
    s->has_ended = false;
    s->ended = LKS_OK;
    for (int i = 0; i < s->part_count; i++)
        s->parts[i].by_device = s->parts[i].on_device && !lks_device_is_host(t->context->device);
    lks_status status = queue_copies(t, s);
    if (status != LKS_OK) return status;
    s->copies = true;
    s->thread_runs = lks_thread_start(copy_host_memory, s, &s->thread) == LKS_OK;
    if (!s->thread_runs) copy_host_memory(s);
    return LKS_OK;
}

lks_status lks_snapshot_hold(lks_trainer *t, lks_snapshot *s) {
    if (!s->copies) return LKS_OK;
    s->copies = false;
    join_thread(s);
    return lks_stream_wait(lks_device_stream(t->context->device, LKS_STREAM_COMPUTE), s->taken);
}

static void end_copy(lks_snapshot *s, lks_status status) {
    s->has_ended = true;
    s->ended = status;
}

bool lks_snapshot_has_ended(lks_snapshot *s) {
    if (s->copies || s->has_ended) return s->has_ended;
    bool done = false;
    lks_status status = lks_event_query(s->taken, &done);
    if (status != LKS_OK || done) end_copy(s, status);
    return s->has_ended;
}

lks_status lks_snapshot_finish(lks_trainer *t, lks_snapshot *s) {
    lks_status status = lks_snapshot_hold(t, s);
    if (status == LKS_OK && !s->has_ended) status = lks_event_synchronize(s->taken);
    if (!s->has_ended) end_copy(s, status);
    return s->ended == LKS_OK ? LKS_OK : lks_fail_in(s->ended, "the copy of the state");
}

/* ---- between the ranks ---- */

/* values: a flat array in the order of the parameters, of which every rank has its shards. */
static lks_status gather_buckets(lks_trainer *t, float *values, int64_t *counts) {
    const lks_shard_plan *plan = t->plan;
    lks_status status = LKS_OK;
    for (int b = 0; b < plan->bucket_count && status == LKS_OK; b++) {
        for (int r = 0; r < plan->size; r++)
            counts[r] = plan->buckets[b].count / plan->size;
        status = lks_comm_all_gather(t->context->comm, values + plan->buckets[b].offset, counts,
                                     LKS_F32);
    }
    return status;
}

static lks_status share_buffers(lks_trainer *t, float *values) {
    int64_t bytes = lks_graph_buffers_flat_count(t->graph) * (int64_t)sizeof(float);
    return bytes == 0 ? LKS_OK : lks_comm_broadcast(t->context->comm, values, bytes, 0);
}

static lks_status gather_model(lks_trainer *t, lks_snapshot *s) {
    lks_comm *comm = t->context->comm;
    lks_status status = lks_param_store_share(&t->params, comm);
    if (status == LKS_OK) status = share_buffers(t, lks_graph_buffers(t->graph));
    if (status == LKS_OK)
        status = lks_comm_broadcast(comm, &s->batches_tracked, sizeof(s->batches_tracked), 0);
    lks_graph_set_batches_tracked(t->graph, s->batches_tracked);
    return status;
}

/* A rank that updates everything has everybody's optimizer state, and masters of the best model if
 * there are masters; else its own part is all. */
static lks_status gather_training(lks_trainer *t, lks_snapshot *s, int64_t *counts) {
    const bool whole = t->plan->zero_stage == 0;
    lks_status status = LKS_OK;
    for (int i = LKS_PART_STATES; i < s->part_count && whole; i++)
        if (status == LKS_OK) status = gather_buckets(t, s->parts[i].live, counts);
    if (status == LKS_OK && t->best_params != NULL &&
        (whole || !lks_param_store_has_masters(&t->params)))
        status = gather_buckets(t, t->best_params, counts);
    if (status == LKS_OK && t->best_params != NULL) status = share_buffers(t, t->best_buffers);
    return status;
}

lks_status lks_snapshot_gather(lks_trainer *t, lks_snapshot *s, bool training) {
    int64_t *counts = calloc((size_t)t->plan->size, sizeof(*counts));
    lks_status status = counts == NULL
                            ? lks_fail(LKS_ENOMEM, "the parts of a checkpoint: out of host memory")
                            : LKS_OK;
    status = lks_comm_agree(t->context->comm, status);
    if (status == LKS_OK) status = gather_model(t, s);
    if (status == LKS_OK && training) status = gather_training(t, s, counts);
    free(counts);
    return status;
}

/* ---- the arrays ---- */

/* Frozen parameters belong to the model alone: they have no state, and the best model has the same.
 */
static void list_params(lks_trainer *t, const char *group, bool frozen, const lks_state_part *part,
                        lks_state_list *list) {
    for (int i = 0; i < lks_graph_param_count(t->graph); i++) {
        const lks_param *param = lks_graph_param(t->graph, i);
        if (param->frozen && !frozen) continue;
        lks_state_list_add_flat(list, group, param->name, LKS_F32, &param->shape, param->offset,
                                part->host, part->host_ranges, part->range_count);
    }
}

/* PyTorch's state_dict has num_batches_tracked beside every running_mean. NULL: not here. */
static void list_buffers(lks_trainer *t, const char *group, const lks_state_part *part,
                         int64_t *batches_tracked, lks_state_list *list) {
    static const char suffix[] = ".running_mean";
    for (int i = 0; i < lks_graph_buffer_count(t->graph); i++) {
        const lks_param *buffer = lks_graph_buffer(t->graph, i);
        lks_state_list_add_flat(list, group, buffer->name, LKS_F32, &buffer->shape, buffer->offset,
                                part->host, part->host_ranges, part->range_count);
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
                                     t->plan->rank == 0);
        free(name);
    }
}

void lks_snapshot_list_model(lks_trainer *t, lks_snapshot *s, lks_state_list *list) {
    list_params(t, "/model", true, &s->parts[LKS_PART_PARAMS], list);
    list_buffers(t, "/model", &s->parts[LKS_PART_BUFFERS], &s->batches_tracked, list);
}

void lks_snapshot_list_training(lks_trainer *t, lks_snapshot *s, bool best, lks_state_list *list) {
    for (int i = LKS_PART_STATES; i < s->part_count; i++) {
        const char *name = lks_optimizer_state_name(t->optimizer, i - LKS_PART_STATES);
        char *group = lks_strdup_printf("/optimizer/%s", name);
        if (group == NULL)
            list->status = lks_fail(LKS_ENOMEM, "a checkpoint's names: out of host memory");
        else
            list_params(t, group, false, &s->parts[i], list);
        free(group);
    }
    if (!best || t->best_params == NULL) return;
    list_params(t, "/best_model", false, &s->parts[LKS_PART_BEST_PARAMS], list);
    list_buffers(t, "/best_model", &s->parts[LKS_PART_BEST_BUFFERS], NULL, list);
}
