/* From layer specs to nodes, values and parameters. */
#include "engine/build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fuse.h"
#include "engine/graph.h"

struct lks_builder {
    lks_graph *graph;
    int layer;        /* index of the layer that is being built */
    const char *path; /* full name of the container that is being filled; NULL at the top */
    bool located;     /* the error's detail names its layer already */
};

/* ---- sizes: counted first, so that the arrays never move ---- */

static bool is_end(const lks_layer_spec *spec) {
    return spec->type == NULL && spec->name == NULL && spec->options == NULL &&
           spec->block == NULL && spec->shortcut == NULL;
}

static int count_layers(const lks_layer_spec *specs) {
    int count = 0;
    for (; specs != NULL && !is_end(specs); specs++)
        count += 1 + count_layers(specs->block) + count_layers(specs->shortcut);
    return count;
}

static bool alloc_table(lks_param_table *table, size_t capacity) {
    table->params = calloc(capacity, sizeof *table->params);
    table->inits = calloc(capacity, sizeof *table->inits);
    return table->params != NULL && table->inits != NULL;
}

static lks_status alloc_arrays(lks_graph *graph, size_t layers) {
    /* A plain layer makes at most a relayout and its operation, a residual a fork, a relayout and
     * an add; a cast stands at the begin, a relayout and a cast at the end. */
    size_t nodes = 3 * layers + 3;
    graph->layers = calloc(layers, sizeof *graph->layers);
    graph->nodes = calloc(nodes, sizeof *graph->nodes);
    graph->values = calloc(2 * nodes + 1, sizeof *graph->values);
    bool tables = alloc_table(&graph->params, layers * LKS_LAYER_MAX_PARAMS);
    tables = alloc_table(&graph->buffers, layers * LKS_LAYER_MAX_PARAMS) && tables;
    if (graph->layers == NULL || graph->nodes == NULL || graph->values == NULL || !tables)
        return lks_fail(LKS_ENOMEM, "out of memory for a model of %zu layers", layers);
    return LKS_OK;
}

/* ---- nodes and values ---- */

static lks_status add_value(lks_graph *graph, const lks_shape *shape, lks_dtype type, int producer,
                            int *out) {
    int64_t count;
    lks_status status = lks_shape_count(shape, &count);
    if (status != LKS_OK) return status;
    graph->values[graph->value_count] = (lks_value){
        .producer = producer,
        .consumer = LKS_NO_NODE,
        .count = count,
        .type = type,
    };
    *out = graph->value_count++;
    return LKS_OK;
}

/* Appends a node that takes flow's value and replaces it by its output of shape `output`, of the
 * same type. */
static lks_status add_node(lks_builder *builder, lks_op_kind kind, const lks_op_desc *desc,
                           const lks_shape *output, lks_flow *flow, lks_node **out) {
    lks_graph *graph = builder->graph;
    int index = graph->node_count++;
    lks_node *node = &graph->nodes[index];
    *node = (lks_node){
        .kind = kind,
        .desc = *desc,
        .layer = builder->layer,
        .x = flow->value,
        .x2 = LKS_NO_VALUE,
        .y2 = LKS_NO_VALUE,
    };
    graph->values[flow->value].consumer = index;
    lks_status status = add_value(graph, output, graph->values[flow->value].type, index, &node->y);
    if (status != LKS_OK) return status;
    flow->value = node->y;
    flow->shape = *output;
    *out = node;
    return LKS_OK;
}

/* Is the order of elements the same in both layouts? Then the layout is but a label. */
static bool layouts_agree(const lks_shape *shape) {
    return shape->rank != 3 || shape->dim[0] == 1 || shape->dim[1] * shape->dim[2] == 1;
}

static lks_status want_layout(lks_builder *builder, lks_flow *flow, lks_layout layout) {
    if (flow->layout == layout) return LKS_OK;
    lks_op_desc desc = {.relayout = {.channels = flow->shape.dim[0],
                                     .spatial = flow->shape.dim[1] * flow->shape.dim[2],
                                     .from = flow->layout,
                                     .to = layout}};
    flow->layout = layout;
    if (layouts_agree(&flow->shape)) return LKS_OK;
    lks_node *node;
    lks_shape same = flow->shape;
    return add_node(builder, LKS_OP_RELAYOUT, &desc, &same, flow, &node);
}

