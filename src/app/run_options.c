#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/run_parse.h"

enum { MAX_KEYS = 128 };

lks_status lks_run_out_of_memory(const lks_node *node) {
    lks_fail(LKS_ENOMEM, "out of memory");
    return lks_node_fail_in(node, LKS_ENOMEM);
}

static bool is_other_key(const lks_map_reader *reader, const char *key) {
    for (int i = 0; reader->other_keys && reader->other_keys[i]; i++)
        if (strcmp(reader->other_keys[i], key) == 0) return true;
    return false;
}

/* Puts what and where in front of the recorded error. */
static lks_status locate(const lks_map_reader *reader, const lks_node *node, lks_status status) {
    if (reader->what) lks_fail_in(status, "%s", reader->what);
    return lks_node_fail_in(node, status);
}

static lks_status refuse_key(const lks_map_reader *reader, const lks_node *node) {
    const char *known[MAX_KEYS];
    size_t count = 0;
    for (const lks_option *o = reader->table->options; o->key && count < MAX_KEYS; o++)
        known[count++] = o->key;
    for (int i = 0; reader->other_keys && reader->other_keys[i] && count < MAX_KEYS; i++)
        known[count++] = reader->other_keys[i];
    const char *nearest = lks_nearest_name(node->key, known, count);
    if (nearest) {
        lks_fail(LKS_ECONFIG, "unknown option \"%s\": did you mean \"%s\"?", node->key, nearest);
        return locate(reader, node, LKS_ECONFIG);
    }
    lks_strbuf list = {0};
    for (size_t i = 0; i < count; i++)
        lks_strbuf_add(&list, "%s%s", i ? ", " : "", known[i]);
    lks_fail(LKS_ECONFIG, "unknown option \"%s\": known are %s", node->key,
             list.text && !list.failed ? list.text : "none");
    lks_strbuf_free(&list);
    return locate(reader, node, LKS_ECONFIG);
}

/* What stands at `node` is of the wrong kind altogether. */
static lks_status refuse_kind(const lks_option *option, const lks_node *node) {
    lks_strbuf expected = {0};
    lks_option_print_expected(option, &expected);
    const char *given = node->kind == LKS_NODE_MAP    ? "a map"
                        : node->kind == LKS_NODE_LIST ? "a list of lists or maps"
                                                      : "nothing";
    lks_status status = lks_fail(LKS_ECONFIG, "%s: %s stands here: expected %s", option->key, given,
                                 expected.failed ? "another value" : expected.text);
    lks_strbuf_free(&expected);
    return status;
}

/* A data file named in a run file lies beside it; one named on the command line (a node without a
 * line) lies where the user is. */
static const char *locate_path(const lks_run_parser *parser, const lks_node *node) {
    if (node->line == 0 || node->text[0] == '/') return node->text;
    return lks_arena_printf(parser->arena, "%s%s", parser->directory, node->text);
}

/* The resolved run file is kept in another folder, so its paths are absolute. */
static const char *absolute_path(const lks_run_parser *parser, const char *path) {
    if (path[0] == '/') return path;
    char *here = getcwd(NULL, 0);
    const char *absolute = here ? lks_arena_printf(parser->arena, "%s/%s", here, path) : path;
    free(here);
    return absolute;
}

static lks_status assign_path(lks_run_parser *parser, const lks_option *option,
                              const lks_node *node, void *config, lks_strbuf *text) {
    const char *path = locate_path(parser, node);
    const char *absolute = path ? absolute_path(parser, path) : NULL;
    if (!absolute) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_options_append_text(text, option->key, &path, 1, false);
    return lks_option_assign(option, config, &absolute, 1, false);
}

/* Stores one option's value in `config` and appends it to `text`. */
static lks_status assign(lks_run_parser *parser, const lks_option *option, const lks_node *node,
                         void *config, lks_strbuf *text) {
    if (node->kind == LKS_NODE_MAP || lks_node_is_null(node)) return refuse_kind(option, node);
    if (node->kind == LKS_NODE_SCALAR && option->type == LKS_OPTION_PATH)
        return assign_path(parser, option, node, config, text);
    if (node->kind == LKS_NODE_SCALAR) {
        lks_options_append_text(text, option->key, &node->text, 1, false);
        return lks_option_assign(option, config, &node->text, 1, false);
    }
    int count = lks_node_count(node), i = 0;
    const char **values = calloc((size_t)count + 1, sizeof *values);
    if (!values) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = LKS_OK;
    for (const lks_node *element = node->first; element && !status; element = element->next) {
        if (element->kind != LKS_NODE_SCALAR)
            status = refuse_kind(option, node);
        else
            values[i++] = element->text;
    }
    if (!status) {
        lks_options_append_text(text, option->key, values, count, true);
        status = lks_option_assign(option, config, values, count, true);
    }
    free(values);
    return status;
}

