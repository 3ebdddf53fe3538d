/* The memory plan: how long each array of a step lives, and which may lie in one place.
 *
 * Steps of a batch with n nodes: 0 the input arrives, i + 1 forward of node i, n + 1 the loss,
 * 2n + 1 - i backward of node i. An array that shares another's memory (in place, or a fork's
 * outputs) shares its block; all blocks are packed by their lifetimes.
 */
#include <stdlib.h>

#include "engine/graph.h"
#include "engine/plan.h"

enum { NO_BLOCK = -1 };

typedef struct memory_plan {
    lks_graph *graph;
    bool share;
    lks_block *blocks;
    int block_count;
    int *last_use;         /* [values], of the data */
    int *data, *grad;      /* [values] block, or NO_BLOCK */
    int *saved;            /* [nodes] */
    int *scratch;          /* [nodes], of forward */
    int *backward_scratch; /* [nodes] */
    int *own_grads;        /* [nodes] */
    int targets;
} memory_plan;

static int forward_step(int node) {
    return node + 1;
}

static int loss_step(const lks_graph *graph) {
    return graph->node_count + 1;
}

static int backward_step(const lks_graph *graph, int node) {
    return 2 * graph->node_count + 1 - node;
}

static int end_step(const lks_graph *graph) {
    return graph->config.inference_only ? loss_step(graph) : backward_step(graph, 0);
}

static int later(int a, int b) {
    return a > b ? a : b;
}

/* ---- blocks ---- */

static int add_block(memory_plan *m, size_t bytes, int first, int last) {
    m->blocks[m->block_count] = (lks_block){
        .bytes = bytes,
        .first = first,
        .last = m->share ? last : end_step(m->graph),
    };
    return m->block_count++;
}

static lks_status add_value_block(memory_plan *m, int value, int first, int last, int *out) {
    const lks_graph *graph = m->graph;
    size_t bytes;
    if (!lks_size_mul((size_t)graph->values[value].count, (size_t)graph->config.max_batch,
                      &bytes) ||
        !lks_size_mul(bytes, lks_dtype_bytes(graph->values[value].type), &bytes))
        return lks_fail(LKS_ENOMEM, "a batch of activations is more bytes than this machine can "
                                    "address: take a smaller batch");
    *out = add_block(m, bytes, first, last);
    return LKS_OK;
}

static void extend(memory_plan *m, int block, int last) {
    m->blocks[block].last = later(m->blocks[block].last, last);
}

/* ---- forward ---- */

/* Until when each value's data is read. */
static void find_last_uses(memory_plan *m) {
    const lks_graph *graph = m->graph;
    for (int v = 0; v < graph->value_count; v++) {
        const lks_value *value = &graph->values[v];
        int last =
            value->consumer == LKS_NO_NODE ? loss_step(graph) : forward_step(value->consumer);
        if (value->consumer != LKS_NO_NODE) {
            const lks_node *consumer = &graph->nodes[value->consumer];
            if (lks_node_has_backward(graph, consumer) && consumer->x == v &&
                lks_op_get_needs(consumer->op)->backward_needs_x)
                last = later(last, backward_step(graph, value->consumer));
        }
        if (value->producer != LKS_NO_NODE) {
            const lks_node *producer = &graph->nodes[value->producer];
            if (lks_node_has_backward(graph, producer) &&
                lks_op_get_needs(producer->op)->backward_needs_y)
                last = later(last, backward_step(graph, value->producer));
        }
        m->last_use[v] = last;
    }
}

/* May node i write its output over its input? Only where nobody reads the input, or what shares its
 * block, after this node's forward. */
static bool forward_in_place(const memory_plan *m, int i) {
    const lks_graph *graph = m->graph;
    const lks_node *node = &graph->nodes[i];
    int block = m->data[node->x];
    return m->share && lks_op_get_needs(node->op)->in_place &&
           graph->values[node->x].count == graph->values[node->y].count &&
           (node->x2 == LKS_NO_VALUE || m->data[node->x2] != block) &&
           m->blocks[block].last <= forward_step(i);
}

static lks_status place_data(memory_plan *m) {
    const lks_graph *graph = m->graph;
    lks_status status =
        add_value_block(m, graph->input, 0, end_step(graph), &m->data[graph->input]);
    for (int i = 0; status == LKS_OK && i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        if (node->kind == LKS_OP_FORK) {
            m->data[node->y] = m->data[node->y2] = m->data[node->x];
            extend(m, m->data[node->x], m->last_use[node->y2]);
        } else if (forward_in_place(m, i)) {
            m->data[node->y] = m->data[node->x];
        } else {
            status = add_value_block(m, node->y, forward_step(i), m->last_use[node->y],
                                     &m->data[node->y]);
            continue;
        }
        extend(m, m->data[node->y], m->last_use[node->y]);
    }
    return status;
}

/* ---- backward ---- */

/* The block of a gradient that node i writes: dy's own where that is free to be overwritten. */
static lks_status place_grad(memory_plan *m, int i, int value, bool over_dy) {
    const lks_graph *graph = m->graph;
    const lks_node *node = &graph->nodes[i];
    over_dy = over_dy && m->share && lks_op_get_needs(node->op)->backward_in_place &&
              graph->values[value].count == graph->values[node->y].count;
    if (over_dy) {
        m->grad[value] = m->grad[node->y];
        return LKS_OK;
    }
    int step = backward_step(graph, i);
    return add_value_block(m, value, step, step, &m->grad[value]);
}

