#include "app/run_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/run_parse.h"
#include "data/data.h"
#include "sched/sched.h"
#include "train/train.h"

enum { MAX_FILE_BYTES = 16 << 20 };

/* The keys of the top level that have sections of their own. */
static const char *const section_keys[] = {"data",       "model",    "loss",           "optimizer",
                                           "gradients",  "schedule", "early_stopping", "init_from",
                                           "checkpoint", NULL};

typedef struct model_settings {
    lks_int_list input;
} model_settings;

static const lks_option model_options[] = {
    {.key = "input",
     .type = LKS_OPTION_INT_LIST,
     .offset = offsetof(model_settings, input),
     .low = 1,
     .high = 1e15,
     .optional = true,
     .help = "The shape of one sample."},
    {0},
};
static const lks_option_table model_table = {
    .name = "model",
    .help = "The model.",
    .struct_bytes = sizeof(model_settings),
    .options = model_options,
};

/* ---- the sections ---- */

/* The scalars of the top level: those of the training and those of the machine. */
static lks_status read_top(lks_run_parser *parser, const lks_node *root, lks_run *run) {
    const char **beside_train =
        lks_run_join_keys(parser->arena, section_keys, &lks_machine_options);
    const char **beside_machine =
        lks_run_join_keys(parser->arena, section_keys, &lks_train_options);
    if (!beside_train || !beside_machine) return lks_run_out_of_memory(root);
    lks_map_reader train = {&lks_train_options, NULL, beside_train, "\n", NULL};
    lks_map_reader machine = {&lks_machine_options, NULL, beside_machine, "\n", NULL};
    const lks_train_config defaults = LKS_TRAIN_CONFIG_DEFAULT;
    lks_status status = lks_run_read_options(parser, &train, root, &run->config, NULL);
    run->config.loss = defaults.loss;
    run->config.optimizer = defaults.optimizer;
    run->config.progress_seconds = defaults.progress_seconds;
    if (status) return status;
    if (run->config.output && !*run->config.output)
        return lks_node_fail(lks_node_find(root, "output"),
                             "output is empty: expected a folder's name, or null for a run that "
                             "writes nothing");
    return lks_run_read_options(parser, &machine, root, &run->machine, NULL);
}

/* NULL where the section is not given or null; an error where it is no map. */
static lks_status find_map(const lks_node *root, const char *key, const lks_node **out) {
    const lks_node *node = lks_node_find(root, key);
    *out = node && !lks_node_is_null(node) ? node : NULL;
    if (*out && node->kind != LKS_NODE_MAP)
        return lks_node_fail(node, "%s: expected a map of keys and values", key);
    return LKS_OK;
}

static lks_status read_data(lks_run_parser *parser, const lks_node *root, lks_run *run) {
    static const char *const other_keys[] = {"train", "validation", NULL};
    lks_map_reader reader = {&lks_data_settings_options, "data", other_keys, "\n  ", NULL};
    lks_data_settings settings;
    const lks_node *data;
    lks_status status = find_map(root, "data", &data);
    if (status) return status;
    lks_strbuf_add(&parser->resolved, "\ndata:");
    lks_spec *specs[] = {&run->train, &run->validation};
    for (int i = 0; i < 2 && !status; i++) {
        const lks_node *node = data ? lks_node_find(data, other_keys[i]) : NULL;
        const char *name = i == 0 ? "train" : "validation";
        if (node && !lks_node_is_null(node))
            status = lks_run_read_spec(parser, lks_section_find("dataset"), name, "\n  ", node,
                                       specs[i]);
    }
    if (status) return status;
    status = lks_run_read_options(parser, &reader, data, &settings, &run->config.data);
    run->memory_bytes = settings.memory_bytes;
    lks_options_free(&lks_data_settings_options, &settings);
    return status;
}

