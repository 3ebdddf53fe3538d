/* Capturing a stream into a graph, and running it. */
#include "queue.h"

using namespace emu;

/* The nodes that those in `last` come after, themselves included. */
static std::set<size_t> reached_from(const Nodes &nodes, std::vector<size_t> last) {
    std::set<size_t> reached;
    while (!last.empty()) {
        size_t n = last.back();
        last.pop_back();
        if (!reached.insert(n).second) continue;
        last.insert(last.end(), nodes[n].after.begin(), nodes[n].after.end());
    }
    return reached;
}

/* One run of a graph. */
class Replay : public Work {
  public:
    Replay(Runtime &r, const Nodes &n)
        : runtime(r), nodes(n), done(n.size(), false), left(n.size()) {
    }
    bool step() override {
        std::vector<bool> waiting(nodes.size(), false); /* for other processes */
        while (left > 0) {
            std::vector<size_t> ready;
            for (size_t n = 0; n < nodes.size(); n++)
                if (!waiting[n] && can_run(n)) ready.push_back(n);
            if (ready.empty()) return false;
            size_t n = ready[runtime.random.below(ready.size())];
            waiting[n] = !runtime.run_item(nodes[n].item);
            if (waiting[n]) continue;
            done[n] = true;
            left--;
        }
        return true;
    }

  private:
    bool can_run(size_t n) const {
        for (size_t before : nodes[n].after)
            if (!done[before]) return false;
        return !done[n];
    }

    Runtime &runtime;
    Nodes nodes; /* its own: what was started belongs to this run */
    std::vector<bool> done;
    size_t left;
};

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!stream || stream == cudaStreamLegacy) return api.result(cudaErrorStreamCaptureImplicit);
    if (!api.is_stream(stream)) return api.result(cudaErrorInvalidResourceHandle);
    if (stream->capture) return api.result(cudaErrorInvalidValue);
    std::shared_ptr<Capture> capture = std::make_shared<Capture>();
    capture->graph = new CUgraph_st;
    capture->mode = mode;
    capture->origin = stream;
    capture->thread = this_thread();
    stream->capture = capture;
    stream->tail.clear();
    api.runtime.captures.insert(capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!out || !stream || !api.is_stream(stream) || !stream->capture)
        return api.result(cudaErrorInvalidValue);
    std::shared_ptr<Capture> capture = stream->capture;
    *out = nullptr;
    if (capture->origin != stream) return api.result(cudaErrorStreamCaptureUnmatched);
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != this_thread())
        return api.result(cudaErrorStreamCaptureWrongThread);

    std::set<size_t> joined = reached_from(capture->graph->nodes, stream->tail);
    bool unjoined = joined.size() < capture->graph->nodes.size();
    for (cudaStream_t s : api.runtime.streams) {
        if (s->capture != capture) continue;
        s->capture.reset();
        s->tail.clear();
    }
    api.runtime.captures.erase(capture);
    if (capture->invalid || unjoined) {
        delete capture->graph;
        return api.result(capture->invalid ? cudaErrorStreamCaptureInvalidated
                                           : cudaErrorStreamCaptureUnjoined);
    }
    *out = capture->graph;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out) {
    Api api;
    if (!out || !api.is_stream(stream)) return api.result(cudaErrorInvalidValue);
    *out = !stream->capture           ? cudaStreamCaptureStatusNone
           : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    Api api;
    if (!graph || !count || nodes) return api.result(cudaErrorInvalidValue);
    *count = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    Api api;
    if (!out || !graph) return api.result(cudaErrorInvalidValue);
    *out = new CUgraphExec_st{std::make_shared<Nodes>(graph->nodes)};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
    Api api;
    return api.result(exec ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!stream || stream == cudaStreamLegacy) fail_default_stream("cudaGraphLaunch");
    if (!exec || !api.is_stream(stream)) return api.result(cudaErrorInvalidResourceHandle);
    if (stream->capture) return api.result(cudaErrorStreamCaptureUnsupported);
    std::shared_ptr<Nodes> nodes = exec->nodes;
    Runtime *runtime = &api.runtime;
    runtime->count_launch("graph", stream->device);
    Item item{nullptr, nullptr, false};
    item.start = [=] { return std::make_shared<Replay>(*runtime, *nodes); };
    return runtime->add(stream, std::move(item));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    Api api;
    if (!exec) return api.result(cudaErrorInvalidValue);
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    Api api;
    if (!graph) return api.result(cudaErrorInvalidValue);
    delete graph;
    return cudaSuccess;
}

} // extern "C"
