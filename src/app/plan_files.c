#include "app/plan_files.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ---- */

/* An object whose "format" is as expected. */
static lks_status load(const char *path, const char *format, json_t **out) {
    json_error_t error;
    *out = json_load_file(path, 0, &error);
    if (!*out && error.line < 0) return lks_fail(LKS_EIO, "cannot read %s: %s", path, error.text);
    if (!*out) return lks_fail(LKS_EDATA, "%s:%d: %s", path, error.line, error.text);
    const char *found = json_string_value(json_object_get(*out, "format"));
    if (found && strcmp(found, format) == 0) return LKS_OK;
    lks_status status = lks_fail(LKS_EDATA, "%s: its format is %s: expected \"%s\"", path,
                                 found ? found : "not given", format);
    json_decref(*out);
    *out = NULL;
    return status;
}

/* A number >= 0 of an object. */
static lks_status get(const char *path, const json_t *object, const char *key, double *out) {
    const json_t *value = json_object_get(object, key);
    *out = json_number_value(value);
    if (json_is_number(value) && *out >= 0) return LKS_OK;
    return lks_fail(LKS_EDATA, "%s: \"%s\" is missing, or no number >= 0", path, key);
}

static lks_status get_count(const char *path, const json_t *object, const char *key, int *out) {
    double value;
    lks_status status = get(path, object, key, &value);
    if (!status && !(value >= 1 && value <= 1e9))
        status = lks_fail(LKS_EDATA, "%s: \"%s\" is %g: expected 1 or more", path, key, value);
    *out = status ? 0 : (int)value;
    return status;
}

/* ---- profiles ---- */

static lks_status read_layers(const char *path, const json_t *root, lks_plan_profile *out) {
    const json_t *layers = json_object_get(root, "layers");
    out->layer_count = (int)json_array_size(layers);
    if (out->layer_count == 0) return lks_fail(LKS_EDATA, "%s: it has no layers", path);
    out->layer_forward = calloc((size_t)out->layer_count, sizeof *out->layer_forward);
    out->layer_backward = calloc((size_t)out->layer_count, sizeof *out->layer_backward);
    if (!out->layer_forward || !out->layer_backward)
        return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    lks_status status = LKS_OK;
    for (int i = 0; i < out->layer_count && !status; i++) {
        const json_t *layer = json_array_get(layers, (size_t)i);
        status = get(path, layer, "forward", &out->layer_forward[i]);
        if (!status) status = get(path, layer, "backward", &out->layer_backward[i]);
    }
    return status;
}

/* A phase's seconds in which its ranks had cores; all of them where a GPU computed. *out_share: of
 * all of its seconds. */
static lks_status get_phase(const char *path, const json_t *root, const char *key, double *out,
                            double *out_share) {
    const json_t *processor = json_object_get(root, "processor");
    double all, running = 0;
    *out_share = 1;
    lks_status status = get(path, json_object_get(root, "mean"), key, &all);
    if (!status && processor) status = get(path, processor, key, &running);
    if (!status && processor && running < all) *out_share = running / all;
    *out = *out_share * (status ? 0 : all);
    return status;
}

/* Where it is known, as on a CPU. */
static lks_status get_cores(const char *path, const json_t *root, int *out) {
    *out = 0;
    return json_object_get(root, "cores") ? get_count(path, root, "cores", out) : LKS_OK;
}

static lks_status read_profile(const char *path, const json_t *root, lks_plan_profile *out) {
    double samples, share, forward, backward;
    out->on_device = json_is_true(json_object_get(root, "on_device"));
    lks_status status = get_count(path, root, "ranks", &out->ranks);
    if (!status) status = get_count(path, root, "hosts", &out->hosts);
    if (!status && out->hosts > out->ranks)
        status = lks_fail(LKS_EDATA,
                          "%s: it has %d rank%s on %d hosts: expected one rank or more "
                          "on each host",
                          path, out->ranks, lks_plural(out->ranks), out->hosts);
    if (!status) status = get_count(path, root, "threads", &out->threads);
    if (!status) status = get(path, root, "samples", &samples);
    if (!status) status = get(path, root, "updated_parameters", &out->updated);
    if (!status) status = get(path, root, "loader", &out->loader);
    if (!status) status = get_cores(path, root, &out->cores);
    if (!status) status = get(path, json_object_get(root, "mean"), "input", &out->input);
    if (!status) status = get_phase(path, root, "other", &out->other, &share);
    if (!status) status = get_phase(path, root, "optimizer", &out->optimizer, &share);
    if (!status) status = get_phase(path, root, "forward", &out->forward, &forward);
    if (!status) status = get_phase(path, root, "backward", &out->backward, &backward);
    if (!status) status = read_layers(path, root, out);
    for (int i = 0; i < out->layer_count && !status; i++) {
        out->layer_forward[i] *= forward;
        out->layer_backward[i] *= backward;
    }
    out->rows = status ? 0 : samples / out->ranks;
    return status;
}

