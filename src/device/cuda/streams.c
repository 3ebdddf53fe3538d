/* Four streams, none of them the default one, and events for every crossing between them. */
#include <stdlib.h>

#include "device/cuda/cuda.h"

static lks_stream *stream(lks_device *device, lks_stream_name name) {
    return &((lks_cuda_device *)device)->streams[name].base;
}

static lks_status event_create(lks_device *device, bool timed, lks_event **out) {
    lks_status status = lks_cuda_use(device);
    if (status != LKS_OK) return status;
    lks_cuda_event *event = calloc(1, sizeof *event);
    if (!event) return lks_fail(LKS_ENOMEM, "cannot allocate an event");
    event->base.device = device;
    const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
    status = lks_cuda_check(device, cudaEventCreateWithFlags(&event->handle, flags),
                            "cudaEventCreateWithFlags");
    if (status != LKS_OK) {
        free(event);
        return status;
    }
    *out = &event->base;
    return LKS_OK;
}

static cudaEvent_t handle_of(const lks_event *event) {
    return ((const lks_cuda_event *)event)->handle;
}

static void event_destroy(lks_event *event) {
    (void)cudaEventDestroy(handle_of(event));
    free(event);
}

static lks_status event_record(lks_event *event, lks_stream *on) {
    return lks_cuda_check(event->device, cudaEventRecord(handle_of(event), lks_cuda_handle(on)),
                          "cudaEventRecord");
}

static lks_status stream_wait(lks_stream *waiting, lks_event *event) {
    return lks_cuda_check(event->device,
                          cudaStreamWaitEvent(lks_cuda_handle(waiting), handle_of(event), 0),
                          "cudaStreamWaitEvent");
}

static lks_status stream_synchronize(lks_stream *done) {
    return lks_cuda_check(done->device, cudaStreamSynchronize(lks_cuda_handle(done)),
                          "waiting for a stream");
}

static lks_status event_synchronize(lks_event *event) {
    return lks_cuda_check(event->device, cudaEventSynchronize(handle_of(event)),
                          "waiting for an event");
}

static lks_status event_seconds(lks_event *from, lks_event *to, double *out) {
    float milliseconds = 0;
    lks_status status = lks_cuda_check(
        from->device, cudaEventElapsedTime(&milliseconds, handle_of(from), handle_of(to)),
        "cudaEventElapsedTime");
    *out = milliseconds * 1e-3;
    return status;
}

static lks_status done_or_not(const lks_device *device, cudaError_t error, const char *call,
                              bool *out) {
    *out = error == cudaSuccess;
    if (error != cudaErrorNotReady) return lks_cuda_check(device, error, call);
    (void)cudaGetLastError(); /* which would name it as an error of some later call */
    return LKS_OK;
}

static lks_status stream_query(lks_stream *asked, bool *out) {
    return done_or_not(asked->device, cudaStreamQuery(lks_cuda_handle(asked)),
                       "waiting for a stream", out);
}

static lks_status event_query(lks_event *asked, bool *out) {
    return done_or_not(asked->device, cudaEventQuery(handle_of(asked)), "waiting for an event",
                       out);
}

static void *stream_handle(const lks_stream *asked) {
    return lks_cuda_handle(asked);
}

const lks_stream_ops lks_cuda_stream_ops = {
    .stream = stream,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .stream_wait = stream_wait,
    .stream_synchronize = stream_synchronize,
    .event_synchronize = event_synchronize,
    .event_seconds = event_seconds,
    .stream_query = stream_query,
    .event_query = event_query,
    .stream_handle = stream_handle,
    .recording_begin = lks_cuda_recording_begin,
    .recording_end = lks_cuda_recording_end,
    .recording_replay = lks_cuda_recording_replay,
    .recording_destroy = lks_cuda_recording_destroy,
};

/* The memory pool allocates on the compute stream, so all streams exist before the first partials.
 */
lks_status lks_cuda_streams_open(lks_cuda_device *device) {
    lks_status status = LKS_OK;
    for (int i = 0; i < LKS_STREAM_COUNT && status == LKS_OK; i++) {
        lks_cuda_stream *s = &device->streams[i];
        s->base.device = &device->base;
        status = lks_cuda_check(&device->base,
                                cudaStreamCreateWithFlags(&s->handle, cudaStreamNonBlocking),
                                "cudaStreamCreateWithFlags");
    }
    for (int i = 0; i < LKS_STREAM_COUNT && status == LKS_OK; i++)
        status = lks_cuda_memory_ops.alloc(
            &device->base, LKS_CUDA_PARTIALS * LKS_CUDA_PARTIAL_VALUES * sizeof(double),
            (void **)&device->streams[i].partials);
    return status;
}

void lks_cuda_streams_close(lks_cuda_device *device) {
    for (int i = 0; i < LKS_STREAM_COUNT; i++)
        if (device->streams[i].partials)
            lks_cuda_memory_ops.free(&device->base, device->streams[i].partials);
    for (int i = 0; i < LKS_STREAM_COUNT; i++)
        if (device->streams[i].handle) {
            (void)cudaStreamSynchronize(device->streams[i].handle);
            (void)cudaStreamDestroy(device->streams[i].handle);
        }
}
