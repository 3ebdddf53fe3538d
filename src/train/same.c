#include "train/same.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/compare.h"
#include "train/options.h"

/* ---- the description of a run ---- */

static const char *or_none(const char *text) {
    return text == NULL ? "none" : text;
}

static void add_spec(const char *what, const lks_spec *spec, lks_strbuf *out) {
    lks_strbuf_add(out, "%s: %s %s\n", what, or_none(spec->type),
                   spec->options == NULL ? "" : spec->options);
}

static void add_layers(const lks_layer_spec *layers, const char *list, lks_strbuf *out) {
    for (int i = 0; layers != NULL && layers[i].type != NULL; i++) {
        const lks_layer_spec *layer = &layers[i];
        lks_strbuf_add(out, "layer %d of %s: %s %s %s\n", i, list, layer->type,
                       layer->name == NULL ? "" : layer->name,
                       layer->options == NULL ? "" : layer->options);
        add_layers(layer->block, "the block", out);
        add_layers(layer->shortcut, "the shortcut", out);
    }
}

static void add_groups(const lks_param_group *groups, lks_strbuf *out) {
    for (int i = 0; groups != NULL && groups[i].params != NULL; i++)
        lks_strbuf_add(out, "group %d: %s, %s, lr_scale %g%s\n", i, groups[i].params,
                       or_none(groups[i].options), groups[i].lr_scale,
                       groups[i].frozen ? ", frozen" : "");
}

static void add_data(const char *what, lks_dataset *dataset, int64_t hash, lks_strbuf *out) {
    if (dataset == NULL)
        lks_strbuf_add(out, "%s: none\n", what);
    else
        lks_strbuf_add(out, "%s: %lld samples, some of which have the hash %016" PRIx64 "\n", what,
                       (long long)lks_dataset_count(dataset), (uint64_t)hash);
}

/* One line for everything that all ranks must have alike. */
static lks_status describe(const lks_trainer *t, const lks_layer_spec *layers, lks_strbuf *out) {
    const lks_train_config *c = &t->config;
    int64_t validation_hash = 0;
    for (const lks_option *o = lks_train_options.options; o->key != NULL; o++) {
        lks_strbuf_add(out, "%s: ", o->key);
        lks_option_print(o, c, out);
        lks_strbuf_add(out, "\n");
    }
    lks_strbuf_add(out, "precision: %s\n",
                   lks_precision_names[lks_device_precision(t->context->device)]);
    add_layers(layers, "the model", out);
    add_spec("loss", &c->loss, out);
    add_spec("optimizer", &c->optimizer, out);
    add_spec("schedule", &c->schedule, out);
    add_groups(c->groups, out);
    lks_strbuf_add(out,
                   "no_decay: %s\nearly_stopping: %s\ndata: %s\ngradients: %s\ncheckpoint: %s\n",
                   or_none(c->no_decay), or_none(c->early_stopping), or_none(c->data),
                   or_none(c->gradients), or_none(c->checkpoint));
    lks_status status =
        t->validation_data == NULL ? LKS_OK : lks_sample_hash(t->validation_data, &validation_hash);
    add_data("training data", t->train_data, t->sample_hash, out);
    add_data("validation data", t->validation_data, validation_hash, out);
    if (status == LKS_OK && out->failed)
        status = lks_fail(LKS_ENOMEM, "the description of the run: out of host memory");
    return status;
}

/* Names the first line that differs. */
static lks_status compare_lines(const char *mine, const char *theirs) {
    for (;;) {
        size_t length = strcspn(mine, "\n"), other = strcspn(theirs, "\n");
        if (length != other || strncmp(mine, theirs, length) != 0)
            return lks_fail(LKS_EDIFFER,
                            "this rank has \"%.*s\" where rank 0 has \"%.*s\": all ranks must run "
                            "the same",
                            (int)length, mine, (int)other, theirs);
        if (mine[length] == '\0' || theirs[other] == '\0') return LKS_OK;
        mine += length + 1;
        theirs += other + 1;
    }
}

