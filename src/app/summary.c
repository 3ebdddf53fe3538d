#include "app/summary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    lks_checkpoint *checkpoint;
    lks_summary *summary;
} reader;

/* ---- attributes, of which any may be missing ---- */

static int64_t integer_of(const reader *r, const char *group, const char *name) {
    int64_t value;
    return lks_checkpoint_get_i64(r->checkpoint, group, name, &value) ? -1 : value;
}

static char *text_of(const reader *r, const char *group, const char *name) {
    char *text;
    return lks_checkpoint_get_text(r->checkpoint, group, name, &text) ? NULL : text;
}

static void read_attributes(reader *r) {
    lks_summary *s = r->summary;
    int count;
    s->version = text_of(r, "/", "lockstep_version");
    s->created = text_of(r, "/", "created");
    s->ranks = integer_of(r, "/", "ranks_at_save");
    s->epoch = integer_of(r, "/sampler", "epoch");
    s->step = integer_of(r, "/sampler", "step");
    s->global_step = integer_of(r, "/sampler", "global_step");
    s->batch_size = integer_of(r, "/sampler", "batch_size");
    s->sample_count = integer_of(r, "/sampler", "sample_count");
    s->optimizer = text_of(r, "/optimizer", "name");
    s->hyper_parameters = text_of(r, "/optimizer", "hyper_parameters");
    s->schedule = text_of(r, "/scheduler", "name");
    s->imported_from = text_of(r, "/import", "file");
    s->best_epoch = integer_of(r, "/best", "epoch");
    if (lks_checkpoint_get_f64(r->checkpoint, "/best", "value", &s->best_value, 1, &count))
        s->best_value = NAN;
}

/* ---- arrays ---- */

/* The names that PyTorch gives to the buffers of its norms. */
static bool is_buffer(const char *path) {
    static const char *const buffers[] = {"running_mean", "running_var", "num_batches_tracked"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof buffers / sizeof *buffers; i++)
        if (strcmp(dot + 1, buffers[i]) == 0) return true;
    return false;
}

static lks_status read_element(reader *r, const char *path, const lks_shape *shape, int64_t index,
                               double *out) {
    lks_piece piece = {.first = index, .count = 1, .data = out};
    lks_checkpoint_array array = {
        .path = path, .dtype = LKS_F64, .shape = *shape, .pieces = &piece, .piece_count = 1};
    return lks_checkpoint_read(r->checkpoint, &array);
}

/* How long an epoch took, and whether it was the best so far, is no metric of the model. */
static bool is_metric(const char *name) {
    static const char *const others[] = {"seconds", "samples_per_second", "is_best"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i]) == 0) return false;
    return true;
}

static lks_status add_metric(reader *r, const char *path, const lks_shape *shape) {
    lks_summary *s = r->summary;
    const char *name = strrchr(path, '/') + 1;
    if (s->metric_count == LKS_SUMMARY_MAX_METRICS || shape->rank != 1 || shape->dim[0] < 1 ||
        !is_metric(name))
        return LKS_OK;
    lks_summary_metric *metric = &s->metrics[s->metric_count++];
    snprintf(metric->name, sizeof metric->name, "%s", name);
    metric->best = NAN;
    lks_status status = read_element(r, path, shape, shape->dim[0] - 1, &metric->last);
    if (!status && s->best_epoch >= 1 && s->best_epoch <= shape->dim[0])
        status = read_element(r, path, shape, s->best_epoch - 1, &metric->best);
    return status;
}

static lks_status add_array(void *data, const char *path, lks_dtype dtype, const lks_shape *shape) {
    reader *r = data;
    lks_summary *s = r->summary;
    int64_t count, bytes;
    lks_status status = lks_shape_bytes(shape, lks_dtype_bytes(dtype), &count, &bytes);
    if (status) return lks_fail_in(LKS_ECHECKPOINT, "%s", path);
    s->array_count++;
    s->bytes += bytes;
    if (strncmp(path, "/model/", strlen("/model/")) == 0) {
        s->model_arrays++;
        s->model_bytes += bytes;
        *(is_buffer(path) ? &s->buffers : &s->parameters) += count;
    }
    if (dtype == LKS_F64 && strncmp(path, "/history/", strlen("/history/")) == 0)
        status = add_metric(r, path, shape);
    return status;
}

lks_status lks_summary_read(lks_checkpoint *checkpoint, lks_summary *out) {
    reader r = {checkpoint, out};
    *out = (lks_summary){0};
    read_attributes(&r);
    return lks_checkpoint_visit(checkpoint, add_array, &r);
}

void lks_summary_free(lks_summary *summary) {
    free(summary->version);
    free(summary->created);
    free(summary->optimizer);
    free(summary->hyper_parameters);
    free(summary->schedule);
    free(summary->imported_from);
    *summary = (lks_summary){0};
}