static lks_status want_type(lks_builder *builder, lks_flow *flow, lks_dtype type) {
    lks_graph *graph = builder->graph;
    const lks_value *value = &graph->values[flow->value];
    if (value->type == type) return LKS_OK;
    lks_op_desc desc = {.cast = {.count = value->count, .from = value->type, .to = type}};
    lks_node *node;
    lks_shape same = flow->shape;
    lks_status status = add_node(builder, LKS_OP_CAST, &desc, &same, flow, &node);
    if (status == LKS_OK) graph->values[flow->value].type = type;
    return status;
}

lks_status lks_build_fork(lks_builder *builder, lks_flow *flow, lks_flow *second) {
    lks_graph *graph = builder->graph;
    lks_op_desc desc = {.add = {.count = graph->values[flow->value].count}};
    lks_shape same = flow->shape;
    lks_node *node;
    lks_status status = add_node(builder, LKS_OP_FORK, &desc, &same, flow, &node);
    if (status != LKS_OK) return status;
    *second = *flow;
    status =
        add_value(graph, &same, graph->values[flow->value].type, graph->node_count - 1, &node->y2);
    second->value = node->y2;
    return status;
}

lks_status lks_build_add(lks_builder *builder, lks_flow *flow, const lks_flow *second) {
    lks_graph *graph = builder->graph;
    lks_flow other = *second;
    lks_status status = want_layout(builder, &other, flow->layout);
    if (status != LKS_OK) return status;
    if (lks_fuse_add_behind(graph, &flow->value, other.value)) return LKS_OK;
    lks_op_desc desc = {.add = {.count = graph->values[flow->value].count}};
    lks_shape same = flow->shape;
    lks_node *node;
    status = add_node(builder, LKS_OP_ADD, &desc, &same, flow, &node);
    if (status != LKS_OK) return status;
    node->x2 = other.value;
    graph->values[other.value].consumer = graph->node_count - 1;
    return LKS_OK;
}

/* ---- one layer ---- */

