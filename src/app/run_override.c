#include <stdlib.h>
#include <string.h>

#include "app/run_parse.h"

static void forget_lines(lks_node *node) {
    node->line = 0;
    for (lks_node *element = node->first; element; element = element->next)
        forget_lines(element);
}

static lks_node *new_node(lks_arena *arena, lks_node_kind kind, const char *source) {
    lks_node *node = lks_arena_alloc(arena, sizeof *node);
    if (node) *node = (lks_node){.kind = kind, .source = source};
    return node;
}

/* `optimizer: adamw` and `optimizer:` take options as {type: adamw} and {} do. */
static lks_status make_map(lks_arena *arena, lks_node *node, const char *source) {
    bool empty = lks_node_is_null(node);
    const char *text = node->text;
    node->kind = LKS_NODE_MAP;
    node->text = NULL;
    node->first = NULL;
    if (empty) return LKS_OK;
    lks_node *type = new_node(arena, LKS_NODE_SCALAR, source);
    if (!type) return lks_run_out_of_memory(node);
    type->source = node->source;
    type->line = node->line;
    type->key = "type";
    type->text = text;
    node->first = type;
    return LKS_OK;
}

/* The element of a list by its place or, for layers, by its name. */
static lks_node *find_element(const lks_node *list, const char *step) {
    char *end;
    long index = strtol(step, &end, 10);
    if (end != step && *end == '\0' && index >= 0) {
        lks_node *node = list->first;
        for (; node && index > 0; index--)
            node = node->next;
        return node;
    }
    for (lks_node *node = list->first; node; node = node->next) {
        const lks_node *name = node->kind == LKS_NODE_MAP ? lks_node_find(node, "name") : NULL;
        if (name && name->kind == LKS_NODE_SCALAR && strcmp(name->text, step) == 0) return node;
    }
    return NULL;
}

/* One step down the path; a key that a map does not have yet is made. */
static lks_status descend(lks_arena *arena, lks_node *node, const char *step, const char *source,
                          lks_node **out) {
    if (node->kind == LKS_NODE_LIST) {
        *out = find_element(node, step);
        if (*out) return LKS_OK;
        return lks_fail(LKS_EUSAGE,
                        "%s: \"%s\" is neither the place (0 to %d) nor the name of an "
                        "element of the list \"%s\"",
                        source, step, lks_node_count(node) - 1, node->key ? node->key : "");
    }
    if (node->kind == LKS_NODE_SCALAR) {
        lks_status status = make_map(arena, node, source);
        if (status) return status;
    }
    *out = lks_node_find(node, step);
    if (*out) return LKS_OK;
    *out = new_node(arena, LKS_NODE_SCALAR, source);
    if (!*out) return lks_run_out_of_memory(node);
    (*out)->text = "";
    (*out)->key = step;
    lks_node_append(node, *out);
    return LKS_OK;
}

static lks_status read_value(lks_arena *arena, const lks_override *override, const char *source,
                             lks_node **out) {
    if (!override->is_text) {
        lks_status status = lks_yaml_parse(arena, source, override->value, out);
        if (!status) forget_lines(*out);
        return status;
    }
    *out = new_node(arena, LKS_NODE_SCALAR, source);
    if (!*out) return lks_fail(LKS_ENOMEM, "%s: out of memory", source);
    (*out)->text = override->value;
    (*out)->quoted = true;
    return LKS_OK;
}

lks_status lks_run_override(lks_arena *arena, lks_node *root, const lks_override *override) {
    const char *source =
        override->source ? override->source : lks_arena_printf(arena, "--set %s", override->key);
    char *path = lks_arena_copy(arena, override->key, strlen(override->key));
    if (!source || !path) return lks_fail(LKS_ENOMEM, "--set %s: out of memory", override->key);
    lks_node *value, *node = root;
    lks_status status = read_value(arena, override, source, &value);
    while (!status && path) {
        char *step = strsep(&path, ".");
        status = *step ? descend(arena, node, step, source, &node)
                       : lks_fail(LKS_EUSAGE, "%s: a part of the key is empty", source);
    }
    if (status) return status;
    /* The value moves into the node, which keeps its place. */
    value->key = node->key;
    value->next = node->next;
    *node = *value;
    return LKS_OK;
}
