/* Every kind of mistake that the emulator promises to find ends the test, with a message that says
 * what and where. Each case runs in a child process. */
#include "test_emu.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `mistake` in a child; fails unless that ends by `expected_signal` and, unless `says` is
 * NULL, has written it to its standard error. */
static void expect_death(void (*mistake)(void), int expected_signal, const char *says) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        mistake();
        _exit(0); /* nothing was found */
    }
    close(ends[1]);
    char text[4096];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof text - 1 &&
           (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != expected_signal)
        print_error("the child ended with status %#x and said: %s\n", (unsigned)status, text);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), expected_signal);
    if (says && !strstr(text, says)) {
        print_error("expected: %s\ngot: %s\n", says, text);
        assert_true(0);
    }
}

/* Launches on a new stream, with one array of 64 zeros, and waits. */
template <typename T>
static void run(void (*kernel)(T *), dim3 grid, dim3 block, size_t shared_bytes = 0) {
    cudaStream_t stream = make_stream();
    T *device = make_device<T>(64);
    assert_cuda(cudaMemsetAsync(device, 0, 64 * sizeof(T), stream));
    assert_cuda(launch(kernel, grid, block, shared_bytes, stream, device));
    assert_cuda(cudaStreamSynchronize(stream));
}

/* ---- barriers and warps ---- */

static __global__ void leave_before_barrier(int *x) {
    if (threadIdx.x == 31) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}

static __global__ void barrier_in_half_a_block(int *x) {
    if (threadIdx.x < 32) __syncthreads();
    x[threadIdx.x] = 1;
}

static __global__ void shuffle_without_a_lane(int *x) {
    if (threadIdx.x == 7) return;
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}

static __global__ void shuffle_meets_barrier(int *x) {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 2);
}

static __global__ void shuffle_meets_vote(int *x) {
    if (threadIdx.x % 2)
        x[threadIdx.x] = __any_sync(0xffffffffu, 1);
    else
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 2);
}

static __global__ void shuffle_of_lanes_that_are_not_there(int *x) {
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}

static __global__ void shuffle_from_outside_the_mask(int *x) {
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 20);
}

static void test_barriers_that_not_all_threads_reach(void **) {
    expect_death([] { run(leave_before_barrier, 2, 64); }, SIGABRT,
                 "__syncthreads is not reached by all threads: thread (31,0,0) has returned");
    expect_death([] { run(barrier_in_half_a_block, 1, 64); }, SIGABRT,
                 "__syncthreads is not reached by all threads");
    expect_death([] { run(leave_before_barrier, 2, 64); }, SIGABRT,
                 "kernel leave_before_barrier(int*), block (");
}

static void test_shuffles_that_not_all_lanes_reach(void **) {
    expect_death([] { run(shuffle_without_a_lane, 1, 32); }, SIGABRT, "__shfl_xor_sync");
    expect_death([] { run(shuffle_meets_barrier, 1, 32); }, SIGABRT, "__syncthreads");
    expect_death([] { run(shuffle_meets_vote, 1, 32); }, SIGABRT, "__any_sync");
    expect_death([] { run(shuffle_of_lanes_that_are_not_there, 1, 20); }, SIGABRT,
                 "is not in the block");
    expect_death([] { run(shuffle_from_outside_the_mask, 1, 32); }, SIGABRT,
                 "lane 20, which is not in the mask");
}

/* ---- shared memory ---- */

