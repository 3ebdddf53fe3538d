/* Recordings: a stream is captured into a CUDA graph, which is launched to replay it. */
#include <stdlib.h>

#include "device/cuda/cuda.h"

/* Other threads, such as the loader's, may call CUDA meanwhile. */
lks_status lks_cuda_recording_begin(lks_stream *stream) {
    lks_status status = lks_cuda_use(stream->device);
    if (status != LKS_OK) return status;
    return lks_cuda_check(
        stream->device,
        cudaStreamBeginCapture(lks_cuda_handle(stream), cudaStreamCaptureModeThreadLocal),
        "beginning to record a stream");
}

static lks_status instantiate(lks_device *device, cudaGraph_t graph, lks_recording **out) {
    lks_cuda_recording *recording = calloc(1, sizeof *recording);
    if (!recording) return lks_fail(LKS_ENOMEM, "cannot allocate a recording");
    recording->base.device = device;
    lks_status status = lks_cuda_check(device, cudaGraphInstantiate(&recording->handle, graph, 0),
                                       "making a graph of what was recorded");
    if (status != LKS_OK) {
        free(recording);
        return status;
    }
    *out = &recording->base;
    return LKS_OK;
}

lks_status lks_cuda_recording_end(lks_stream *stream, lks_recording **out) {
    lks_device *device = stream->device;
    cudaGraph_t graph = NULL;
    lks_status status = lks_cuda_check(
        device, cudaStreamEndCapture(lks_cuda_handle(stream), &graph), "recording a stream");
    if (status == LKS_OK) status = instantiate(device, graph, out);
    if (graph) (void)cudaGraphDestroy(graph);
    return status;
}

lks_status lks_cuda_recording_replay(lks_recording *recording, lks_stream *stream) {
    lks_status status = lks_cuda_use(stream->device);
    if (status != LKS_OK) return status;
    return lks_cuda_check(
        stream->device,
        cudaGraphLaunch(((lks_cuda_recording *)recording)->handle, lks_cuda_handle(stream)),
        "launching a graph");
}

void lks_cuda_recording_destroy(lks_recording *recording) {
    if (lks_cuda_use(recording->device) == LKS_OK)
        (void)cudaGraphExecDestroy(((lks_cuda_recording *)recording)->handle);
    free(recording);
}
