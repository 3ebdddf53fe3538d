#include "app/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <yaml.h>

/* Deeper or larger is no run file, but a file that means harm (aliases of aliases). */
enum { MAX_DEPTH = 100, MAX_NODES = 200000 };

typedef struct anchor {
    const char *name;
    const lks_node *node;
    struct anchor *next;
} anchor;

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    lks_arena *arena;
    const char *source, *text;
    anchor *anchors;
    int depth, node_count;
} reader;

/* ---- nodes ---- */

lks_node *lks_node_find(const lks_node *map, const char *key) {
    for (lks_node *node = map->first; node; node = node->next)
        if (node->key && strcmp(node->key, key) == 0) return node;
    return NULL;
}

int lks_node_count(const lks_node *node) {
    int count = 0;
    for (const lks_node *element = node->first; element; element = element->next)
        count++;
    return count;
}

void lks_node_append(lks_node *parent, lks_node *child) {
    lks_node **end = &parent->first;
    while (*end)
        end = &(*end)->next;
    *end = child;
    child->next = NULL;
}

bool lks_node_is_null(const lks_node *node) {
    return node->kind == LKS_NODE_SCALAR && !node->quoted &&
           (!*node->text || strcmp(node->text, "~") == 0 || strcasecmp(node->text, "null") == 0);
}

const char *lks_node_where(lks_arena *arena, const lks_node *node) {
    return node->line ? lks_arena_printf(arena, "%s:%d", node->source, node->line)
                      : lks_arena_printf(arena, "%s", node->source);
}

lks_status lks_node_fail_in(const lks_node *node, lks_status status) {
    return node->line ? lks_fail_in(status, "%s:%d", node->source, node->line)
                      : lks_fail_in(status, "%s", node->source);
}

lks_status lks_node_fail(const lks_node *node, const char *format, ...) {
    char message[LKS_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    lks_fail(LKS_ECONFIG, "%s", message);
    return lks_node_fail_in(node, LKS_ECONFIG);
}

static lks_status out_of_memory(const reader *r) {
    return lks_fail(LKS_ENOMEM, "%s: out of memory", r->source);
}

/* ---- events ---- */

/* libyaml's words for such a line ("cannot start any token") do not name what is wrong. */
static bool is_indented_by_tab(const char *text, size_t line) {
    for (; line > 0 && text; line--) {
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
    }
    return text && text[strspn(text, " ")] == '\t';
}

static lks_status syntax_error(const reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return out_of_memory(r);
    /* libyaml says where it noticed and, where it knows, what it was reading. */
    lks_node place = {.source = r->source, .line = (int)p->problem_mark.line + 1};
    const char *problem = p->problem ? p->problem : "it cannot be read";
    if (p->error == YAML_READER_ERROR)
        return lks_fail(LKS_ECONFIG, "%s: not a YAML text: %s (byte %zu)", r->source, problem,
                        p->problem_offset);
    if (is_indented_by_tab(r->text, p->problem_mark.line))
        return lks_node_fail(&place, "not valid YAML: a tab before the key: YAML wants blanks");
    return p->context ? lks_node_fail(&place, "not valid YAML: %s, %s", p->context, problem)
                      : lks_node_fail(&place, "not valid YAML: %s", problem);
}

static lks_status next_event(reader *r) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event);
    return r->has_event ? LKS_OK : syntax_error(r);
}

static lks_node *new_node(reader *r, lks_node_kind kind) {
    lks_node *node = lks_arena_alloc(r->arena, sizeof *node);
    if (node) {
        node->kind = kind;
        node->source = r->source;
        node->line = (int)r->event.start_mark.line + 1;
    }
    return node;
}

static lks_status count_node(reader *r, int line) {
    lks_node place = {.source = r->source, .line = line};
    return ++r->node_count > MAX_NODES
               ? lks_node_fail(&place, "more than %d values: this is no run file", MAX_NODES)
               : LKS_OK;
}

static lks_status copy_tree(reader *r, const lks_node *from, lks_node **out) {
    lks_status status = count_node(r, (int)r->event.start_mark.line + 1);
    if (status) return status;
    lks_node *node = lks_arena_alloc(r->arena, sizeof *node);
    if (!node) return out_of_memory(r);
    *node = *from;
    node->next = NULL;
    lks_node **end = &node->first;
    *end = NULL;
    for (const lks_node *element = from->first; element; element = element->next) {
        status = copy_tree(r, element, end);
        if (status) return status;
        end = &(*end)->next;
    }
    *out = node;
    return LKS_OK;
}

static lks_status read_alias(reader *r, lks_node **out) {
    const char *name = (const char *)r->event.data.alias.anchor;
    lks_node place = {.source = r->source, .line = (int)r->event.start_mark.line + 1};
    for (const anchor *a = r->anchors; a; a = a->next)
        if (strcmp(a->name, name) == 0) return copy_tree(r, a->node, out);
    return lks_node_fail(&place, "the alias *%s has no anchor &%s before it", name, name);
}

static lks_status read_node(reader *r, lks_node **out);

