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

/* What has been read of a map. */
typedef struct reading {
    lks_run_parser *parser;
    const lks_map_reader *reader;
    void *config;
    lks_strbuf text;  /* what was given, in lks_spec's text form */
    lks_strbuf specs; /* the resolved text of the table's SPEC_LIST */
    uint64_t given;   /* bit i: option i of the table */
} reading;

const char **lks_run_join_keys(lks_arena *arena, const char *const *keys,
                               const lks_option_table *table) {
    size_t count = 0, options = 0;
    while (keys[count])
        count++;
    while (table->options[options].key)
        options++;
    const char **joined = lks_arena_alloc(arena, (count + options + 1) * sizeof *joined);
    for (size_t i = 0; joined && i < count; i++)
        joined[i] = keys[i];
    for (size_t i = 0; joined && i < options; i++)
        joined[count + i] = table->options[i].key;
    return joined;
}

/* Puts what and where in front of the recorded error. */
static lks_status locate(const lks_map_reader *reader, const lks_node *node, lks_status status) {
    if (reader->what) lks_fail_in(status, "%s", reader->what);
    return lks_node_fail_in(node, status);
}

/* An option called "every.steps" stands in a map of its own, `every: {steps: 500}`. The length of
 * the map's name with the dot; 0 of any other option. */
static size_t map_length(const lks_option *option) {
    const char *dot = strchr(option->key, '.');
    return dot ? (size_t)(dot - option->key) + 1 : 0;
}

static bool is_in_map(const lks_option *option, const char *map) {
    size_t length = map_length(option);
    return length == strlen(map) + 1 && strncmp(option->key, map, length - 1) == 0;
}

/* map: the map of its own in which the key stands, or NULL. */
static lks_status refuse_key(const reading *in, const char *map, const lks_node *node) {
    const lks_map_reader *reader = in->reader;
    const char *known[MAX_KEYS];
    size_t count = 0;
    for (const lks_option *o = reader->table->options; o->key && count < MAX_KEYS; o++) {
        if (map && !is_in_map(o, map)) continue;
        size_t length = map_length(o);
        const char *name = map || !length ? o->key + length
                                          : lks_arena_copy(in->parser->arena, o->key, length - 1);
        if (name && (!count || strcmp(name, known[count - 1]) != 0)) known[count++] = name;
    }
    for (int i = 0; !map && reader->other_keys && reader->other_keys[i] && count < MAX_KEYS; i++)
        known[count++] = reader->other_keys[i];
    lks_status status = lks_fail_unknown("option", node->key, known, count);
    if (map) lks_fail_in(status, "%s", map);
    return locate(reader, node, status);
}