static lks_status add_param(lks_graph *graph, lks_param_table *table, int layer,
                            const lks_layer_param *param) {
    lks_param *entry = &table->params[table->count];
    *entry = (lks_param){.shape = param->shape, .layer = layer};
    lks_status status = lks_shape_count(&param->shape, &entry->count);
    if (status != LKS_OK) return status;
    entry->name = lks_strdup_printf("%s.%s", graph->layers[layer].name, param->suffix);
    if (entry->name == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for the names of parameters");
    table->inits[table->count] = (lks_init){.rule = param->init, .bound = param->bound};
    table->count++;
    return LKS_OK;
}

static lks_status add_params(lks_graph *graph, const lks_layer_plan *plan, lks_node *node) {
    node->first_param = graph->params.count;
    node->first_buffer = graph->buffers.count;
    for (int i = 0; i < plan->param_count; i++) {
        const lks_layer_param *param = &plan->params[i];
        lks_status status = add_param(graph, param->is_buffer ? &graph->buffers : &graph->params,
                                      node->layer, param);
        if (status != LKS_OK) return status;
    }
    node->param_count = graph->params.count - node->first_param;
    node->buffer_count = graph->buffers.count - node->first_buffer;
    const lks_graph_config *config = &graph->config;
    for (int i = node->first_param; i < graph->params.count; i++) {
        lks_param *param = &graph->params.params[i];
        graph->layers[node->layer].param_count += param->count;
        param->frozen = config->is_frozen && config->is_frozen(config->is_frozen_data, param->name);
        if (!param->frozen) node->trains = true;
    }
    return LKS_OK;
}

/* Makes the node for what the layer plans, unless the add in front becomes it. */
static lks_status place_operation(lks_builder *builder, const lks_layer_plan *plan, lks_flow *flow,
                                  lks_node **out) {
    *out = lks_fuse_add_in_front(builder->graph, plan, flow->value);
    if (*out == NULL) return add_node(builder, plan->kind, &plan->desc, &plan->output, flow, out);
    (*out)->layer = builder->layer;
    flow->shape = plan->output;
    return LKS_OK;
}

static int64_t count_multiply_adds(lks_op_kind kind, const lks_op_desc *desc) {
    if (kind == LKS_OP_LINEAR) {
        const lks_linear_desc *linear = &desc->linear;
        return linear->rows_per_sample * linear->in_features * linear->out_features;
    }
    if (kind == LKS_OP_CONV2D) {
        const lks_conv2d_desc *conv = &desc->conv2d;
        return conv->out_channels * conv->out_size[0] * conv->out_size[1] * conv->in_channels /
               conv->groups * conv->kernel[0] * conv->kernel[1];
    }
    return 0;
}

static lks_status add_operation(lks_builder *builder, const lks_layer_plan *plan, lks_flow *flow) {
    lks_graph *graph = builder->graph;
    bool fused = plan->has_op && lks_fuse_activation(graph, plan, flow->value);
    /* Dropout does nothing outside training. */
    bool idle = plan->kind == LKS_OP_DROPOUT && graph->config.inference_only;
    if (!plan->has_op || fused || idle) {
        flow->shape = plan->output;
        return LKS_OK;
    }
    lks_node *node;
    lks_status status = place_operation(builder, plan, flow, &node);
    if (status != LKS_OK) return status;
    node->synchronize = plan->synchronize;
    graph->layers[node->layer].is_synchronized |= plan->synchronize;
    lks_fuse_backward(graph, node);
    graph->layers[node->layer].multiply_adds += count_multiply_adds(plan->kind, &plan->desc);
    return add_params(graph, plan, node);
}

static lks_status check_output(const lks_shape *output) {
    int64_t count;
    lks_status status = lks_shape_count(output, &count);
    if (status == LKS_OK && count > INT32_MAX)
        return lks_fail(LKS_ESHAPE,
                        "its output has %" PRId64 " numbers for each sample, more than "
                        "2^31",
                        count);
    return status;
}

static lks_status plan_layer(lks_builder *builder, const lks_layer_kind *kind, const void *config,
                             lks_flow *flow) {
    lks_graph *graph = builder->graph;
    lks_layer_input input = {
        .shape = flow->shape,
        .seed = graph->config.seed,
        .layer = builder->layer,
    };
    lks_layer_plan plan = {.output = flow->shape};
    lks_status status = kind->plan(config, &input, &plan);
    if (status == LKS_OK) status = check_output(&plan.output);
    if (status == LKS_OK && kind->layout != LKS_LAYER_ANY_LAYOUT)
        status = want_layout(builder, flow,
                             kind->layout == LKS_LAYER_ROWS ? LKS_LAYOUT_ROWS
                                                            : LKS_LAYOUT_CHANNELS_LAST);
    return status == LKS_OK ? add_operation(builder, &plan, flow) : status;
}

static lks_status build_plain(lks_builder *builder, const lks_layer_kind *kind,
                              const lks_layer_spec *spec, const char *what, lks_flow *flow) {
    if (spec->block != NULL || spec->shortcut != NULL)
        return lks_fail(LKS_ECONFIG, "has no layers inside it: block and shortcut are residual's");
    void *config = calloc(1, kind->options->struct_bytes + 1);
    if (config == NULL) return lks_fail(LKS_ENOMEM, "out of memory for its options");
    lks_status status = lks_options_parse(kind->options, config, spec->options, what);
    if (status != LKS_OK) {
        builder->located = true; /* `what` stands in front already */
        free(config);
        return status;
    }
    status = plan_layer(builder, kind, config, flow);
    lks_options_free(kind->options, config);
    free(config);
    return status;
}

static lks_status build_container(lks_builder *builder, const lks_layer_kind *kind,
                                  const lks_layer_spec *spec, const char *what, lks_flow *flow) {
    char none;
    lks_status status = lks_options_parse(kind->options, &none, spec->options, what);
    if (status != LKS_OK) {
        builder->located = true;
        return status;
    }
    const char *outside = builder->path;
    builder->path = builder->graph->layers[builder->layer].name;
    status = kind->compose(builder, spec, flow);
    builder->path = outside;
    return status;
}

/* name: the layer's full name, which the graph takes over. */
static lks_status build_layer(lks_builder *builder, const lks_layer_spec *spec, char *name,
                              lks_flow *flow) {
    lks_graph *graph = builder->graph;
    int outside = builder->layer, index = graph->layer_count++;
    builder->layer = index;
    graph->layers[index].name = name;
    const char *type = spec->type != NULL ? spec->type : "no type";
    char *what = spec->where != NULL
                     ? lks_strdup_printf("layer %s (%s, %s)", name, type, spec->where)
                     : lks_strdup_printf("layer %s (%s)", name, type);
    if (what == NULL) return lks_fail(LKS_ENOMEM, "out of memory for the names of layers");

    const lks_layer_kind *kind = lks_layer_find(spec->type);
    lks_status status = LKS_OK;
    if (kind == NULL)
        status = lks_layer_unknown(spec->type);
    else if (kind->compose != NULL)
        status = build_container(builder, kind, spec, what, flow);
    else
        status = build_plain(builder, kind, spec, what, flow);
    if (status == LKS_OK) {
        graph->layers[index].type = kind->options->name;
        graph->layers[index].is_norm = kind->is_norm;
        graph->layers[index].output = flow->shape;
    } else if (!builder->located) {
        lks_fail_in(status, "%s", what);
        builder->located = true;
    }
    builder->layer = outside;
    free(what);
    return status;
}

/* ---- lists and names ---- */

enum { INDEX_TEXT_BYTES = 16 };

/* A layer's own name: the given one, or its index in its list, as nn.Sequential has it. */
static const char *own_name(const lks_layer_spec *layers, int index, char *text) {
    if (layers[index].name != NULL) return layers[index].name;
    snprintf(text, INDEX_TEXT_BYTES, "%d", index);
    return text;
}

static lks_status check_name(const lks_layer_spec *layers, int index, const char *name) {
    char text[INDEX_TEXT_BYTES];
    const char *where = layers[index].where != NULL ? layers[index].where : "";
    const char *colon = layers[index].where != NULL ? ": " : "";
    if (name[0] == '\0' || strpbrk(name, "./") != NULL)
        return lks_fail(LKS_ECONFIG,
                        "%s%sa layer cannot be called \"%s\": a name has at least one character "
                        "and neither \".\" nor \"/\"",
                        where, colon, name);
    for (int i = 0; i < index; i++) {
        if (strcmp(own_name(layers, i, text), name) == 0)
            return lks_fail(LKS_ECONFIG, "%s%stwo layers of one list are called \"%s\"", where,
                            colon, name);
    }
    return LKS_OK;
}

static char *full_name(const lks_builder *builder, const char *prefix, const char *name) {
    if (builder->path == NULL) return lks_strdup(name);
    if (prefix == NULL) return lks_strdup_printf("%s.%s", builder->path, name);
    return lks_strdup_printf("%s.%s.%s", builder->path, prefix, name);
}

lks_status lks_build_list(lks_builder *builder, const lks_layer_spec *layers, const char *prefix,
                          lks_flow *flow) {
    for (int i = 0; !is_end(&layers[i]); i++) {
        char text[INDEX_TEXT_BYTES];
        const char *name = own_name(layers, i, text);
        lks_status status = check_name(layers, i, name);
        if (status != LKS_OK) {
            builder->located = true;
            return status;
        }
        char *full = full_name(builder, prefix, name);
        if (full == NULL) return lks_fail(LKS_ENOMEM, "out of memory for the names of layers");
        status = build_layer(builder, &layers[i], full, flow);
        if (status != LKS_OK) return status;
    }
    return LKS_OK;
}

/* ---- the whole graph ---- */

/* The layout that the first layer which has a choice takes: the loader then writes images so. */
static lks_layer_layout first_layout(const lks_layer_spec *specs) {
    for (; specs != NULL && !is_end(specs); specs++) {
        const lks_layer_kind *kind = lks_layer_find(specs->type);
        if (kind == NULL) return LKS_LAYER_ANY_LAYOUT;
        lks_layer_layout layout = kind->compose != NULL ? first_layout(specs->block) : kind->layout;
        if (layout != LKS_LAYER_ANY_LAYOUT) return layout;
    }
    return LKS_LAYER_ANY_LAYOUT;
}

/* A gradient is needed wherever a trainable parameter stands upstream of it. */
static void mark_gradients(lks_graph *graph) {
    graph->values[graph->input].needs_grad = graph->config.input_gradient;
    for (int i = 0; i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        bool needed = node->trains || graph->values[node->x].needs_grad ||
                      (node->x2 != LKS_NO_VALUE && graph->values[node->x2].needs_grad);
        graph->values[node->y].needs_grad = needed;
        if (node->y2 != LKS_NO_VALUE) graph->values[node->y2].needs_grad = needed;
    }
}

enum { FLAT_ALIGNMENT = 16 };

/* Places the parameters of a node that are frozen, or those that are not, from `end` on; returns
 * the new end. */
static int64_t place_node(lks_graph *graph, const lks_node *node, bool frozen, int64_t end) {
    for (int p = 0; p < node->param_count; p++) {
        lks_param *param = &graph->params.params[node->first_param + p];
        if (param->frozen != frozen) continue;
        param->offset = end;
        end = (int64_t)lks_round_up((size_t)(end + param->count), FLAT_ALIGNMENT);
    }
    return end;
}

static void place_params(lks_graph *graph) {
    int64_t end = 0;
    for (int i = graph->node_count - 1; i >= 0; i--) {
        graph->nodes[i].ready_begin = end;
        end = place_node(graph, &graph->nodes[i], false, end);
        graph->nodes[i].ready_end = end;
    }
    int64_t multiple = graph->config.trainable_multiple;
    graph->trainable_count = multiple > 0 ? (end + multiple - 1) / multiple * multiple : end;
    /* The padding is ready with the last gradient. */
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].ready_end == end) graph->nodes[i].ready_end = graph->trainable_count;

    end = graph->trainable_count;
    for (int i = graph->node_count - 1; i >= 0; i--)
        end = place_node(graph, &graph->nodes[i], true, end);
    graph->params.flat_count = end;
}

