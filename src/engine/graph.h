/* The graph inside: a flat list of nodes in the order of execution. Every value has one producer
 * and one consumer; where a value is needed twice, a fork makes two of it. Included by src/engine
 * alone. */
#ifndef LKS_ENGINE_GRAPH_H
#define LKS_ENGINE_GRAPH_H

#include "engine/engine.h"
#include "engine/layer.h"

enum { LKS_NO_VALUE = -1, LKS_NO_NODE = -1 };

typedef struct lks_value {
    int producer;  /* LKS_NO_NODE: the graph's input */
    int consumer;  /* LKS_NO_NODE: the graph's output */
    int64_t count; /* elements of one sample */
    lks_dtype type;
    bool needs_grad;
    void *data, *grad; /* where the memory plan put it */
} lks_value;

typedef struct lks_node {
    lks_op_kind kind;
    lks_op_desc desc;
    lks_op *op;
    int layer;
    int x, x2, y, y2; /* values; LKS_NO_VALUE where the kind has none (x2: add, y2: fork) */
    int first_param, param_count;
    bool trains; /* some parameter of it has a gradient */
    int first_buffer, buffer_count;
    bool synchronize;
    bool takes_x_saved;             /* backward wants what the node that made x saved */
    int64_t ready_begin, ready_end; /* flat elements whose gradients this node's backward adds to
                                       those that exist */
    void *saved, *scratch, *backward_scratch;
    float *own_grads; /* [ready_end - ready_begin] of one backward, where gradients are not kept as
                         float32; else NULL */
    const void *params[LKS_LAYER_MAX_PARAMS];
    void *dparams[LKS_LAYER_MAX_PARAMS], *buffers[LKS_LAYER_MAX_PARAMS];
} lks_node;

typedef struct lks_init {
    lks_init_rule rule;
    double bound;
} lks_init;

/* Parameters or buffers, in the order in which the layers declare them. */
typedef struct lks_param_table {
    lks_param *params; /* names are owned */
    lks_init *inits;   /* beside each */
    int count;
    int64_t flat_count;
} lks_param_table;

struct lks_graph {
    lks_device *device;
    lks_graph_config config;
    lks_shape input_shape, output_shape;
    lks_layout input_layout;
    int input, output; /* values */

    lks_layer_info *layers; /* names are owned */
    int layer_count;
    lks_node *nodes;
    int node_count;
    lks_value *values;
    int value_count;
    lks_param_table params, buffers;
    int64_t trainable_count; /* elements of params, at their begin, that have gradients */

    bool has_loss;
    lks_loss loss;
    void *targets;

    void *memory; /* one allocation, as planned */
    lks_graph_memory memory_sizes;
    float *buffer_values;
    int64_t batches_tracked;
    bool bound;
    void *grads;              /* the flat buffer, of lks_graph_grad_type; NULL: they are placed */
    lks_grads_place_fn place; /* NULL: the gradients have a flat buffer */
    void *place_data;
    lks_params_wait_fn params_wait; /* NULL: parameters are always there */
    void *params_wait_data;
};

/* build.c: layers, nodes, values, parameters with their names, shapes and places. The graph has its
 * device, config and input shape. */
lks_status lks_graph_build(lks_graph *graph, const lks_layer_spec *layers);

/* memory.c: lifetimes of all arrays, one allocation for them, and every pointer of nodes and
 * values. The nodes have their operations. */
lks_status lks_graph_plan_memory(lks_graph *graph);

/* init.c: writes the initial values of elements [offset, offset + count) of a table's flat array to
 * device memory, as `type`; gaps are zero. */
lks_status lks_graph_init_range(lks_graph *graph, const lks_param_table *table, int64_t offset,
                                int64_t count, lks_dtype type, void *to);

/* Puts the layer's name and type in front of the error's detail; returns status. */
lks_status lks_graph_fail_in_layer(const lks_graph *graph, int layer, lks_status status);

/* Elements of the flat buffer in whose place this node's gradients stand, gaps included. */
static inline int64_t lks_node_grad_count(const lks_node *node) {
    return node->ready_end - node->ready_begin;
}

/* Does this node take part in backward? */
static inline bool lks_node_has_backward(const lks_graph *graph, const lks_node *node) {
    return !graph->config.inference_only && graph->values[node->y].needs_grad;
}

#endif
