/* A graph's life, and what it tells about itself. */
#include "engine/graph.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- creation ---- */

static lks_status check_arguments(const lks_shape *input, const lks_graph_config *config) {
    char text[LKS_SHAPE_TEXT_BYTES];
    int64_t count;
    if (config->max_batch < 1 || config->max_batch > INT32_MAX)
        return lks_fail(LKS_EINVAL, "a batch of %" PRId64 " samples on one rank: expected 1 .. %d",
                        config->max_batch, INT32_MAX);
    if (input->rank < 0 || input->rank > LKS_MAX_DIMS)
        return lks_fail(LKS_ESHAPE, "an input of %d dimensions: expected 0 .. %d", input->rank,
                        LKS_MAX_DIMS);
    lks_status status = lks_shape_count(input, &count);
    if (status == LKS_OK && (count < 1 || count > INT32_MAX))
        return lks_fail(LKS_ESHAPE, "an input of shape %s: expected 1 .. %d numbers",
                        lks_shape_text(input, text), INT32_MAX);
    return status;
}

static lks_status create_operations(lks_graph *graph) {
    for (int i = 0; i < graph->node_count; i++) {
        lks_node *node = &graph->nodes[i];
        lks_status status = lks_op_create(graph->device, node->kind, &node->desc,
                                          graph->config.max_batch, &node->op);
        if (status != LKS_OK) return lks_graph_fail_in_layer(graph, node->layer, status);
    }
    return LKS_OK;
}

static lks_status create_buffers(lks_graph *graph) {
    void *memory;
    lks_status status =
        lks_device_alloc(graph->device, (size_t)graph->buffers.flat_count * sizeof(float), &memory);
    if (status != LKS_OK) return status;
    graph->buffer_values = memory;
    for (int i = 0; i < graph->node_count; i++) {
        lks_node *node = &graph->nodes[i];
        for (int b = 0; b < node->buffer_count; b++)
            node->buffers[b] =
                graph->buffer_values + graph->buffers.params[node->first_buffer + b].offset;
    }
    return lks_graph_init_range(graph, &graph->buffers, 0, graph->buffers.flat_count, LKS_F32,
                                graph->buffer_values);
}

static lks_status create(lks_graph *graph, const lks_layer_spec *layers, const lks_spec *loss) {
    lks_status status = lks_graph_build(graph, layers);
    if (status == LKS_OK && loss != NULL) {
        status = lks_loss_make(loss, &graph->output_shape, &graph->loss);
        graph->has_loss = true;
    }
    if (status == LKS_OK) status = create_operations(graph);
    if (status == LKS_OK) status = lks_graph_plan_memory(graph);
    if (status == LKS_OK) status = create_buffers(graph);
    return status;
}

lks_status lks_graph_create(lks_device *device, const lks_layer_spec *layers,
                            const lks_shape *input, const lks_spec *loss,
                            const lks_graph_config *config, lks_graph **out) {
    lks_status status = check_arguments(input, config);
    if (status != LKS_OK) return status;
    lks_graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) return lks_fail(LKS_ENOMEM, "out of memory for a model");
    graph->device = device;
    graph->config = *config;
    graph->input_shape = *input;
    status = create(graph, layers, loss);
    if (status != LKS_OK) {
        lks_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return LKS_OK;
}

static void free_table(lks_param_table *table) {
    for (int i = 0; i < table->count; i++)
        free((char *)table->params[i].name);
    free(table->params);
    free(table->inits);
}

void lks_graph_destroy(lks_graph *graph) {
    if (graph == NULL) return;
    for (int i = 0; i < graph->node_count; i++)
        lks_op_destroy(graph->nodes[i].op);
    for (int i = 0; i < graph->layer_count; i++)
        free((char *)graph->layers[i].name);
    lks_device_free(graph->device, graph->memory);
    lks_device_free(graph->device, graph->buffer_values);
    free_table(&graph->params);
    free_table(&graph->buffers);
    free(graph->layers);
    free(graph->nodes);
    free(graph->values);
    free(graph);
}

lks_status lks_graph_fail_in_layer(const lks_graph *graph, int layer, lks_status status) {
    /* A layer that failed while it was built has no type yet, but then none of its nodes runs. */
    return lks_fail_in(status, "layer %s (%s)", graph->layers[layer].name,
                       graph->layers[layer].type);
}

/* ---- binding ---- */

lks_dtype lks_graph_grad_type(const lks_graph *graph) {
    return graph->config.float32_grads ? LKS_F32 : lks_device_dtype(graph->device);
}

