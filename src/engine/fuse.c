#include "engine/fuse.h"

/* The node that made the value, or NULL. */
static lks_node *producer_of(lks_graph *graph, int value) {
    int producer = graph->values[value].producer;
    return producer == LKS_NO_NODE ? NULL : &graph->nodes[producer];
}

bool lks_fuse_activation(lks_graph *graph, const lks_layer_plan *plan, int value) {
    lks_node *node = producer_of(graph, value);
    if (plan->kind != LKS_OP_ELTWISE || node == NULL) return false;
    return lks_op_fuse(graph->device, node->kind, &node->desc, plan->desc.eltwise.activation);
}

void lks_fuse_backward(lks_graph *graph, lks_node *node) {
    lks_node *first = producer_of(graph, node->x);
    if (graph->config.inference_only || first == NULL) return;
    node->takes_x_saved =
        lks_op_chain(graph->device, first->kind, &first->desc, node->kind, &node->desc);
}

bool lks_fuse_add_behind(lks_graph *graph, int *value, int second) {
    int last = graph->node_count - 1;
    lks_node *node = &graph->nodes[last];
    bool made_second = graph->values[second].producer == last;
    if (!made_second && graph->values[*value].producer != last) return false;
    if (!lks_op_add(graph->device, node->kind, &node->desc, LKS_ADD_BEHIND)) return false;
    node->x2 = made_second ? *value : second;
    graph->values[node->x2].consumer = last;
    *value = node->y;
    return true;
}

lks_node *lks_fuse_add_in_front(lks_graph *graph, const lks_layer_plan *plan, int value) {
    lks_node *node = producer_of(graph, value);
    lks_op_desc desc = plan->desc;
    if (node == NULL || node->kind != LKS_OP_ADD) return NULL;
    if (node->desc.add.activation != LKS_ACTIVATION_NONE) return NULL;
    if (!lks_op_add(graph->device, plan->kind, &desc, LKS_ADD_IN_FRONT)) return NULL;
    node->kind = plan->kind;
    node->desc = desc;
    return node;
}
