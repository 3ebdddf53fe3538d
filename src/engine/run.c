/* One batch through the graph. */
#include <inttypes.h>

#include "engine/graph.h"

static lks_stream *compute_stream(const lks_graph *graph) {
    return lks_device_stream(graph->device, LKS_STREAM_COMPUTE);
}

static lks_status check_call(const lks_graph *graph, const lks_batch_info *info, const char *what) {
    if (!graph->bound) return lks_fail(LKS_EINVAL, "%s before the parameters are bound", what);
    if (info->batch < 0 || info->batch > graph->config.max_batch)
        return lks_fail(LKS_EINVAL, "%s with %" PRId64 " samples: expected 0 .. %" PRId64, what,
                        info->batch, graph->config.max_batch);
    if (info->training && graph->config.inference_only)
        return lks_fail(LKS_EINVAL, "%s in training of a model built for inference only", what);
    return LKS_OK;
}

static float *data_of(const lks_graph *graph, int value) {
    return value == LKS_NO_VALUE ? NULL : graph->values[value].data;
}

/* What forward and backward have in common. */
static lks_op_args make_args(const lks_graph *graph, const lks_node *node,
                             const lks_batch_info *info) {
    return (lks_op_args){
        .batch = info->batch,
        .training = info->training,
        .accumulate = info->accumulate,
        .step = info->step,
        .first_row = info->first_row,
        .x = data_of(graph, node->x),
        .x2 = data_of(graph, node->x2),
        .y = data_of(graph, node->y),
        .params = node->params,
        .buffers = node->buffers,
        .batches_tracked = graph->batches_tracked,
        .saved = node->saved,
        .all_reduce = node->synchronize ? graph->config.all_reduce : NULL,
        .all_reduce_data = graph->config.all_reduce_data,
    };
}

lks_status lks_graph_forward(lks_graph *graph, const lks_batch_info *info) {
    lks_status status = check_call(graph, info, "forward");
    if (status != LKS_OK) return status;
    lks_stream *stream = compute_stream(graph);
    for (int i = 0; i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        lks_op_args args = make_args(graph, node, info);
        args.scratch = node->scratch;
        status = lks_op_forward(node->op, stream, &args);
        if (status != LKS_OK) return lks_graph_fail_in_layer(graph, node->layer, status);
    }
    if (info->training) graph->batches_tracked++;
    return LKS_OK;
}

const float *lks_graph_output(const lks_graph *graph) {
    return data_of(graph, graph->output);
}

lks_status lks_graph_loss(lks_graph *graph, const lks_batch_info *info, double *sums) {
    lks_status status = check_call(graph, info, "the loss");
    if (status != LKS_OK) return status;
    if (!graph->has_loss)
        return lks_fail(LKS_EINVAL, "the loss of a model that was built without one");
    return lks_device_loss(graph->device, compute_stream(graph), &graph->loss.desc, info->batch,
                           data_of(graph, graph->output), graph->targets,
                           info->training ? graph->values[graph->output].grad : NULL, sums);
}

static void *grad_of(const lks_graph *graph, int value) {
    return value == LKS_NO_VALUE ? NULL : graph->values[value].grad;
}

static lks_status run_backward(lks_graph *graph, const lks_node *node, const lks_batch_info *info) {
    lks_op_args args = make_args(graph, node, info);
    args.scratch = node->backward_scratch;
    args.dy = grad_of(graph, node->y);
    args.dy2 = grad_of(graph, node->y2);
    args.dx = grad_of(graph, node->x);
    args.dx2 = grad_of(graph, node->x2);
    args.dparams = node->trains ? node->dparams : NULL;
    lks_status status = lks_op_backward(node->op, compute_stream(graph), &args);
    return status == LKS_OK ? LKS_OK : lks_graph_fail_in_layer(graph, node->layer, status);
}

lks_status lks_graph_backward(lks_graph *graph, const lks_batch_info *info,
                              lks_grads_ready_fn ready, void *ready_data) {
    lks_status status = check_call(graph, info, "backward");
    if (status == LKS_OK && !info->training)
        status = lks_fail(LKS_EINVAL, "backward of a batch that is not training");
    for (int i = graph->node_count - 1; status == LKS_OK && i >= 0; i--) {
        const lks_node *node = &graph->nodes[i];
        if (!lks_node_has_backward(graph, node)) continue;
        status = run_backward(graph, node, info);
        if (status == LKS_OK && node->trains && ready != NULL)
            status = ready(ready_data, node->ready_end);
    }
    return status;
}

const float *lks_graph_input_gradient(const lks_graph *graph) {
    return graph->values[graph->input].grad;
}
