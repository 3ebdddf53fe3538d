/* Layers as the golden files write them, one a line:
 *
 *     [name:]type [key=value ...]
 *     [name:]residual {
 *         ...
 *     } shortcut {
 *         ...
 *     }
 */
#ifndef LKS_TESTS_GRAPH_TEXT_H
#define LKS_TESTS_GRAPH_TEXT_H

#include "base/base.h"

enum { GRAPH_TEXT_MAX_LISTS = 32, GRAPH_TEXT_MAX_LAYERS = 32 };

typedef struct graph_text {
    lks_layer_spec lists[GRAPH_TEXT_MAX_LISTS][GRAPH_TEXT_MAX_LAYERS]; /* the first is the model */
    int list_count;
    char *rest;   /* what is not parsed yet */
    char *closed; /* the line that ended the last list */
} graph_text;

/* text is taken apart in place and must outlive *out. */
void graph_text_parse(char *text, graph_text *out);

#endif