/* A gradient's place in the flat buffer, where backward can write it: as float32. */
static float *place_in_flat(const lks_graph *graph, const lks_param *param) {
    const bool direct = graph->grads != NULL && lks_graph_grad_type(graph) == LKS_F32;
    return direct && !param->frozen ? (float *)graph->grads + param->offset : NULL;
}

static lks_status bind(lks_graph *graph, void *params, void *grads) {
    const lks_dtype type = lks_device_dtype(graph->device);
    const int64_t element = (int64_t)lks_dtype_bytes(type);
    if (graph->bound) return lks_fail(LKS_EINVAL, "a model's parameters are bound twice");
    bool has_place = grads != NULL || graph->place != NULL || graph->config.inference_only;
    if (params == NULL || !has_place)
        return lks_fail(LKS_EINVAL,
                        "a model that trains needs memory for parameters and gradients");
    lks_status status =
        lks_graph_init_range(graph, &graph->params, 0, graph->params.flat_count, type, params);
    /* The gaps between gradients are summed and squared with them. */
    if (status == LKS_OK && grads != NULL)
        status = lks_device_zero(
            graph->device, lks_device_stream(graph->device, LKS_STREAM_COMPUTE), grads,
            (size_t)graph->trainable_count * lks_dtype_bytes(lks_graph_grad_type(graph)));
    if (status != LKS_OK) return status;
    graph->grads = grads;
    for (int i = 0; i < graph->node_count; i++) {
        lks_node *node = &graph->nodes[i];
        for (int p = 0; p < node->param_count; p++) {
            const lks_param *param = &graph->params.params[node->first_param + p];
            node->params[p] = (char *)params + param->offset * element;
            node->dparams[p] = place_in_flat(graph, param);
        }
    }
    graph->bound = true;
    return LKS_OK;
}

lks_status lks_graph_bind(lks_graph *graph, void *params, void *grads) {
    return bind(graph, params, grads);
}

lks_status lks_graph_bind_placed(lks_graph *graph, void *params, lks_grads_place_fn place,
                                 void *data) {
    graph->place = place;
    graph->place_data = data;
    return bind(graph, params, NULL);
}

void lks_graph_set_params_wait(lks_graph *graph, lks_params_wait_fn wait, void *data) {
    graph->params_wait = wait;
    graph->params_wait_data = data;
}

int64_t lks_graph_largest_place(const lks_graph *graph) {
    int64_t largest = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        int64_t count = node->trains ? lks_node_grad_count(node) : 0;
        if (count > largest) largest = count;
    }
    return largest;
}

/* ---- what it tells ---- */

const lks_shape *lks_graph_input_shape(const lks_graph *graph) {
    return &graph->input_shape;
}

const lks_shape *lks_graph_output_shape(const lks_graph *graph) {
    return &graph->output_shape;
}

bool lks_graph_targets_are_classes(const lks_graph *graph) {
    return graph->has_loss && graph->loss.targets_are_classes;
}

int64_t lks_graph_ignore_index(const lks_graph *graph) {
    return graph->loss.desc.ignore_index;
}

lks_layout lks_graph_input_layout(const lks_graph *graph) {
    return graph->input_layout;
}

int lks_graph_param_count(const lks_graph *graph) {
    return graph->params.count;
}

const lks_param *lks_graph_param(const lks_graph *graph, int index) {
    return index >= 0 && index < graph->params.count ? &graph->params.params[index] : NULL;
}

int64_t lks_graph_flat_count(const lks_graph *graph) {
    return graph->params.flat_count;
}

int64_t lks_graph_trainable_count(const lks_graph *graph) {
    return graph->trainable_count;
}

int lks_graph_buffer_count(const lks_graph *graph) {
    return graph->buffers.count;
}

const lks_param *lks_graph_buffer(const lks_graph *graph, int index) {
    return index >= 0 && index < graph->buffers.count ? &graph->buffers.params[index] : NULL;
}

float *lks_graph_buffers(lks_graph *graph) {
    return graph->buffer_values;
}

int64_t lks_graph_buffers_flat_count(const lks_graph *graph) {
    return graph->buffers.flat_count;
}

int64_t lks_graph_batches_tracked(const lks_graph *graph) {
    return graph->batches_tracked;
}

void lks_graph_set_batches_tracked(lks_graph *graph, int64_t count) {
    graph->batches_tracked = count;
}

lks_graph_memory lks_graph_get_memory(const lks_graph *graph) {
    return graph->memory_sizes;
}

float *lks_graph_input(lks_graph *graph) {
    return graph->values[graph->input].data;
}

void *lks_graph_targets(lks_graph *graph) {
    return graph->targets;
}

int lks_graph_layer_count(const lks_graph *graph) {
    return graph->layer_count;
}

lks_layer_info lks_graph_layer(const lks_graph *graph, int index) {
    return graph->layers[index];
}
