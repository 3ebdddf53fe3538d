#include "app/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/yaml.h"

const char *const lks_metric_names[] = {"train_loss", "val_loss", "train_acc",
                                        "val_acc",    "lr",       NULL};

static double number_of(const lks_node *map, const char *key) {
    const lks_node *node = lks_node_find(map, key);
    if (!node || node->kind != LKS_NODE_SCALAR || node->quoted) return NAN;
    char *end;
    double value = strtod(node->text, &end);
    return end != node->text && *end == '\0' ? value : NAN;
}

static lks_status grow(lks_metrics *metrics, int64_t *capacity) {
    if (metrics->count < *capacity) return LKS_OK;
    int64_t larger = *capacity ? 2 * *capacity : 64;
    double **arrays[LKS_METRIC_COUNT + 1] = {&metrics->epochs};
    for (int i = 0; i < LKS_METRIC_COUNT; i++)
        arrays[i + 1] = &metrics->values[i];
    for (int i = 0; i <= LKS_METRIC_COUNT; i++) {
        double *grown = realloc(*arrays[i], (size_t)larger * sizeof *grown);
        if (!grown) return lks_fail(LKS_ENOMEM, "out of memory");
        *arrays[i] = grown;
    }
    *capacity = larger;
    return LKS_OK;
}

/* A record of another kind than `epoch` says nothing here. */
static lks_status add_record(lks_metrics *metrics, const lks_node *record, int64_t *capacity) {
    const lks_node *kind = lks_node_find(record, "kind");
    if (!kind || kind->kind != LKS_NODE_SCALAR || strcmp(kind->text, "epoch") != 0) return LKS_OK;
    double epoch = number_of(record, "epoch");
    if (!(epoch >= 1)) return lks_fail(LKS_EDATA, "an epoch without its number");
    while (metrics->count > 0 && metrics->epochs[metrics->count - 1] >= epoch)
        metrics->count--;
    lks_status status = grow(metrics, capacity);
    if (status) return status;
    metrics->epochs[metrics->count] = epoch;
    for (int i = 0; i < LKS_METRIC_COUNT; i++)
        metrics->values[i][metrics->count] = number_of(record, lks_metric_names[i]);
    metrics->count++;
    return LKS_OK;
}

/* JSON is YAML. */
static lks_status read_line(lks_metrics *metrics, const char *line, int64_t *capacity) {
    lks_arena arena = {0};
    lks_node *record = NULL;
    lks_status status = lks_yaml_parse(&arena, "", line, &record);
    if (status == LKS_ECONFIG || (!status && record->kind != LKS_NODE_MAP))
        status = lks_fail(LKS_EDATA, "expected a JSON object");
    if (!status) status = add_record(metrics, record, capacity);
    lks_arena_free(&arena);
    return status;
}

lks_status lks_metrics_read(const char *path, lks_metrics *out) {
    *out = (lks_metrics){0};
    int64_t capacity = 0, number = 0;
    char *line = NULL;
    size_t bytes = 0;
    ssize_t length;
    lks_status status = LKS_OK;
    FILE *file = fopen(path, "r");
    if (!file) return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(errno));
    errno = 0;
    while (!status && (length = getline(&line, &bytes, file)) > 0) {
        number++;
        if (line[length - 1] != '\n') break;
        if (length > 1) status = read_line(out, line, &capacity);
    }
    if (status)
        lks_fail_in(status, "%s:%lld", path, (long long)number);
    else if (ferror(file))
        status = lks_fail(LKS_EIO, "cannot read %s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

void lks_metrics_free(lks_metrics *metrics) {
    free(metrics->epochs);
    for (int i = 0; i < LKS_METRIC_COUNT; i++)
        free(metrics->values[i]);
    *metrics = (lks_metrics){0};
}

bool lks_metrics_has(const lks_metrics *metrics, lks_metric metric) {
    for (int64_t i = 0; metric < LKS_METRIC_COUNT && i < metrics->count; i++)
        if (isfinite(metrics->values[metric][i])) return true;
    return false;
}
