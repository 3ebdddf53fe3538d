/* Streams run when they are waited for, in an order that only waits and synchronisations decide. */
#include "test_emu.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static __global__ void set_value(int *x, int value) {
    *x = value;
}

static __global__ void add_to(int *sum, const int *x) {
    *sum += *x;
}

/* Runs `part`, which prints nothing, in a child whose emulator has that seed, as this program
 * called with its name; returns its exit status. */
static int run_with_seed(const char *part, unsigned seed) {
    char text[16];
    snprintf(text, sizeof text, "%u", seed);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("LKS_CUDA_EMU_SEED", text, 1);
        (void)freopen("/dev/null", "w", stderr);
        execl("/proc/self/exe", "test", part, (char *)NULL);
        _exit(126);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- parts: each returns a small number ---- */

/* A producer and a consumer on two streams. */
static int produce_and_consume(bool wait) {
    cudaStream_t first = make_stream(), second = make_stream();
    cudaEvent_t produced;
    int *x = make_device<int>(1), *sum = make_device<int>(1), host = 0;
    assert_cuda(cudaEventCreateWithFlags(&produced, cudaEventDisableTiming));
    assert_cuda(cudaMemset(x, 0, sizeof *x));
    assert_cuda(cudaMemset(sum, 0, sizeof *sum));
    for (int i = 1; i <= 20; i++) {
        assert_cuda(launch(set_value, 1, 1, 0, first, x, i));
        assert_cuda(cudaEventRecord(produced, first));
        if (wait) assert_cuda(cudaStreamWaitEvent(second, produced, 0));
        assert_cuda(launch(add_to, 1, 1, 0, second, sum, x));
        assert_cuda(cudaEventRecord(produced, second));
        assert_cuda(cudaStreamWaitEvent(first, produced, 0));
    }
    download(&host, sum, 1);
    return host == 210 ? 0 : 1;
}

static int with_the_wait(void) {
    return produce_and_consume(true);
}

static int without_the_wait(void) {
    return produce_and_consume(false);
}

/* The host changes pinned memory that a copy may not have read yet. */
static int pinned_memory_changed_too_early(void) {
    cudaStream_t stream = make_stream();
    int *pinned = make_pinned<int>(1), *x = make_device<int>(1), host = 0;
    *pinned = 1;
    assert_cuda(cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, stream));
    *pinned = 2;
    download(&host, x, 1);
    return host == 1 ? 0 : 1;
}

/* The host reads pinned memory that a copy may not have written yet. */
static int pinned_memory_read_too_early(void) {
    cudaStream_t stream = make_stream();
    int *pinned = make_pinned<int>(1), *x = make_device<int>(1);
    assert_cuda(cudaMemsetAsync(x, 0x11, sizeof *x, stream));
    assert_cuda(cudaMemcpyAsync(pinned, x, sizeof *x, cudaMemcpyDeviceToHost, stream));
    const int seen = *pinned;
    assert_cuda(cudaStreamSynchronize(stream));
    return seen == 0x11111111 ? 0 : 1;
}

/* Which of three independent streams comes last. */
static int order_of_streams(void) {
    int *x = make_device<int>(1), host = 0;
    for (int i = 0; i < 3; i++)
        assert_cuda(launch(set_value, 1, 1, 0, make_stream(), x, i));
    download(&host, x, 1);
    return host;
}

/* Memory of a pool, used by another stream that did not wait for its allocation. */
static int pool_memory_used_too_early(void) {
    cudaStream_t first = make_stream(), second = make_stream();
    int *x;
    assert_cuda(cudaMallocAsync(&x, sizeof *x, first));
    assert_cuda(launch(set_value, 1, 1, 0, second, x, 1));
    return cudaDeviceSynchronize() == cudaSuccess ? 0 : 1;
}

static const struct {
    const char *name;
    int (*run)(void);
} parts[] = {
    {"with_the_wait", with_the_wait},
    {"without_the_wait", without_the_wait},
    {"pinned_memory_changed_too_early", pinned_memory_changed_too_early},
    {"pinned_memory_read_too_early", pinned_memory_read_too_early},
    {"order_of_streams", order_of_streams},
};

/* ---- tests ---- */

enum { SEEDS = 16 };

static int failures(const char *part) {
    int failed = 0;
    for (unsigned seed = 0; seed < SEEDS; seed++)
        failed += run_with_seed(part, seed) != 0;
    return failed;
}

static void test_a_missing_wait_gives_wrong_results(void **) {
    assert_int_equal(failures("with_the_wait"), 0);
    /* Twenty chances to go wrong: no order of those tried hides it. */
    assert_int_equal(failures("without_the_wait"), SEEDS);
}

static void test_pinned_memory_must_be_waited_for(void **) {
    assert_true(failures("pinned_memory_changed_too_early") > 0);
    assert_true(failures("pinned_memory_read_too_early") > 0);
}

static void test_the_order_varies_with_the_seed_alone(void **) {
    bool seen[3] = {};
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        const int last = run_with_seed("order_of_streams", seed);
        assert_in_range(last, 0, 2);
        assert_int_equal(run_with_seed("order_of_streams", seed), last);
        seen[last] = true;
    }
    assert_true(seen[0] && seen[1] && seen[2]);
}

static void test_pool_memory_follows_its_stream(void **) {
    int died = 0;
    for (int i = 0; i < 8; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)freopen("/dev/null", "w", stderr);
            signal(SIGABRT, SIG_DFL);
            for (int k = 0; k < i; k++) /* another state of the random numbers */
                (void)make_stream();
            _exit(pool_memory_used_too_early());
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        died += WIFSIGNALED(status);
    }
    assert_true(died > 0);
}