static lks_status set_input(const lks_node *model, const lks_int_list *input, lks_shape *out) {
    if (input->count > LKS_MAX_DIMS)
        return lks_node_fail(model, "model: input: %d dimensions: expected %d at most",
                             input->count, LKS_MAX_DIMS);
    out->rank = input->count;
    for (int i = 0; i < input->count; i++)
        out->dim[i] = input->values[i];
    return LKS_OK;
}

static lks_status read_model(lks_run_parser *parser, const lks_node *root, lks_run *run) {
    static const char *const other_keys[] = {"layers", NULL};
    lks_map_reader reader = {&model_table, "model", other_keys, "\n  ", NULL};
    model_settings settings;
    const lks_node *model, *layers;
    lks_status status = find_map(root, "model", &model);
    if (status) return status;
    layers = model ? lks_node_find(model, "layers") : NULL;
    if (!layers) return lks_node_fail(model ? model : root, "model: the key \"layers\" is missing");
    lks_strbuf_add(&parser->resolved, "\nmodel:");
    status = lks_run_read_options(parser, &reader, model, &settings, NULL);
    if (!status) status = set_input(model, &settings.input, &run->input);
    lks_options_free(&model_table, &settings);
    if (status) return status;
    lks_strbuf_add(&parser->resolved, "\n  layers:");
    return lks_run_read_layers(parser, layers, &run->layers);
}

/* loss and schedule: without the key, *out stays as it is. */
static lks_status read_typed(lks_run_parser *parser, const lks_node *root, const char *key,
                             lks_spec *out) {
    const lks_node *node = lks_node_find(root, key);
    lks_node standard = {.kind = LKS_NODE_SCALAR, .source = "the default", .text = out->type};
    if (!node || lks_node_is_null(node)) {
        if (!out->type) return LKS_OK;
        node = &standard;
    }
    return lks_run_read_spec(parser, lks_section_find(key), key, "\n", node, out);
}

/* early_stopping, gradients and checkpoint: *out stays NULL where the section is not given.
 * always: its defaults hold then, so the resolved text has them. */
static lks_status read_table(lks_run_parser *parser, const lks_node *root, const char *key,
                             bool always, const char **out) {
    const lks_option_table *table = lks_section_find(key)->table;
    const lks_node *node;
    lks_status status = find_map(root, key, &node);
    if (status || (!node && !always)) return status;
    void *config = calloc(1, table->struct_bytes + 1);
    if (!config) return lks_run_out_of_memory(root);
    lks_map_reader reader = {table, key, NULL, "\n  ", NULL};
    lks_strbuf_add(&parser->resolved, "\n%s:", key);
    status = lks_run_read_options(parser, &reader, node, config, node ? out : NULL);
    lks_options_free(table, config);
    free(config);
    return status;
}

static lks_status read_init_from(lks_run_parser *parser, const lks_node *root, lks_run *run) {
    static const char *const other_keys[] = {"params", "exclude", NULL};
    const char **words[] = {&run->init_params, &run->init_exclude};
    lks_map_reader reader = {&lks_init_from_options, "init_from", other_keys, "\n  ", NULL};
    lks_init_from_settings settings;
    const lks_node *map;
    lks_status status = find_map(root, "init_from", &map);
    if (status || !map) return status;
    lks_strbuf_add(&parser->resolved, "\ninit_from:");
    status = lks_run_read_options(parser, &reader, map, &settings, NULL);
    if (!status && !(run->init_from = lks_arena_printf(parser->arena, "%s", settings.path)))
        status = lks_run_out_of_memory(map);
    lks_options_free(&lks_init_from_options, &settings);
    for (int i = 0; i < 2 && !status; i++) {
        const lks_node *node = lks_node_find(map, other_keys[i]);
        if (!node || lks_node_is_null(node)) continue;
        lks_strbuf_add(&parser->resolved, "\n  ");
        status = lks_run_read_words(parser, node, "init_from", words[i]);
    }
    return status;
}

/* What the options of a schedule say only together. */
static lks_status check_schedule(const lks_spec *spec) {
    lks_schedule *schedule;
    lks_status status = lks_schedule_create(spec, 0, &schedule);
    if (!status) lks_schedule_destroy(schedule);
    return status;
}