/* All options that have a value, as a user would write them. */
static void print_resolved(lks_run_parser *parser, const lks_map_reader *reader, const void *config,
                           uint64_t given) {
    for (int i = 0; reader->table->options[i].key; i++) {
        const lks_option *option = &reader->table->options[i];
        if (!option->text && !(given >> i & 1)) continue;
        lks_strbuf_add(&parser->resolved, "%s%s: ", reader->separator, option->key);
        lks_option_print(option, config, &parser->resolved);
    }
}

static lks_status read_elements(lks_run_parser *parser, const lks_map_reader *reader,
                                const lks_node *map, void *config, lks_strbuf *text,
                                uint64_t *given) {
    for (const lks_node *node = map->first; node; node = node->next) {
        if (is_other_key(reader, node->key)) continue;
        const lks_option *option = lks_options_find(reader->table, node->key);
        if (!option) return refuse_key(reader, node);
        if (lks_node_is_null(node) && option->optional) continue;
        lks_status status = assign(parser, option, node, config, text);
        if (status) return locate(reader, node, status);
        *given |= UINT64_C(1) << (option - reader->table->options);
    }
    return LKS_OK;
}

lks_status lks_run_read_options(lks_run_parser *parser, const lks_map_reader *reader,
                                const lks_node *map, void *config, const char **out_text) {
    /* A scalar that the caller accepts, such as a type's name, has no elements. */
    static const lks_node nothing = {.kind = LKS_NODE_SCALAR, .source = "the run file"};
    if (!map) map = &nothing;
    lks_strbuf text = {0};
    uint64_t given = 0;
    lks_status status = lks_options_init(reader->table, config);
    if (status) return status;
    status = read_elements(parser, reader, map, config, &text, &given);
    if (!status) {
        status = lks_options_check_required(reader->table, given);
        if (status) status = locate(reader, map, status);
    }
    if (!status && out_text) {
        *out_text = lks_arena_copy(parser->arena, text.text ? text.text : "", text.length);
        if (text.failed || !*out_text) status = lks_run_out_of_memory(map);
    }
    if (!status) print_resolved(parser, reader, config, given);
    lks_strbuf_free(&text);
    return status;
}

lks_status lks_run_read_type(lks_run_parser *parser, const lks_section *section,
                             const lks_node *node, const char **out_type,
                             const lks_option_table **out_table) {
    (void)parser;
    const lks_node *type = node->kind == LKS_NODE_MAP ? lks_node_find(node, "type") : node;
    if (!type) return lks_node_fail(node, "%s: the key \"type\" is missing", section->name);
    if (type->kind != LKS_NODE_SCALAR || lks_node_is_null(type))
        return lks_node_fail(type, "%s: expected a type's name or a map with the key \"type\"",
                             section->name);
    *out_type = type->text;
    lks_status status = lks_section_type(section, type->text, out_table);
    return status ? lks_node_fail_in(type, status) : LKS_OK;
}

lks_status lks_run_read_spec(lks_run_parser *parser, const lks_section *section, const char *name,
                             const char *separator, const lks_node *node, lks_spec *out) {
    static const char *const other_keys[] = {"type", NULL};
    const lks_option_table *table;
    lks_status status = lks_run_read_type(parser, section, node, &out->type, &table);
    if (status) return status;
    const char *what = lks_arena_printf(parser->arena, "%s %s", name, out->type);
    void *config = calloc(1, table->struct_bytes + 1);
    out->where = lks_node_where(parser->arena, node);
    if (!what || !config || !out->where) {
        free(config);
        return lks_run_out_of_memory(node);
    }
    lks_strbuf_add(&parser->resolved, "%s%s: {type: %s", separator, name, out->type);
    lks_map_reader reader = {table, what, other_keys, ", "};
    status = lks_run_read_options(parser, &reader, node, config, &out->options);
    lks_strbuf_add(&parser->resolved, "}");
    lks_options_free(table, config);
    free(config);
    return status;
}