static lks_status read_scalar(reader *r, lks_node **out) {
    lks_node *node = new_node(r, LKS_NODE_SCALAR);
    if (!node) return out_of_memory(r);
    const char *value = (const char *)r->event.data.scalar.value;
    size_t length = r->event.data.scalar.length;
    if (strlen(value) != length) return lks_node_fail(node, "a text with a zero byte in it");
    node->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = lks_arena_copy(r->arena, value, length);
    *out = node;
    return node->text ? LKS_OK : out_of_memory(r);
}

static lks_status read_list(reader *r, lks_node **out) {
    lks_node *list = new_node(r, LKS_NODE_LIST);
    if (!list) return out_of_memory(r);
    lks_node **end = &list->first;
    lks_status status;
    while (!(status = next_event(r)) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        status = read_node(r, end);
        if (status) return status;
        end = &(*end)->next;
    }
    *out = list;
    return status;
}

/* A key: a plain text that the map does not have yet. */
static lks_status read_key(reader *r, const lks_node *map, const char **out_key, int *out_line) {
    lks_node place = {.source = r->source, .line = (int)r->event.start_mark.line + 1};
    if (r->event.type != YAML_SCALAR_EVENT)
        return lks_node_fail(&place, "a key must be a plain text");
    const char *key = (const char *)r->event.data.scalar.value;
    const lks_node *earlier = lks_node_find(map, key);
    if (earlier)
        return lks_node_fail(&place, "\"%s\" is given twice, first on line %d", key, earlier->line);
    *out_key = lks_arena_copy(r->arena, key, strlen(key));
    *out_line = place.line;
    return *out_key ? LKS_OK : out_of_memory(r);
}

static lks_status read_map(reader *r, lks_node **out) {
    lks_node *map = new_node(r, LKS_NODE_MAP);
    if (!map) return out_of_memory(r);
    lks_node **end = &map->first;
    lks_status status;
    while (!(status = next_event(r)) && r->event.type != YAML_MAPPING_END_EVENT) {
        const char *key = NULL;
        int line = 0;
        lks_node *value = NULL;
        status = read_key(r, map, &key, &line);
        if (!status) status = next_event(r);
        if (!status) status = read_node(r, &value);
        if (status) return status;
        value->key = key;
        value->line = line;
        *end = value;
        end = &value->next;
    }
    *out = map;
    return status;
}

static lks_status remember_anchor(reader *r, const char *name, const lks_node *node) {
    anchor *a = lks_arena_alloc(r->arena, sizeof *a);
    if (!a) return out_of_memory(r);
    *a = (anchor){name, node, r->anchors};
    r->anchors = a;
    return LKS_OK;
}

/* The anchor and the tag of the present event, NULL where it has none. */
static void event_properties(const yaml_event_t *event, const char **anchor_name,
                             const char **tag) {
    *anchor_name = *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        *anchor_name = (const char *)event->data.scalar.anchor;
        *tag = (const char *)event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        *anchor_name = (const char *)event->data.sequence_start.anchor;
        *tag = (const char *)event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        *anchor_name = (const char *)event->data.mapping_start.anchor;
        *tag = (const char *)event->data.mapping_start.tag;
    }
}

/* The value that begins with the present event; ends on its last event. */
static lks_status read_node(reader *r, lks_node **out) {
    lks_node place = {.source = r->source, .line = (int)r->event.start_mark.line + 1};
    const char *name, *tag, *kept_name = NULL;
    event_properties(&r->event, &name, &tag);
    if (tag) return lks_node_fail(&place, "the tag %s has no meaning in a run file", tag);
    if (name && !(kept_name = lks_arena_copy(r->arena, name, strlen(name))))
        return out_of_memory(r);
    if (r->depth >= MAX_DEPTH) return lks_node_fail(&place, "more than %d levels deep", MAX_DEPTH);
    lks_status status = count_node(r, place.line);
    if (status) return status;
    r->depth++;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        status = read_alias(r, out);
        break;
    case YAML_SEQUENCE_START_EVENT:
        status = read_list(r, out);
        break;
    case YAML_MAPPING_START_EVENT:
        status = read_map(r, out);
        break;
    default:
        status = read_scalar(r, out);
    }
    r->depth--;
    if (!status && kept_name) status = remember_anchor(r, kept_name, *out);
    return status;
}

static lks_status read_document(reader *r, lks_node **out) {
    lks_status status = next_event(r); /* the stream's begin */
    if (!status) status = next_event(r);
    if (!status && r->event.type == YAML_STREAM_END_EVENT) {
        *out = new_node(r, LKS_NODE_SCALAR);
        if (!*out) return out_of_memory(r);
        (*out)->text = "";
        return LKS_OK;
    }
    if (!status) status = next_event(r); /* what follows the document's begin */
    if (!status) status = read_node(r, out);
    if (!status) status = next_event(r); /* the document's end */
    if (!status) status = next_event(r);
    if (!status && r->event.type != YAML_STREAM_END_EVENT) {
        lks_node place = {.source = r->source, .line = (int)r->event.start_mark.line + 1};
        status = lks_node_fail(&place, "a second document begins here: expected one");
    }
    return status;
}

lks_status lks_yaml_parse(lks_arena *arena, const char *source, const char *text, lks_node **out) {
    reader r = {.arena = arena, .source = source, .text = text};
    if (!yaml_parser_initialize(&r.parser)) return out_of_memory(&r);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, strlen(text));
    lks_status status = read_document(&r, out);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}