static void place_buffers(lks_graph *graph) {
    int64_t end = 0;
    for (int i = 0; i < graph->buffers.count; i++) {
        graph->buffers.params[i].offset = end;
        end = (int64_t)lks_round_up((size_t)(end + graph->buffers.params[i].count), FLAT_ALIGNMENT);
    }
    graph->buffers.flat_count = end;
}

lks_status lks_graph_build(lks_graph *graph, const lks_layer_spec *layers) {
    int layer_count = count_layers(layers);
    if (layer_count == 0) return lks_fail(LKS_ECONFIG, "the model has no layers");
    lks_status status = alloc_arrays(graph, (size_t)layer_count);
    if (status != LKS_OK) return status;

    lks_builder builder = {.graph = graph};
    lks_flow flow = {.shape = graph->input_shape, .layout = LKS_LAYOUT_ROWS};
    if (flow.shape.rank == 3 && first_layout(layers) == LKS_LAYER_CHANNELS_LAST)
        flow.layout = LKS_LAYOUT_CHANNELS_LAST;
    graph->input_layout = flow.layout;
    status = add_value(graph, &flow.shape, LKS_F32, LKS_NO_NODE, &flow.value);
    graph->input = flow.value;
    if (status == LKS_OK) status = want_type(&builder, &flow, lks_device_dtype(graph->device));
    if (status == LKS_OK) status = lks_build_list(&builder, layers, NULL, &flow);
    if (status == LKS_OK) status = want_layout(&builder, &flow, LKS_LAYOUT_ROWS);
    if (status == LKS_OK) status = want_type(&builder, &flow, LKS_F32);
    if (status != LKS_OK) return status;
    graph->output = flow.value;
    graph->output_shape = flow.shape;
    mark_gradients(graph);
    place_params(graph);
    place_buffers(graph);
    return LKS_OK;
}