lks_status lks_plan_read_profile(const char *path, lks_plan_profile *out) {
    json_t *root;
    *out = (lks_plan_profile){0};
    lks_status status = load(path, "lockstep profile 1", &root);
    if (status) return status;
    status = read_profile(path, root, out);
    json_decref(root);
    if (status) lks_plan_profile_free(out);
    return status;
}

/* ---- links ---- */

static lks_status read_sample(const char *path, const json_t *entry, lks_comm_sample *out) {
    const char *name = json_string_value(json_object_get(entry, "collective"));
    double bytes;
    int kind = 0;
    while (name && kind < LKS_COMM_BENCH_KINDS &&
           strcmp(name, lks_collective_name((lks_collective)kind)) != 0)
        kind++;
    if (!name || kind == LKS_COMM_BENCH_KINDS)
        return lks_fail(LKS_EDATA,
                        "%s: \"collective\" is %s: expected all_reduce, reduce_scatter "
                        "or all_gather",
                        path, name ? name : "missing");
    lks_status status = get(path, entry, "bytes", &bytes);
    if (!status) status = get(path, entry, "seconds", &out->seconds);
    if (!status) status = get(path, entry, "busy", &out->busy);
    out->kind = (lks_collective)kind;
    out->bytes = (int64_t)bytes;
    return status;
}

static lks_status read_samples(const char *path, const json_t *root, int ranks, lks_link *out) {
    const json_t *list = json_object_get(root, "samples");
    const size_t count = json_array_size(list);
    lks_comm_sample *samples = calloc(count + 1, sizeof *samples);
    if (!samples) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    lks_status status = LKS_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = read_sample(path, json_array_get(list, i), &samples[i]);
    if (!status) {
        status = lks_link_fit(samples, (int)count, ranks, out);
        if (status) status = lks_fail_in(status, "%s", path);
    }
    free(samples);
    return status;
}

/* Whom the measurement must have joined for the level that it is to stand for. */
static lks_status check_places(const char *path, bool within_node, int ranks, int hosts) {
    if (ranks < 2) return lks_fail(LKS_EDATA, "%s: it was measured with one rank", path);
    if (within_node && hosts > 1)
        return lks_fail(LKS_EDATA, "%s: it was measured on %d hosts: expected the ranks of one",
                        path, hosts);
    if (!within_node && hosts != ranks)
        return lks_fail(LKS_EDATA,
                        "%s: it was measured with %d ranks on %d hosts: expected one "
                        "rank on each host",
                        path, ranks, hosts);
    return LKS_OK;
}

static lks_status read_file(const char *path, bool within_node, lks_link *out) {
    json_t *root;
    int ranks, hosts;
    lks_status status = load(path, "lockstep bench comm 1", &root);
    if (status) return status;
    status = get_count(path, root, "ranks", &ranks);
    if (!status) status = get_count(path, root, "hosts", &hosts);
    if (!status) status = check_places(path, within_node, ranks, hosts);
    if (!status) status = read_samples(path, root, ranks, out);
    json_decref(root);
    return status;
}

typedef struct link_settings {
    double latency, bandwidth;
} link_settings;

static const lks_option link_options[] = {
    {.key = "latency",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(link_settings, latency),
     .high = 1,
     .help = "Seconds of a message."},
    {.key = "bandwidth",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(link_settings, bandwidth),
     .low_open = true,
     .high = INFINITY,
     .help = "Bytes per second of a rank."},
    {0},
};
static const lks_option_table link_table = {.name = "link",
                                            .help = "How fast ranks exchange data.",
                                            .struct_bytes = sizeof(link_settings),
                                            .options = link_options};

lks_status lks_plan_read_link(const char *text, bool within_node, lks_link *out) {
    link_settings settings;
    if (!strchr(text, '=')) return read_file(text, within_node, out);
    if (lks_options_parse(&link_table, &settings, text, within_node ? "--node" : "--network"))
        return lks_fail_in(LKS_EUSAGE, "\"%s\"", text);
    *out = lks_link_even(settings.latency, 1 / settings.bandwidth);
    return LKS_OK;
}
