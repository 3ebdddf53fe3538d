/* Building a graph: what containers may do. */
#ifndef LKS_ENGINE_BUILD_H
#define LKS_ENGINE_BUILD_H

#include "base/base.h"
#include "device/op.h"

typedef struct lks_builder lks_builder;

/* The value on its way from one layer to the next. */
typedef struct lks_flow {
    int value; /* index in the graph */
    lks_shape shape;
    lks_layout layout;
} lks_flow;

/* Builds a list of layers, ended by an all-zero element; *flow goes through it. prefix: put in
 * front of the layers' names inside the present container's ("block"); may be NULL. */
lks_status lks_build_list(lks_builder *builder, const lks_layer_spec *layers, const char *prefix,
                          lks_flow *flow);

/* Makes two of one: *flow and *second carry the same values. */
lks_status lks_build_fork(lks_builder *builder, lks_flow *flow, lks_flow *second);
/* flow += second, of the same shape. */
lks_status lks_build_add(lks_builder *builder, lks_flow *flow, const lks_flow *second);

#endif