static lks_status read_sections(lks_run_parser *parser, const lks_node *root, lks_run *run) {
    lks_status status = read_top(parser, root, run);
    if (!status) status = read_data(parser, root, run);
    if (!status) status = read_model(parser, root, run);
    if (!status) status = read_typed(parser, root, "loss", &run->config.loss);
    if (!status)
        status = lks_run_read_optimizer(parser, lks_node_find(root, "optimizer"), &run->config);
    if (!status) status = read_typed(parser, root, "schedule", &run->config.schedule);
    if (!status) status = check_schedule(&run->config.schedule);
    if (!status)
        status = read_table(parser, root, "early_stopping", false, &run->config.early_stopping);
    if (!status) status = read_table(parser, root, "gradients", true, &run->config.gradients);
    if (!status) status = read_table(parser, root, "checkpoint", true, &run->config.checkpoint);
    if (!status) status = read_init_from(parser, root, run);
    return status;
}

static const char *directory_of(lks_arena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? lks_arena_copy(arena, path, (size_t)(slash - path) + 1) : "";
}

lks_status lks_run_parse(const char *path, const char *text, const lks_override *overrides,
                         int count, lks_run *out) {
    *out = (lks_run){0};
    lks_run_parser parser = {.arena = &out->arena};
    lks_node *root = NULL;
    const char *source = lks_arena_copy(&out->arena, path, strlen(path));
    parser.directory = directory_of(&out->arena, path);
    lks_status status = source && parser.directory
                            ? lks_yaml_parse(&out->arena, source, text, &root)
                            : lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    if (!status && root->kind != LKS_NODE_MAP)
        status = lks_node_fail(root, "expected a map of keys and values, as in docs/config.md");
    for (int i = 0; i < count && !status; i++)
        status = lks_run_override(&out->arena, root, &overrides[i]);
    if (!status) status = read_sections(&parser, root, out);
    if (!status) {
        lks_strbuf_add(&parser.resolved, "\n");
        out->config.run_file =
            parser.resolved.failed
                ? NULL
                : lks_arena_copy(&out->arena, parser.resolved.text + 1, parser.resolved.length - 1);
        if (!out->config.run_file) status = lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    }
    lks_strbuf_free(&parser.resolved);
    if (status) lks_run_free(out);
    return status;
}

void lks_run_free(lks_run *run) {
    lks_options_free(&lks_train_options, &run->config);
    lks_options_free(&lks_machine_options, &run->machine);
    lks_arena_free(&run->arena);
    *run = (lks_run){0};
}

lks_status lks_run_read_text(const char *path, char **out) {
    lks_strbuf text = {0};
    char block[4096];
    size_t count;
    errno = 0;
    FILE *file = fopen(path, "rb");
    if (!file) return lks_fail(LKS_EIO, "cannot open the run file %s: %s", path, strerror(errno));
    lks_status status = LKS_OK;
    while (!status && (count = fread(block, 1, sizeof block, file)) > 0) {
        lks_strbuf_add_bytes(&text, block, count);
        if (text.length > MAX_FILE_BYTES)
            status = lks_fail(LKS_ECONFIG, "%s: longer than 16 MiB: this is no run file", path);
        else if (memchr(block, 0, count))
            status = lks_fail(LKS_ECONFIG, "%s: holds zero bytes: this is no run file", path);
    }
    lks_strbuf_add_bytes(&text, "", 0);
    if (!status && ferror(file))
        status = lks_fail(LKS_EIO, "cannot read the run file %s: %s", path, strerror(errno));
    else if (!status && text.failed)
        status = lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    fclose(file);
    if (status)
        lks_strbuf_free(&text);
    else
        *out = text.text;
    return status;
}

lks_status lks_run_load(const char *path, const lks_override *overrides, int count, lks_run *out) {
    char *text;
    lks_status status = lks_run_read_text(path, &text);
    if (status) return status;
    status = lks_run_parse(path, text, overrides, count, out);
    free(text);
    return status;
}
