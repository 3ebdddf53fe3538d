/* One batch through the graph. */
#include <inttypes.h>

#include "device/trace.h"
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

static void *data_of(const lks_graph *graph, int value) {
    return value == LKS_NO_VALUE ? NULL : graph->values[value].data;
}

/* What forward and backward have in common. */
static lks_op_args make_args(const lks_graph *graph, const lks_node *node,
                             const lks_batch_info *info) {
    return (lks_op_args){
        .batch = info->batch,
        .training = info->training,
        .accumulate = info->accumulate,
        .counters = info->counters,
        .step = info->step,
        .first_row = info->first_row,
        .x = data_of(graph, node->x),
        .x2 = data_of(graph, node->x2),
        .y = data_of(graph, node->y),
        .params = node->params,
        .buffers = node->buffers,
        .batches_tracked = info->counters ? info->micro_batch : graph->batches_tracked,
        .saved = node->saved,
        .all_reduce = node->synchronize ? graph->config.all_reduce : NULL,
        .all_reduce_data = graph->config.all_reduce_data,
    };
}

static void enter_layer(const lks_graph *graph, lks_phase phase, const lks_node *node) {
    lks_trace_enter(graph->device, phase, node->layer, graph->layers[node->layer].name);
}

/* ---- after a failure ----
 *
 * Other ranks wait in the nodes that sum over all of them: those run on without samples. */

/* Does the node run, and with how many samples? */
static bool goes_on(const lks_node *node, const lks_failure *failure, lks_batch_info *info) {
    if (failure->status == LKS_OK) return true;
    info->batch = 0;
    return node->synchronize;
}

/* A failed communication leaves nobody to wait; the words are still those of what failed first. */
static void keep_first(lks_status status, lks_failure *failure) {
    lks_failure_note(failure, status);
    if (status == LKS_ECOMM) failure->status = LKS_ECOMM;
}

static lks_status run_forward(const lks_graph *graph, const lks_node *node,
                              const lks_batch_info *info) {
    lks_op_args args = make_args(graph, node, info);
    args.scratch = node->scratch;
    enter_layer(graph, LKS_PHASE_FORWARD, node);
    lks_status status = lks_op_forward(node->op, compute_stream(graph), &args);
    lks_trace_leave(graph->device);
    return status == LKS_OK ? LKS_OK : lks_graph_fail_in_layer(graph, node->layer, status);
}