static lks_status place_grads(memory_plan *m) {
    const lks_graph *graph = m->graph;
    if (graph->config.inference_only || !graph->values[graph->output].needs_grad) return LKS_OK;
    int step = loss_step(graph);
    lks_status status = add_value_block(m, graph->output, step, step, &m->grad[graph->output]);
    for (int i = graph->node_count - 1; status == LKS_OK && i >= 0; i--) {
        const lks_node *node = &graph->nodes[i];
        if (!lks_node_has_backward(graph, node)) continue;
        step = backward_step(graph, i);
        extend(m, m->grad[node->y], step);
        if (node->y2 != LKS_NO_VALUE) extend(m, m->grad[node->y2], step);
        bool x_needs = graph->values[node->x].needs_grad;
        if (x_needs) status = place_grad(m, i, node->x, true);
        if (status == LKS_OK && node->x2 != LKS_NO_VALUE && graph->values[node->x2].needs_grad)
            status = place_grad(m, i, node->x2, !x_needs);
    }
    return status;
}

/* ---- what operations keep, and the targets ---- */

static void place_node_memory(memory_plan *m) {
    const lks_graph *graph = m->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        const lks_op_needs *needs = lks_op_get_needs(node->op);
        bool has_backward = lks_node_has_backward(graph, node);
        int forward = forward_step(i), backward = backward_step(graph, i);
        if (needs->saved_bytes > 0)
            m->saved[i] =
                add_block(m, needs->saved_bytes, forward, has_backward ? backward : forward);
        if (needs->scratch_bytes > 0)
            m->scratch[i] = add_block(m, needs->scratch_bytes, forward, forward);
        if (needs->scratch_bytes > 0 && has_backward)
            m->backward_scratch[i] = add_block(m, needs->scratch_bytes, backward, backward);
        if (has_backward && node->trains && lks_graph_grad_type(graph) != LKS_F32)
            m->own_grads[i] =
                add_block(m, (size_t)lks_node_grad_count(node) * sizeof(float), backward, backward);
    }
}

static lks_status place_targets(memory_plan *m) {
    const lks_graph *graph = m->graph;
    if (!graph->has_loss) return LKS_OK;
    if (graph->loss.targets_are_classes) {
        m->targets =
            add_block(m, (size_t)graph->config.max_batch * sizeof(int32_t), 0, end_step(graph));
        return LKS_OK;
    }
    return add_value_block(m, graph->output, 0, end_step(graph), &m->targets);
}

/* ---- the plan ---- */

static lks_status alloc_layout(memory_plan *m, lks_graph *graph) {
    size_t values = (size_t)graph->value_count, nodes = (size_t)graph->node_count;
    int *ints = malloc((3 * values + 4 * nodes) * sizeof *ints);
    lks_block *blocks = malloc((2 * values + 4 * nodes + 1) * sizeof *blocks);
    if (ints == NULL || blocks == NULL) {
        free(ints);
        free(blocks);
        return lks_fail(LKS_ENOMEM, "out of memory for the plan of %d nodes", graph->node_count);
    }
    *m = (memory_plan){.graph = graph, .blocks = blocks, .last_use = ints};
    m->data = m->last_use + values;
    m->grad = m->data + values;
    m->saved = m->grad + values;
    m->scratch = m->saved + nodes;
    m->backward_scratch = m->scratch + nodes;
    m->own_grads = m->backward_scratch + nodes;
    return LKS_OK;
}

static void free_layout(memory_plan *m) {
    free(m->last_use);
    free(m->blocks);
}

static lks_status make_layout(memory_plan *m, bool share, size_t *out_bytes) {
    size_t values = (size_t)m->graph->value_count, nodes = (size_t)m->graph->node_count;
    m->share = share;
    m->block_count = 0;
    m->targets = NO_BLOCK;
    for (size_t i = 0; i < 3 * values + 4 * nodes; i++)
        m->last_use[i] = NO_BLOCK;
    find_last_uses(m);
    lks_status status = place_data(m);
    if (status == LKS_OK) status = place_grads(m);
    if (status == LKS_OK) status = place_targets(m);
    place_node_memory(m);
    if (status == LKS_OK) status = lks_plan_pack(m->blocks, m->block_count, out_bytes);
    return status;
}

static void *at(const memory_plan *m, int block) {
    if (block == NO_BLOCK) return NULL;
    return (char *)m->graph->memory + m->blocks[block].offset;
}

static void set_pointers(const memory_plan *m) {
    lks_graph *graph = m->graph;
    for (int v = 0; v < graph->value_count; v++) {
        graph->values[v].data = at(m, m->data[v]);
        graph->values[v].grad = at(m, m->grad[v]);
    }
    for (int i = 0; i < graph->node_count; i++) {
        lks_node *node = &graph->nodes[i];
        node->saved = at(m, m->saved[i]);
        node->scratch = at(m, m->scratch[i]);
        node->backward_scratch = at(m, m->backward_scratch[i]);
        node->own_grads = at(m, m->own_grads[i]);
    }
    graph->targets = at(m, m->targets);
}

lks_status lks_graph_plan_memory(lks_graph *graph) {
    memory_plan m;
    lks_status status = alloc_layout(&m, graph);
    if (status != LKS_OK) return status;
    status = make_layout(&m, false, &graph->memory_sizes.unshared_bytes);
    if (status == LKS_OK)
        status =
            make_layout(&m, !graph->config.unshared_memory, &graph->memory_sizes.planned_bytes);
    if (status == LKS_OK)
        status = lks_device_alloc(graph->device, graph->memory_sizes.planned_bytes, &graph->memory);
    if (status == LKS_OK) set_pointers(&m);
    free_layout(&m);
    return status;
}
