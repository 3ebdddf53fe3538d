#include "parity/graph_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const lks_layer_spec *parse_list(graph_text *text);

static bool ends_with(const char *line, const char *end) {
    size_t length = strlen(line), end_length = strlen(end);
    return length >= end_length && strcmp(line + length - end_length, end) == 0;
}

/* "name:type options {" */
static void parse_layer(graph_text *text, char *line, lks_layer_spec *layer) {
    bool container = ends_with(line, " {");
    if (container) line[strlen(line) - 2] = '\0';
    char *options = strchr(line, ' ');
    if (options != NULL) {
        *options = '\0';
        layer->options = options + 1;
    }
    char *colon = strchr(line, ':');
    if (colon != NULL) {
        *colon = '\0';
        layer->name = line;
        line = colon + 1;
    }
    layer->type = line;
    if (!container) return;
    layer->block = parse_list(text);
    if (strcmp(text->closed, "} shortcut {") == 0) layer->shortcut = parse_list(text);
}

static const lks_layer_spec *parse_list(graph_text *text) {
    assert_true(text->list_count < GRAPH_TEXT_MAX_LISTS);
    lks_layer_spec *list = text->lists[text->list_count++];
    for (int count = 0;;) {
        char *line = strsep(&text->rest, "\n");
        if (line == NULL || line[0] == '}') {
            text->closed = line;
            return list;
        }
        assert_true(count + 1 < GRAPH_TEXT_MAX_LAYERS);
        parse_layer(text, line, &list[count++]);
    }
}

void graph_text_parse(char *text, graph_text *out) {
    memset(out, 0, sizeof *out);
    out->rest = text;
    parse_list(out);
    assert_null(out->closed);
}