/* Pageable memory is read at the call, and written when the call returns. */
static void test_pageable_memory_is_copied_at_the_call(void **) {
    cudaStream_t stream = make_stream();
    int *x = make_device<int>(1), host = 5;
    assert_cuda(cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyHostToDevice, stream));
    host = 6;
    assert_cuda(cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, stream));
    assert_int_equal(host, 5);
    assert_cuda(cudaFree(x));
    assert_cuda(cudaStreamDestroy(stream));
}

static void test_events_tell_when_they_are_reached(void **) {
    cudaStream_t stream = make_stream();
    cudaEvent_t start, end, untimed;
    int *x = make_device<int>(1);
    float ms = -1;
    assert_cuda(cudaEventCreate(&start));
    assert_cuda(cudaEventCreate(&end));
    assert_cuda(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
    assert_cuda(cudaEventQuery(start)); /* never recorded */
    assert_int_equal(cudaEventElapsedTime(&ms, start, end), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaEventRecord(start, stream));
    assert_cuda(launch(set_value, 1, 1, 0, stream, x, 1));
    assert_cuda(cudaEventRecord(end, stream));
    while (cudaEventQuery(end) == cudaErrorNotReady) {
    }
    assert_cuda(cudaEventElapsedTime(&ms, start, end));
    assert_true(ms >= 0);
    assert_cuda(cudaEventRecord(untimed, stream));
    assert_cuda(cudaEventSynchronize(untimed));
    assert_int_equal(cudaEventElapsedTime(&ms, start, untimed), cudaErrorInvalidResourceHandle);
    while (cudaStreamQuery(stream) == cudaErrorNotReady) {
    }
    assert_cuda(cudaEventDestroy(start));
    assert_cuda(cudaEventDestroy(end));
    assert_cuda(cudaEventDestroy(untimed));
    assert_int_equal(cudaEventDestroy(untimed), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaFree(x));
    assert_cuda(cudaStreamDestroy(stream));
}

static void append(void *data) {
    char *text = (char *)data;
    text[strlen(text)] = 'h';
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorNotPermitted);
}

static void test_host_functions_run_in_order_and_call_nothing(void **) {
    cudaStream_t stream = make_stream();
    char text[8] = "";
    for (int i = 0; i < 3; i++)
        assert_cuda(cudaLaunchHostFunc(stream, append, text));
    assert_cuda(cudaStreamSynchronize(stream));
    assert_string_equal(text, "hhh");
    assert_cuda(cudaStreamDestroy(stream));
}

static void test_copies_that_cuda_refuses(void **) {
    cudaStream_t stream = make_stream();
    int *x = make_device<int>(4), host[8] = {};
    assert_int_equal(cudaMemcpyAsync(x, host, 20, cudaMemcpyHostToDevice, stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(x, host, 16, cudaMemcpyDeviceToHost, stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(host, host + 4, 16, cudaMemcpyDeviceToDevice, stream),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(host, 0, 16, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(x + 1, 0, 16, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(host), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_cuda(cudaFree(x));
    assert_cuda(cudaStreamDestroy(stream));
}

static void test_memory_has_an_end(void **) {
    size_t unused, total, after;
    void *p, *q;
    assert_cuda(cudaMemGetInfo(&unused, &total));
    assert_true(total > 0 && unused <= total);
    assert_int_equal(cudaMalloc(&q, total + 1), cudaErrorMemoryAllocation);
    assert_null(q);
    assert_cuda(cudaMalloc(&p, 1000));
    assert_cuda(cudaMemGetInfo(&after, &total));
    assert_int_equal(unused - after, 1000);
    assert_cuda(cudaFree(p));
    assert_cuda(cudaMemGetInfo(&after, &total));
    assert_int_equal(after, unused);
    (void)cudaGetLastError();
}

static void test_pools(void **) {
    cudaStream_t stream = make_stream();
    cudaMemPool_t pool;
    struct cudaMemPoolProps props = {};
    uint64_t threshold = UINT64_MAX, value = 0;
    void *p;
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    assert_cuda(cudaMemPoolCreate(&pool, &props));
    assert_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    assert_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &value));
    assert_true(value == threshold);
    assert_cuda(cudaMallocFromPoolAsync(&p, 100, pool, stream));
    assert_int_equal((uintptr_t)p % 256, 0);
    assert_cuda(cudaMemsetAsync(p, 1, 100, stream));
    assert_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value));
    assert_int_equal(value, 100);
    assert_cuda(cudaFreeAsync(p, stream));
    assert_cuda(cudaStreamSynchronize(stream));
    assert_cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value));
    assert_int_equal(value, 0);
    assert_cuda(cudaMemPoolDestroy(pool));
    assert_cuda(cudaStreamDestroy(stream));
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(argv[1], parts[i].name) == 0) return parts[i].run();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_missing_wait_gives_wrong_results),
        cmocka_unit_test(test_pinned_memory_must_be_waited_for),
        cmocka_unit_test(test_the_order_varies_with_the_seed_alone),
        cmocka_unit_test(test_pool_memory_follows_its_stream),
        cmocka_unit_test(test_pageable_memory_is_copied_at_the_call),
        cmocka_unit_test(test_events_tell_when_they_are_reached),
        cmocka_unit_test(test_host_functions_run_in_order_and_call_nothing),
        cmocka_unit_test(test_copies_that_cuda_refuses),
        cmocka_unit_test(test_memory_has_an_end),
        cmocka_unit_test(test_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