lks_status lks_trainer_check_same(lks_trainer *t, const lks_layer_spec *layers) {
    lks_comm *comm = t->context->comm;
    if (lks_comm_size(comm) == 1) return LKS_OK;
    lks_strbuf mine = {0};
    bool first = lks_comm_rank(comm) == 0;
    lks_status status = lks_comm_agree(comm, describe(t, layers, &mine));
    char *theirs = mine.text;
    if (status == LKS_OK) {
        if (!first) theirs = NULL;
        status = lks_comm_share_text(comm, &theirs);
    }
    if (status == LKS_OK)
        status = lks_comm_agree(comm, first ? LKS_OK : compare_lines(mine.text, theirs));
    if (theirs != mine.text) free(theirs);
    lks_strbuf_free(&mine);
    return status == LKS_OK ? lks_trainer_check_sync(t) : status;
}

/* ---- the parameters ---- */

struct lks_sync_check {
    int64_t *mine, *theirs; /* [param count] hashes */
    float *staging;         /* room for the largest parameter, where the host cannot read it */
};

lks_status lks_sync_check_create(const lks_trainer *t, lks_sync_check **out) {
    *out = NULL;
    if (lks_comm_size(t->context->comm) == 1) return LKS_OK;
    int count = lks_graph_param_count(t->graph);
    int64_t largest = 0;
    for (int i = 0; i < count; i++)
        if (lks_graph_param(t->graph, i)->count > largest)
            largest = lks_graph_param(t->graph, i)->count;
    lks_sync_check *check = calloc(1, sizeof(*check));
    bool complete = check != NULL;
    bool copies = !lks_device_is_host(t->context->device);
    if (complete) {
        check->mine = calloc((size_t)count + 1, sizeof(*check->mine));
        check->theirs = calloc((size_t)count + 1, sizeof(*check->theirs));
        if (copies) check->staging = malloc((size_t)(largest + 1) * sizeof(float));
        complete =
            check->mine != NULL && check->theirs != NULL && (check->staging != NULL || !copies);
    }
    if (complete) {
        *out = check;
        return LKS_OK;
    }
    lks_sync_check_destroy(check);
    return lks_fail(LKS_ENOMEM, "the comparison of %d parameters: out of host memory", count);
}

void lks_sync_check_destroy(lks_sync_check *check) {
    if (check == NULL) return;
    free(check->mine);
    free(check->theirs);
    free(check->staging);
    free(check);
}

static lks_status hash_param(lks_trainer *t, const lks_param *param, int64_t *out) {
    lks_device *device = t->context->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const void *values = lks_param_store_at(&t->params, param->offset);
    size_t bytes = (size_t)param->count * lks_dtype_bytes(t->params.type);
    lks_status status = LKS_OK;
    if (t->sync_check->staging != NULL) {
        status = lks_device_copy(device, stream, t->sync_check->staging, values, bytes,
                                 LKS_COPY_TO_HOST);
        values = t->sync_check->staging;
    }
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    if (status == LKS_OK) *out = lks_hash(values, bytes);
    return status;
}

static lks_status compare_hashes(const lks_trainer *t) {
    const lks_sync_check *check = t->sync_check;
    int count = lks_graph_param_count(t->graph);
    for (int i = 0; i < count; i++)
        if (check->mine[i] != check->theirs[i])
            return lks_fail(LKS_EDIFFER,
                            "the parameters of this rank are not those of rank 0 after %lld steps, "
                            "first in %s: hash %016" PRIx64 ", and %016" PRIx64 " on rank 0",
                            (long long)t->position.global_step, lks_graph_param(t->graph, i)->name,
                            (uint64_t)check->mine[i], (uint64_t)check->theirs[i]);
    return LKS_OK;
}

lks_status lks_trainer_check_sync(lks_trainer *t) {
    lks_sync_check *check = t->sync_check;
    lks_comm *comm = t->context->comm;
    if (check == NULL || lks_device_is_measuring(t->context->device)) return LKS_OK;
    int count = lks_graph_param_count(t->graph);
    lks_status status = lks_trainer_settle_params(t, LKS_OK);
    if (status != LKS_OK) return status;
    status = lks_failure_tell(&t->failure);
    for (int i = 0; i < count && status == LKS_OK; i++)
        status = hash_param(t, lks_graph_param(t->graph, i), &check->mine[i]);
    status = lks_comm_agree(comm, status);
    if (status != LKS_OK) return status;
    memcpy(check->theirs, check->mine, (size_t)count * sizeof(*check->mine));
    status = lks_comm_broadcast(comm, check->theirs, count * (int64_t)sizeof(*check->theirs), 0);
    return status == LKS_OK ? lks_comm_agree(comm, compare_hashes(t)) : status;
}
