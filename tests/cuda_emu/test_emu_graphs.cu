/* A captured stream does nothing until its graph is launched, then what it would have done; what
 * CUDA forbids during a capture is refused. */
#include "test_emu.h"

static __global__ void set_value(int *x, int value) {
    *x = value;
}

static __global__ void add_to(int *sum, const int *x) {
    *sum += *x;
}

static __global__ void multiply(int *x, int by) {
    *x *= by;
}

static cudaEvent_t make_event(void) {
    cudaEvent_t event;
    assert_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

static void test_a_graph_replays_what_was_captured(void **) {
    cudaStream_t stream = make_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCaptureStatus capturing;
    size_t nodes = 0;
    int *x = make_device<int>(1), *sum = make_device<int>(1), host = -1;
    int *pinned = make_pinned<int>(1);
    assert_cuda(cudaMemset(sum, 0, sizeof *sum));
    assert_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaStreamIsCapturing(stream, &capturing));
    assert_int_equal(capturing, cudaStreamCaptureStatusActive);
    assert_cuda(cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, stream));
    assert_cuda(launch(multiply, 1, 1, 0, stream, x, 10));
    assert_cuda(launch(add_to, 1, 1, 0, stream, sum, x));
    assert_cuda(cudaStreamEndCapture(stream, &graph));
    assert_cuda(cudaGraphGetNodes(graph, nullptr, &nodes));
    assert_int_equal(nodes, 3);
    assert_cuda(cudaGraphInstantiate(&exec, graph));
    assert_cuda(cudaGraphDestroy(graph));
    download(&host, sum, 1);
    assert_int_equal(host, 0); /* nothing has run */
    for (int i = 1; i <= 3; i++) {
        *pinned = i;
        assert_cuda(cudaGraphLaunch(exec, stream));
        assert_cuda(cudaStreamSynchronize(stream));
    }
    assert_cuda(cudaGraphExecDestroy(exec));
    download(&host, sum, 1);
    assert_int_equal(host, 60);
    assert_cuda(cudaFree(x));
    assert_cuda(cudaFree(sum));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaStreamDestroy(stream));
}

/* Captures one addition on a second stream between two settings on the first. Without the second
 * wait the capture is not joined. */
static cudaError_t capture_fork(cudaStream_t first, cudaStream_t second, int *x, int *sum,
                                bool join, cudaGraph_t *out) {
    cudaEvent_t forked = make_event(), joined = make_event();
    assert_cuda(cudaStreamBeginCapture(first, cudaStreamCaptureModeRelaxed));
    assert_cuda(launch(set_value, 1, 1, 0, first, x, 7));
    assert_cuda(cudaEventRecord(forked, first));
    assert_cuda(cudaStreamWaitEvent(second, forked));
    assert_cuda(launch(add_to, 1, 1, 0, second, sum, x));
    assert_cuda(cudaEventRecord(joined, second));
    if (join) assert_cuda(cudaStreamWaitEvent(first, joined));
    if (join) assert_cuda(launch(set_value, 1, 1, 0, first, x, 1000));
    cudaError_t error = cudaStreamEndCapture(first, out);
    assert_cuda(cudaEventDestroy(forked));
    assert_cuda(cudaEventDestroy(joined));
    return error;
}

static void test_captures_cross_streams_and_join(void **) {
    cudaStream_t first = make_stream(), second = make_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int *x = make_device<int>(1), *sum = make_device<int>(1), host = 0;
    assert_cuda(cudaMemset(sum, 0, sizeof *sum));
    assert_int_equal(capture_fork(first, second, x, sum, false, &graph),
                     cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    assert_cuda(capture_fork(first, second, x, sum, true, &graph));
    assert_cuda(cudaGraphInstantiate(&exec, graph));
    for (int i = 0; i < 20; i++)
        assert_cuda(cudaGraphLaunch(exec, first));
    assert_cuda(cudaStreamSynchronize(first));
    download(&host, sum, 1);
    assert_int_equal(host, 140);
    assert_cuda(cudaGraphExecDestroy(exec));
    assert_cuda(cudaGraphDestroy(graph));
    assert_cuda(cudaFree(x));
    assert_cuda(cudaFree(sum));
    assert_cuda(cudaStreamDestroy(first));
    assert_cuda(cudaStreamDestroy(second));
}

/* Each call ends the capture that it disturbs. */
static void expect_refusal(cudaStreamCaptureMode mode, cudaError_t expected,
                           cudaError_t (*call)(cudaStream_t captured)) {
    cudaStream_t stream = make_stream();
    cudaGraph_t graph;
    int *x = make_device<int>(1);
    assert_cuda(cudaStreamBeginCapture(stream, mode));
    assert_cuda(launch(set_value, 1, 1, 0, stream, x, 1));
    assert_int_equal(call(stream), expected);
    assert_int_equal(launch(set_value, 1, 1, 0, stream, x, 1), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    assert_cuda(launch(set_value, 1, 1, 0, stream, x, 1)); /* the stream itself goes on */
    assert_cuda(cudaStreamSynchronize(stream));
    assert_cuda(cudaFree(x));
    assert_cuda(cudaStreamDestroy(stream));
}

static void test_what_cuda_forbids_during_a_capture(void **) {
    const cudaStreamCaptureMode local = cudaStreamCaptureModeThreadLocal;
    const cudaError_t unsupported = cudaErrorStreamCaptureUnsupported;
    expect_refusal(local, unsupported, [](cudaStream_t s) { return cudaStreamSynchronize(s); });
    expect_refusal(local, unsupported, [](cudaStream_t s) { return cudaStreamQuery(s); });
    expect_refusal(local, unsupported, [](cudaStream_t) { return cudaDeviceSynchronize(); });
    expect_refusal(local, unsupported, [](cudaStream_t) {
        void *p;
        return cudaMalloc(&p, 4);
    });
    expect_refusal(local, unsupported, [](cudaStream_t s) {
        int host = 0;
        static int *x = nullptr; /* made below, outside of the capture's thread mode */
        cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
        assert_cuda(cudaThreadExchangeStreamCaptureMode(&mode));
        x = make_device<int>(1);
        assert_cuda(cudaThreadExchangeStreamCaptureMode(&mode));
        return cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyHostToDevice, s);
    });
    expect_refusal(local, cudaErrorCapturedEvent, [](cudaStream_t s) {
        cudaEvent_t event = make_event();
        assert_cuda(cudaEventRecord(event, s));
        return cudaEventSynchronize(event);
    });
    expect_refusal(local, cudaErrorStreamCaptureIsolation, [](cudaStream_t s) {
        cudaEvent_t event = make_event();
        cudaStream_t other = make_stream();
        assert_cuda(cudaEventRecord(event, other));
        return cudaStreamWaitEvent(s, event);
    });
    (void)cudaGetLastError();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_graph_replays_what_was_captured),
        cmocka_unit_test(test_captures_cross_streams_and_join),
        cmocka_unit_test(test_what_cuda_forbids_during_a_capture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
