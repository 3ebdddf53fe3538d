#include <stdlib.h>
#include <string.h>

#include "app/run_parse.h"
#include "engine/engine.h"

static const char *const plain_keys[] = {"type", "name", NULL};
static const char *const container_keys[] = {"type", "name", "block", "shortcut", NULL};

/* Where a list of layers stands. */
typedef struct layer_place {
    const char *prefix; /* of the layers' paths: "", "3.block." */
    int indent;         /* in the resolved text */
} layer_place;

static lks_status read_list(lks_run_parser *parser, const lks_node *list, layer_place place,
                            const lks_layer_spec **out);

static lks_status read_name(const lks_node *node, const char **out) {
    const lks_node *name = node->kind == LKS_NODE_MAP ? lks_node_find(node, "name") : NULL;
    *out = NULL;
    if (!name || lks_node_is_null(name)) return LKS_OK;
    if (name->kind != LKS_NODE_SCALAR || !*name->text)
        return lks_node_fail(name, "layer: expected a text as its name");
    *out = name->text;
    return LKS_OK;
}

/* The lists inside a container, each under its key. */
static lks_status read_inner(lks_run_parser *parser, const lks_node *node, const char *key,
                             layer_place outer, const char *path, const lks_layer_spec **out) {
    const lks_node *list = lks_node_find(node, key);
    if (!list || lks_node_is_null(list)) return LKS_OK;
    layer_place place = {lks_arena_printf(parser->arena, "%s.%s.", path, key), outer.indent + 4};
    if (!place.prefix) return lks_run_out_of_memory(list);
    lks_strbuf_add(&parser->resolved, "\n%*s%s:", outer.indent + 2, "", key);
    return read_list(parser, list, place, out);
}

static lks_status read_container(lks_run_parser *parser, const lks_node *node, layer_place place,
                                 const char *path, lks_layer_spec *out) {
    const lks_node *block = node->kind == LKS_NODE_MAP ? lks_node_find(node, "block") : NULL;
    if (!block || lks_node_is_null(block))
        return lks_node_fail(node,
                             "layer %s: the key \"block\" is missing, the list of layers "
                             "inside it",
                             path);
    lks_status status = read_inner(parser, node, "block", place, path, &out->block);
    return status ? status : read_inner(parser, node, "shortcut", place, path, &out->shortcut);
}

/* The options of a layer whose type, name and place are known. */
static lks_status read_options(lks_run_parser *parser, const lks_node *node,
                               const lks_option_table *table, const char *path,
                               const char *separator, lks_layer_spec *out) {
    const char *what = lks_arena_printf(parser->arena, "layer %s", path);
    void *config = calloc(1, table->struct_bytes + 1);
    if (!what || !config) {
        free(config);
        return lks_run_out_of_memory(node);
    }
    lks_map_reader reader = {
        .table = table,
        .what = what,
        .other_keys = lks_layer_is_container(out->type) ? container_keys : plain_keys,
        .separator = separator,
    };
    lks_status status = lks_run_read_options(parser, &reader, node, config, &out->options);
    lks_options_free(table, config);
    free(config);
    return status;
}

/* A container is printed in block style, its own options on lines of their own:
 *
 *     - type: residual
 *       block:
 *         - {type: relu}
 */
static lks_status read_layer(lks_run_parser *parser, const lks_node *node, int index,
                             layer_place place, lks_layer_spec *out) {
    const lks_option_table *table;
    lks_status status =
        lks_run_read_type(parser, lks_section_find("layer"), node, &out->type, &table);
    if (!status) status = read_name(node, &out->name);
    if (status) return status;
    bool container = lks_layer_is_container(out->type);
    const char *path = out->name ? lks_arena_printf(parser->arena, "%s%s", place.prefix, out->name)
                                 : lks_arena_printf(parser->arena, "%s%d", place.prefix, index);
    const char *shown =
        out->name ? path : lks_arena_printf(parser->arena, "%s (%s)", path, out->type);
    const char *separator =
        container ? lks_arena_printf(parser->arena, "\n%*s", place.indent + 2, "") : ", ";
    out->where = lks_node_where(parser->arena, node);
    if (!path || !shown || !separator || !out->where) return lks_run_out_of_memory(node);

    lks_strbuf *resolved = &parser->resolved;
    lks_strbuf_add(resolved, "\n%*s- %stype: %s", place.indent, "", container ? "" : "{",
                   out->type);
    if (out->name) {
        lks_strbuf_add(resolved, "%sname: ", separator);
        lks_strbuf_add_json(resolved, out->name);
    }
    status = read_options(parser, node, table, shown, separator, out);
    if (!status && container) status = read_container(parser, node, place, path, out);
    lks_strbuf_add(resolved, container ? "" : "}");
    return status;
}

static lks_status read_list(lks_run_parser *parser, const lks_node *list, layer_place place,
                            const lks_layer_spec **out) {
    if (list->kind != LKS_NODE_LIST || !list->first)
        return lks_node_fail(list, "%s: expected a list of layers", list->key);
    int count = lks_node_count(list), index = 0;
    lks_layer_spec *layers = lks_arena_alloc(parser->arena, (size_t)(count + 1) * sizeof *layers);
    if (!layers) return lks_run_out_of_memory(list);
    *out = layers;
    for (const lks_node *node = list->first; node; node = node->next, index++) {
        lks_status status = read_layer(parser, node, index, place, &layers[index]);
        if (status) return status;
    }
    return LKS_OK;
}

lks_status lks_run_read_layers(lks_run_parser *parser, const lks_node *list,
                               const lks_layer_spec **out) {
    return read_list(parser, list, (layer_place){"", 4}, out);
}