/* What stands at `node` is of the wrong kind altogether. */
static lks_status refuse_kind(const lks_option *option, const lks_node *node) {
    lks_strbuf expected = {0};
    lks_option_print_expected(option, &expected);
    const char *given = node->kind == LKS_NODE_MAP    ? "a map"
                        : node->kind == LKS_NODE_LIST ? "a list of lists or maps"
                        : lks_node_is_null(node)      ? "nothing"
                                                      : "one value";
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

static lks_status assign_path(reading *in, const lks_option *option, const lks_node *node) {
    const char *path = locate_path(in->parser, node);
    const char *absolute = path ? absolute_path(in->parser, path) : NULL;
    if (!absolute) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_options_append_text(&in->text, option->key, &path, 1, false);
    return lks_option_assign(option, in->config, &absolute, 1, false);
}

static lks_status read_spec(lks_run_parser *parser, const lks_section *section, const char *name,
                            const lks_option_table *outer, const lks_node *node, lks_spec *out);

/* One element of a SPEC_LIST, `{type: T, options}` or `T`, as "T key=value ..."; its resolved text
 * goes to in->specs. */
static lks_status read_list_spec(reading *in, const lks_option *option, int index,
                                 const lks_node *node, const char **out) {
    lks_run_parser *parser = in->parser;
    lks_spec spec = {0};
    const char *name = lks_arena_printf(parser->arena, "%s[%d]", option->key, index);
    if (!name) return lks_run_out_of_memory(node);
    lks_strbuf outer = parser->resolved;
    parser->resolved = in->specs;
    lks_strbuf_add(&parser->resolved, "%s{type: ", index ? ", " : "");
    lks_status status =
        read_spec(parser, lks_section_find(option->section), name, in->reader->table, node, &spec);
    lks_strbuf_add(&parser->resolved, "}");
    in->specs = parser->resolved;
    parser->resolved = outer;
    if (status) return status;
    *out = lks_arena_printf(parser->arena, "%s%s%s", spec.type, *spec.options ? " " : "",
                            spec.options);
    return *out ? LKS_OK : lks_run_out_of_memory(node);
}

static lks_status read_values(reading *in, const lks_option *option, const lks_node *node,
                              const char **values) {
    int i = 0;
    for (const lks_node *element = node->first; element; element = element->next, i++) {
        lks_status status = LKS_OK;
        if (option->type == LKS_OPTION_SPEC_LIST)
            status = read_list_spec(in, option, i, element, &values[i]);
        else if (element->kind == LKS_NODE_SCALAR)
            values[i] = element->text;
        else
            status = locate(in->reader, node, refuse_kind(option, node));
        if (status) return status;
    }
    return LKS_OK;
}

static lks_status assign_list(reading *in, const lks_option *option, const lks_node *node) {
    int count = lks_node_count(node);
    const char **values = calloc((size_t)count + 1, sizeof *values);
    if (!values) return lks_run_out_of_memory(node);
    lks_status status = read_values(in, option, node, values);
    if (!status) {
        lks_options_append_text(&in->text, option->key, values, count, true);
        status = lks_option_assign(option, in->config, values, count, true);
        if (status) locate(in->reader, node, status);
    }
    free(values);
    return status;
}

/* Stores one option's value in the struct and appends it to the text. */
static lks_status assign(reading *in, const lks_option *option, const lks_node *node) {
    if (node->kind == LKS_NODE_LIST) return assign_list(in, option, node);
    bool unfit = node->kind == LKS_NODE_MAP || lks_node_is_null(node) ||
                 option->type == LKS_OPTION_SPEC_LIST;
    lks_status status = unfit ? refuse_kind(option, node) : LKS_OK;
    if (!status && option->type == LKS_OPTION_PATH) {
        status = assign_path(in, option, node);
    } else if (!status) {
        lks_options_append_text(&in->text, option->key, &node->text, 1, false);
        status = lks_option_assign(option, in->config, &node->text, 1, false);
    }
    return status ? locate(in->reader, node, status) : LKS_OK;
}

/* What stands before an option of the resolved text, maps of their own included. *map: the option
 * whose map is open; NULL: none. */
static void print_separator(const lks_map_reader *reader, const lks_option *option,
                            const lks_option **map, lks_strbuf *resolved) {
    size_t length = option ? map_length(option) : 0;
    bool same =
        *map && length == map_length(*map) && strncmp(option->key, (*map)->key, length) == 0;
    if (*map && !same) lks_strbuf_add(resolved, "}");
    if (option) lks_strbuf_add(resolved, "%s", same ? ", " : reader->separator);
    if (length && !same) lks_strbuf_add(resolved, "%.*s: {", (int)length - 1, option->key);
    *map = length ? option : NULL;
}

/* All options that have a value, as a user would write them. */
static void print_resolved(reading *in) {
    const lks_map_reader *reader = in->reader;
    lks_strbuf *resolved = &in->parser->resolved;
    const lks_option *map = NULL;
    for (int i = 0; reader->table->options[i].key; i++) {
        const lks_option *option = &reader->table->options[i];
        bool given = in->given >> i & 1;
        if (!option->text && !given) continue;
        /* In a list's element, what the map around it says counts. */
        if (!given && reader->outer && lks_options_find(reader->outer, option->key)) continue;
        print_separator(reader, option, &map, resolved);
        lks_strbuf_add(resolved, "%s: ", option->key + map_length(option));
        if (option->type == LKS_OPTION_SPEC_LIST)
            lks_strbuf_add(resolved, "[%s]", in->specs.text ? in->specs.text : "");
        else
            lks_option_print(option, in->config, resolved);
    }
    print_separator(reader, NULL, &map, resolved);
    resolved->failed = resolved->failed || in->specs.failed;
}

static lks_status read_element(reading *in, const lks_option *option, const lks_node *node) {
    if (lks_node_is_null(node) && option->optional) return LKS_OK;
    lks_status status = assign(in, option, node);
    in->given |= UINT64_C(1) << (option - in->reader->table->options);
    return status;
}

/* The options of a map of their own, "every.steps" and its like. */
static lks_status read_own_map(reading *in, const lks_node *map) {
    const lks_map_reader *reader = in->reader;
    if (lks_node_is_null(map)) return LKS_OK;
    if (map->kind != LKS_NODE_MAP) {
        lks_fail(LKS_ECONFIG, "%s: expected a map of keys and values", map->key);
        return locate(reader, map, LKS_ECONFIG);
    }
    for (const lks_node *node = map->first; node; node = node->next) {
        const lks_option *option = reader->table->options;
        while (option->key && !(is_in_map(option, map->key) &&
                                strcmp(option->key + map_length(option), node->key) == 0))
            option++;
        if (!option->key) return refuse_key(in, map->key, node);
        lks_status status = read_element(in, option, node);
        if (status) return status;
    }
    return LKS_OK;
}

static bool names_own_map(const lks_option_table *table, const char *key) {
    for (const lks_option *option = table->options; option->key; option++)
        if (is_in_map(option, key)) return true;
    return false;
}

static lks_status read_elements(reading *in, const lks_node *map) {
    const lks_map_reader *reader = in->reader;
    for (const lks_node *node = map->first; node; node = node->next) {
        if (is_other_key(reader, node->key)) continue;
        const lks_option *option = lks_options_find(reader->table, node->key);
        bool own_map = !option && names_own_map(reader->table, node->key);
        if (!own_map && (!option || map_length(option))) return refuse_key(in, NULL, node);
        lks_status status = own_map ? read_own_map(in, node) : read_element(in, option, node);
        if (status) return status;
    }
    return LKS_OK;
}

lks_status lks_run_read_options(lks_run_parser *parser, const lks_map_reader *reader,
                                const lks_node *map, void *config, const char **out_text) {
    /* A scalar that the caller accepts, such as a type's name, has no elements. */
    static const lks_node nothing = {.kind = LKS_NODE_SCALAR, .source = "the run file"};
    if (!map) map = &nothing;
    reading in = {.parser = parser, .reader = reader, .config = config};
    lks_status status = lks_options_init(reader->table, config);
    if (status) return status;
    status = read_elements(&in, map);
    if (!status) {
        status = lks_options_check_required(reader->table, in.given);
        if (status) status = locate(reader, map, status);
    }
    if (!status && out_text) {
        *out_text = lks_arena_copy(parser->arena, in.text.text ? in.text.text : "", in.text.length);
        if (in.text.failed || !*out_text) status = lks_run_out_of_memory(map);
    }
    if (!status) print_resolved(&in);
    lks_strbuf_free(&in.text);
    lks_strbuf_free(&in.specs);
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

/* What stands behind `{type: ` in the resolved text. outer: as in lks_map_reader. */
static lks_status read_spec(lks_run_parser *parser, const lks_section *section, const char *name,
                            const lks_option_table *outer, const lks_node *node, lks_spec *out) {
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
    lks_strbuf_add(&parser->resolved, "%s", out->type);
    lks_map_reader reader = {table, what, other_keys, ", ", outer};
    status = lks_run_read_options(parser, &reader, node, config, &out->options);
    lks_options_free(table, config);
    free(config);
    return status;
}

lks_status lks_run_read_spec(lks_run_parser *parser, const lks_section *section, const char *name,
                             const char *separator, const lks_node *node, lks_spec *out) {
    lks_strbuf_add(&parser->resolved, "%s%s: {type: ", separator, name);
    lks_status status = read_spec(parser, section, name, NULL, node, out);
    lks_strbuf_add(&parser->resolved, "}");
    return status;
}