static __global__ void read_unwritten_shared(int *x) {
    static __shared__ int s[64];
    if (threadIdx.x != 5) s[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

/* What the block before left is not this block's. */
static __global__ void read_another_blocks_shared(int *x) {
    static __shared__ int s;
    if ((int)blockIdx.x == x[0] && threadIdx.x == 0) s = 1;
    __syncthreads();
    if (threadIdx.x == 1) x[1 + blockIdx.x] = s;
}

template <typename T> static __global__ void write_behind_shared(T *x) {
    static __shared__ T s[32];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

static __global__ void write_behind_dynamic(int *x) {
    extern __shared__ __align__(16) unsigned char lks_shared[];
    ((int *)lks_shared)[threadIdx.x] = x[threadIdx.x];
}

static __global__ void forget_the_barrier(int *x) {
    static __shared__ int s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[63 - threadIdx.x];
}

static __global__ void forget_the_second_barrier(int *x) {
    static __shared__ int s[64];
    for (int turn = 0; turn < 2; turn++) {
        s[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = s[(threadIdx.x + 1) % 64];
    }
}

static __global__ void barrier_of_warps_between_warps(int *x) {
    static __shared__ int s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    x[threadIdx.x] = s[63 - threadIdx.x];
}

static void test_shared_memory_that_nothing_wrote(void **) {
    expect_death([] { run(read_unwritten_shared, 1, 64); }, SIGABRT,
                 "thread (5,0,0): reads shared memory that nothing wrote: byte 20 of "
                 "read_unwritten_shared(int*)::s");
    expect_death([] { run(read_another_blocks_shared, 2, 32); }, SIGABRT,
                 "reads shared memory that nothing wrote");
}

static void test_shared_memory_out_of_bounds(void **) {
    expect_death([] { run(write_behind_shared<int>, 1, 33); }, SIGABRT,
                 "write_behind_shared<int>(int*)::s, which has 128 bytes");
    expect_death([] { run(write_behind_dynamic, 1, 33, 128); }, SIGABRT,
                 "lks_shared, which has 128 bytes");
}

static void test_races_in_shared_memory(void **) {
    expect_death([] { run(forget_the_barrier, 1, 64); }, SIGABRT, "hared memory");
    expect_death([] { run(forget_the_second_barrier, 1, 64); }, SIGABRT, "race in shared memory");
    expect_death([] { run(barrier_of_warps_between_warps, 1, 64); }, SIGABRT, "hared memory");
}

/* ---- device memory ---- */

static __global__ void write_one_behind(int *x) {
    x[threadIdx.x + 1] = 1;
}

static __global__ void write_one_byte_behind(char *x) {
    x[threadIdx.x + 1] = 1;
}

static __global__ void read_before(int *x) {
    x[threadIdx.x] = x[(int)threadIdx.x - 1];
}

static __global__ void copy_vector_behind(int *x) {
    ((int4 *)x)[0] = ((const int4 *)x)[threadIdx.x + 1];
}

static __global__ void misaligned_vector(int *x) {
    ((float4 *)(x + 1))[threadIdx.x] = make_float4(1, 2, 3, 4);
}

static __global__ void read_it(int *x) {
    x[threadIdx.x] += 1;
}

static void read_unwritten(void) {
    cudaStream_t stream = make_stream();
    assert_cuda(launch(read_it, 1, 1, 0, stream, make_device<int>(1)));
    assert_cuda(cudaStreamSynchronize(stream));
}

static void use_after_free(void) {
    cudaStream_t stream = make_stream();
    int *x = make_device<int>(1);
    assert_cuda(cudaFree(x));
    assert_cuda(launch(read_it, 1, 1, 0, stream, x));
    assert_cuda(cudaStreamSynchronize(stream));
}

static void kernel_on_pageable_memory(void) {
    cudaStream_t stream = make_stream();
    int *x = new int(1);
    assert_cuda(launch(read_it, 1, 1, 0, stream, x));
    assert_cuda(cudaStreamSynchronize(stream));
}

static void test_device_memory_out_of_bounds(void **) {
    expect_death([] { run(write_one_behind, 1, 64); }, SIGABRT,
                 "write of 4 bytes outside an allocation: 0 bytes behind the end of an allocation "
                 "of 256 bytes");
    expect_death([] { run(write_one_byte_behind, 1, 64); }, SIGABRT,
                 "0 bytes behind the end of an allocation of 64 bytes");
    expect_death([] { run(read_before, 1, 64); }, SIGABRT, "4 bytes before an allocation");
    expect_death([] { run(copy_vector_behind, 1, 16); }, SIGABRT, "outside an allocation");
    expect_death([] { run(misaligned_vector, 1, 1); }, SIGABRT, "is not a multiple of");
}

static void test_device_memory_that_is_not_to_be_used(void **) {
    expect_death(read_unwritten, SIGABRT, "reads device memory that nothing wrote");
    expect_death(use_after_free, SIGABRT, "that was freed");
    expect_death(kernel_on_pageable_memory, SIGABRT, "neither device memory, nor shared");
}

/* ---- the host ---- */

static volatile int seen;

static void host_reads_device(void) {
    int *x = make_device<int>(1);
    assert_cuda(cudaMemset(x, 0, sizeof *x));
    seen = *x;
}

static void host_writes_device_in_callback(void) {
    static int *x;
    x = make_device<int>(1);
    cudaStream_t stream = make_stream();
    assert_cuda(cudaMemsetAsync(x, 0, sizeof *x, stream));
    assert_cuda(cudaLaunchHostFunc(
        stream, [](void *) { *x = 1; }, nullptr));
    assert_cuda(cudaStreamSynchronize(stream));
}

static void launch_on_default_stream(void) {
    (void)launch(read_it, 1, 1, 0, nullptr, make_device<int>(1));
}

static void copy_on_default_stream(void) {
    int x = 0;
    (void)cudaMemcpyAsync(make_device<int>(1), &x, sizeof x, cudaMemcpyHostToDevice, nullptr);
}

static void test_host_code_cannot_touch_device_memory(void **) {
    expect_death(host_reads_device, SIGSEGV, NULL);
    expect_death(host_writes_device_in_callback, SIGSEGV, NULL);
}

static void test_nothing_runs_on_the_default_stream(void **) {
    expect_death(launch_on_default_stream, SIGABRT,
                 "launch of read_it(int*) on the default stream");
    expect_death(copy_on_default_stream, SIGABRT, "on the default stream");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers_that_not_all_threads_reach),
        cmocka_unit_test(test_shuffles_that_not_all_lanes_reach),
        cmocka_unit_test(test_shared_memory_that_nothing_wrote),
        cmocka_unit_test(test_shared_memory_out_of_bounds),
        cmocka_unit_test(test_races_in_shared_memory),
        cmocka_unit_test(test_device_memory_out_of_bounds),
        cmocka_unit_test(test_device_memory_that_is_not_to_be_used),
        cmocka_unit_test(test_host_code_cannot_touch_device_memory),
        cmocka_unit_test(test_nothing_runs_on_the_default_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