lks_status lks_graph_forward(lks_graph *graph, const lks_batch_info *info) {
    lks_status status = check_call(graph, info, "forward");
    if (status != LKS_OK) return status;
    lks_failure failure = {0};
    lks_batch_info rest = *info;
    for (int i = 0; failure.status != LKS_ECOMM && i < graph->node_count; i++) {
        const lks_node *node = &graph->nodes[i];
        if (node->trains && graph->params_wait != NULL)
            status =
                graph->params_wait(graph->params_wait_data, node->ready_begin, node->ready_end);
        keep_first(status, &failure);
        if (status != LKS_OK) break;
        if (goes_on(node, &failure, &rest)) keep_first(run_forward(graph, node, &rest), &failure);
    }
    if (info->training && failure.status == LKS_OK) graph->batches_tracked++;
    return lks_failure_tell(&failure);
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

/* The gradients of a node's parameters stand in `at`, by their places in the flat buffer; what lies
 * between and behind them is zeroed. dparams: their places, also where zeroing fails. */
static void place_gradients(const lks_graph *graph, const lks_node *node, float *at, void **dparams,
                            lks_failure *failure) {
    lks_stream *stream = compute_stream(graph);
    int64_t end = 0; /* of what has its place so far */
    for (int p = 0; p < node->param_count; p++) {
        const lks_param *param = &graph->params.params[node->first_param + p];
        if (param->frozen) continue;
        const int64_t begin = param->offset - node->ready_begin;
        keep_first(
            lks_device_zero(graph->device, stream, at + end, (size_t)(begin - end) * sizeof(float)),
            failure);
        dparams[p] = at + begin;
        end = begin + param->count;
    }
    const int64_t left = lks_node_grad_count(node) - end;
    keep_first(lks_device_zero(graph->device, stream, at + end, (size_t)left * sizeof(float)),
               failure);
}

/* From the node's own memory to where gradients are kept: rounded once, also when added to
 * what is there. at: NULL: in the flat buffer. */
static lks_status store_own_gradients(const lks_graph *graph, const lks_node *node, bool accumulate,
                                      void *at) {
    const lks_dtype type = lks_graph_grad_type(graph);
    const int64_t count = lks_node_grad_count(node);
    lks_stream *stream = compute_stream(graph);
    if (at == NULL) at = (char *)graph->grads + node->ready_begin * (int64_t)lks_dtype_bytes(type);
    return accumulate
               ? lks_device_add(graph->device, stream, count, LKS_F32, node->own_grads, type, at)
               : lks_device_cast(graph->device, stream, count, LKS_F32, node->own_grads, type, at);
}

static lks_status run_backward(const lks_graph *graph, const lks_node *node,
                               const lks_batch_info *info, void *const *dparams) {
    lks_op_args args = make_args(graph, node, info);
    args.accumulate = info->accumulate && node->own_grads == NULL;
    args.scratch = node->backward_scratch;
    args.dy = grad_of(graph, node->y);
    args.dy2 = grad_of(graph, node->y2);
    args.dx = grad_of(graph, node->x);
    args.dx2 = grad_of(graph, node->x2);
    if (node->takes_x_saved) {
        const lks_node *first = &graph->nodes[graph->values[node->x].producer];
        args.x_op = first->op;
        args.x_saved = first->saved;
    }
    args.dparams = node->trains ? dparams : NULL;
    enter_layer(graph, LKS_PHASE_BACKWARD, node);
    lks_status status = lks_op_backward(node->op, compute_stream(graph), &args);
    lks_trace_leave(graph->device);
    return status == LKS_OK ? LKS_OK : lks_graph_fail_in_layer(graph, node->layer, status);
}

/* The caller is asked and told of every layer also after one has failed, as its peers are. */
lks_status lks_graph_backward(lks_graph *graph, const lks_batch_info *info,
                              lks_grads_ready_fn ready, void *ready_data) {
    lks_status status = check_call(graph, info, "backward");
    if (status == LKS_OK && !info->training)
        status = lks_fail(LKS_EINVAL, "backward of a batch that is not training");
    if (status != LKS_OK) return status;
    lks_failure failure = {0};
    lks_batch_info rest = *info;
    for (int i = graph->node_count - 1; failure.status != LKS_ECOMM && i >= 0; i--) {
        const lks_node *node = &graph->nodes[i];
        if (!lks_node_has_backward(graph, node)) continue;
        void *at = NULL; /* in the flat buffer, unless the caller has another place */
        void *placed[LKS_LAYER_MAX_PARAMS] = {0};
        if (node->trains && graph->place != NULL)
            status =
                graph->place(graph->place_data, node->ready_begin, lks_node_grad_count(node), &at);
        keep_first(status, &failure);
        if (status != LKS_OK) break;
        float *direct = node->own_grads != NULL ? node->own_grads : at;
        if (direct != NULL) place_gradients(graph, node, direct, placed, &failure);
        if (goes_on(node, &failure, &rest))
            keep_first(run_backward(graph, node, &rest, direct != NULL ? placed : node->dparams),
                       &failure);
        if (failure.status == LKS_OK && node->own_grads != NULL)
            keep_first(store_own_gradients(graph, node, info->accumulate, at), &failure);
        if (node->trains && ready != NULL) status = ready(ready_data, node->ready_end);
        keep_first(status, &failure);
        if (status != LKS_OK) break;
    }
    return lks_failure_tell(&failure);
}

const float *lks_graph_input_gradient(const lks_graph *graph) {
    return graph->values[graph->input].grad;
}
