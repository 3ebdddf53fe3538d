/* Streams, events, host functions. */
#include "queue.h"

using namespace emu;

static cudaError_t create_stream(cudaStream_t *out, unsigned flags) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!out || flags > cudaStreamNonBlocking) return api.result(cudaErrorInvalidValue);
    if (!is_device(current_device())) return api.result(cudaErrorNoDevice);
    cudaStream_t s = new CUstream_st;
    s->device = current_device();
    s->flags = flags;
    s->priority = api.runtime.random.next();
    api.runtime.streams.insert(s);
    *out = s;
    return cudaSuccess;
}

/* Why a call cannot be made on this stream. */
static cudaError_t check_stream(const Api &api, cudaStream_t stream, const char *what) {
    if (api.refused()) return cudaErrorNotPermitted;
    if (!stream || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        fail_default_stream(what);
    if (!api.is_stream(stream)) return cudaErrorInvalidResourceHandle;
    return api.runtime.is_lost(stream->device) ? cudaErrorLaunchFailure : cudaSuccess;
}

static cudaError_t check_event(const Api &api, cudaEvent_t event) {
    if (api.refused()) return cudaErrorNotPermitted;
    if (!api.runtime.events.count(event)) return cudaErrorInvalidResourceHandle;
    return api.runtime.is_lost(current_device()) ? cudaErrorLaunchFailure : cudaSuccess;
}

/* Nothing may wait for, or ask after, a stream that is being captured. */
static cudaError_t check_not_capturing(const Api &api, cudaStream_t stream) {
    if (stream->capture) {
        stream->capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return api.disturbs_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

static void add_all(std::vector<size_t> &to, const std::vector<size_t> &from) {
    std::set<size_t> both(to.begin(), to.end());
    both.insert(from.begin(), from.end());
    to.assign(both.begin(), both.end());
}

static cudaError_t wait_captured(Api &api, cudaStream_t stream, cudaEvent_t event) {
    if (!api.runtime.captures.count(event->capture)) return cudaErrorCapturedEvent;
    if (stream->capture && stream->capture != event->capture) return cudaErrorStreamCaptureMerge;
    if (!stream->capture) {
        stream->capture = event->capture;
        stream->tail.clear();
    }
    add_all(stream->tail, event->nodes);
    return cudaSuccess;
}

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return create_stream(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    return create_stream(out, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return create_stream(out, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaStreamDestroy");
    if (error) return api.result(error);
    stream->destroyed = true; /* what is queued still runs */
    if (stream->items.empty()) {
        api.runtime.streams.erase(stream);
        delete stream;
    }
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaStreamSynchronize");
    if (!error) error = check_not_capturing(api, stream);
    if (error) return api.result(error);
    api.runtime.run_until([&] { return stream->items.empty(); });
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaStreamQuery");
    if (!error) error = check_not_capturing(api, stream);
    if (error) return api.result(error);
    if (stream->items.empty()) return cudaSuccess;
    api.runtime.run_one(true); /* whoever polls comes to an end */
    return cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaStreamWaitEvent");
    if (!error) error = check_event(api, event);
    if (!error && flags != cudaEventWaitDefault) error = cudaErrorNotSupported;
    if (error) return api.result(error);
    if (event->capture) return api.result(wait_captured(api, stream, event));
    if (stream->capture) {
        stream->capture->invalid = true;
        return api.result(cudaErrorStreamCaptureIsolation);
    }
    if (!event->mark) return cudaSuccess; /* never recorded: nothing to wait for */
    return api.runtime.add(stream, Item{nullptr, event->mark, false});
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaLaunchHostFunc");
    if (!error && !function) error = cudaErrorInvalidValue;
    if (error) return api.result(error);
    return api.result(api.runtime.add(stream, Item{[=] { function(data); }, nullptr, true}));
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data,
                                  unsigned flags) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaStreamAddCallback");
    if (!error && (!callback || flags)) error = cudaErrorInvalidValue;
    if (!error && stream->capture) error = cudaErrorStreamCaptureUnsupported;
    if (error) return api.result(error);
    return api.runtime.add(stream,
                           Item{[=] { callback(stream, cudaSuccess, data); }, nullptr, true});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!out || flags > (cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess))
        return api.result(cudaErrorInvalidValue);
    if (!is_device(current_device())) return api.result(cudaErrorNoDevice);
    cudaEvent_t e = new CUevent_st;
    e->flags = flags;
    api.runtime.events.insert(e);
    *out = e;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Api api;
    cudaError_t error = check_event(api, event);
    if (error) return api.result(error);
    api.runtime.events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaEventRecord");
    if (!error) error = check_event(api, event);
    if (!error && flags) error = cudaErrorNotSupported;
    if (error) return api.result(error);
    if (stream->capture) {
        if (stream->capture->invalid) return api.result(cudaErrorStreamCaptureInvalidated);
        event->mark.reset();
        event->capture = stream->capture;
        event->nodes = stream->tail;
        return cudaSuccess;
    }
    std::shared_ptr<Mark> mark = std::make_shared<Mark>();
    Runtime *runtime = &api.runtime;
    event->capture.reset();
    event->mark = mark;
    return runtime->add(stream, Item{[=] {
                                         mark->done = true;
                                         mark->ms = runtime->now_ms();
                                     },
                                     nullptr, false});
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, 0);
}

static cudaError_t check_outside_capture(const Api &api, cudaEvent_t event) {
    cudaError_t error = check_event(api, event);
    if (error) return error;
    if (event->capture) {
        event->capture->invalid = true;
        return cudaErrorCapturedEvent;
    }
    return api.disturbs_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    Api api;
    cudaError_t error = check_outside_capture(api, event);
    if (error) return api.result(error);
    if (!event->mark || event->mark->done) return cudaSuccess;
    api.runtime.run_one(true);
    return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Api api;
    cudaError_t error = check_outside_capture(api, event);
    if (error) return api.result(error);
    std::shared_ptr<Mark> mark = event->mark;
    if (mark) api.runtime.run_until([&] { return mark->done; });
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    Api api;
    cudaError_t error = check_event(api, start);
    if (!error) error = check_event(api, end);
    if (!error && !ms) error = cudaErrorInvalidValue;
    if (error) return api.result(error);
    if (!start->mark || !end->mark || ((start->flags | end->flags) & cudaEventDisableTiming))
        return api.result(cudaErrorInvalidResourceHandle);
    if (!start->mark->done || !end->mark->done) return cudaErrorNotReady;
    *ms = (float)(end->mark->ms - start->mark->ms);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (api.disturbs_capture()) return api.result(cudaErrorStreamCaptureUnsupported);
    api.runtime.run_until([&] { return api.runtime.is_idle(); });
    return cudaSuccess;
}

} // extern "C"
