/* The device itself: kinds, memory, streams, events, and what the wrappers refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/op.h"

/* The address sanitizer ends a program that asks for too much memory, unless told to fail the call.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

static lks_device *open_cpu(int threads) {
    lks_device *device = NULL;
    const lks_device_config config = {.kind = "cpu", .threads = threads, .local_size = 1};
    assert_int_equal(lks_device_create(&config, &device), LKS_OK);
    assert_non_null(device);
    return device;
}

static void device_describes_itself(void **state) {
    (void)state;
    lks_device *device = open_cpu(3);
    assert_string_equal(lks_device_kind(device), "cpu");
    assert_int_equal(lks_device_threads(device), 3);
    assert_true(lks_device_is_host(device));
    assert_non_null(strstr(lks_device_description(device), ", 3 threads, oneDNN "));
    lks_device_destroy(device);
    device = open_cpu(1);
    assert_non_null(strstr(lks_device_description(device), ", 1 thread, "));
    lks_device_destroy(device);
    lks_device_destroy(NULL);
}

static void auto_finds_a_device(void **state) {
    (void)state;
    const lks_device_config standard = LKS_DEVICE_CONFIG_DEFAULT;
    lks_device *device = NULL;
    assert_int_equal(lks_device_create(&standard, &device), LKS_OK);
    assert_true(lks_device_threads(device) >= 1);
    lks_device_destroy(device);
    assert_int_equal(lks_device_create(NULL, &device), LKS_OK);
    lks_device_destroy(device);
}

/* Without a number, ranks of one host that may use the same cores share them. */
static void ranks_share_the_cores(void **state) {
    (void)state;
    lks_device *alone = NULL, *crowded = NULL;
    lks_device_config config = {.kind = "cpu", .local_size = 1};
    assert_int_equal(lks_device_create(&config, &alone), LKS_OK);
    config.local_size = 1 << 20;
    assert_int_equal(lks_device_create(&config, &crowded), LKS_OK);
    assert_int_equal(lks_device_threads(crowded), 1);
    assert_true(lks_device_threads(alone) >= lks_device_threads(crowded));
    lks_device_destroy(alone);
    lks_device_destroy(crowded);
}

static void unknown_kinds_are_refused(void **state) {
    (void)state;
    lks_device *device = NULL;
    lks_device_config config = {.kind = "gpu", .local_size = 1};
    assert_int_equal(lks_device_create(&config, &device), LKS_EINVAL);
    assert_non_null(strstr(lks_last_error(), "\"gpu\""));
    assert_non_null(strstr(lks_last_error(), "cpu"));
    config = (lks_device_config){.kind = "cpu", .threads = -1, .local_size = 1};
    assert_int_equal(lks_device_create(&config, &device), LKS_EINVAL);
    assert_non_null(strstr(lks_last_error(), "-1 threads"));
    assert_null(device);
    assert_int_equal(lks_device_create(&config, NULL), LKS_EINVAL);
}

static void memory_is_aligned(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    for (size_t bytes = 0; bytes < 300; bytes += 37) {
        void *memory = NULL, *host = NULL;
        assert_int_equal(lks_device_alloc(device, bytes, &memory), LKS_OK);
        assert_int_equal(lks_device_alloc_host(device, bytes, &host), LKS_OK);
        assert_non_null(memory);
        assert_non_null(host);
        assert_int_equal((uintptr_t)memory % 64, 0);
        assert_int_equal((uintptr_t)host % 64, 0);
        lks_device_free(device, memory);
        lks_device_free_host(device, host);
    }
    lks_device_free(device, NULL);
    lks_device_free_host(device, NULL);
    lks_device_destroy(device);
}

static void too_much_memory_is_an_error(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 64, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *memory = &device;
        assert_int_equal(lks_device_alloc(device, sizes[i], &memory), LKS_ENOMEM);
        assert_null(memory);
    }
    lks_device_destroy(device);
}

/* A device that measures counts what would not fit, and touches nothing. */
static void measuring_takes_no_memory(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const size_t huge = (size_t)1 << 50;
    void *a = NULL, *b = NULL, *host = NULL;
    char byte = 1;
    assert_false(lks_device_is_measuring(device));
    lks_device_measure(device);
    assert_true(lks_device_is_measuring(device));
    assert_int_equal(lks_device_alloc(device, huge, &a), LKS_OK);
    assert_int_equal(lks_device_alloc(device, 10, &b), LKS_OK);
    assert_int_equal(lks_device_alloc_host(device, huge + 1, &host), LKS_OK);
    assert_non_null(a);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_true((char *)b >= (char *)a + huge);
    assert_true((char *)host >= (char *)b + 10);
    assert_int_equal(lks_device_allocated_bytes(device), huge + 10);
    assert_int_equal(lks_device_measured_host_bytes(device), huge + 1);
    assert_int_equal(lks_device_zero(device, stream, a, huge), LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, a, &byte, 1, LKS_COPY_TO_DEVICE), LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, &byte, b, 1, LKS_COPY_TO_HOST), LKS_OK);
    assert_int_equal(byte, 1);
    lks_device_free(device, a);
    lks_device_free(device, b);
    lks_device_free_host(device, host);
    lks_device_destroy(device);
}

static void available_memory_is_the_hosts(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    int64_t bytes = 0;
    assert_int_equal(lks_device_available(device, &bytes), LKS_OK);
    assert_true(bytes > 0);
    lks_device_destroy(device);
}

static void copies_and_zeros(void **state) {
    (void)state;
    lks_device *device = open_cpu(2);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COPY);
    const char from[] = "forty-two bytes or so of something to copy";
    char back[sizeof from];
    void *a = NULL, *b = NULL;
    assert_int_equal(lks_device_alloc(device, sizeof from, &a), LKS_OK);
    assert_int_equal(lks_device_alloc(device, sizeof from, &b), LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, a, from, sizeof from, LKS_COPY_TO_DEVICE),
                     LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, b, a, sizeof from, LKS_COPY_ON_DEVICE),
                     LKS_OK);
    assert_int_equal(lks_device_zero(device, stream, (char *)b + 5, 1), LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, back, b, sizeof from, LKS_COPY_TO_HOST),
                     LKS_OK);
    assert_int_equal(lks_stream_synchronize(stream), LKS_OK);
    assert_string_equal(back, "forty");
    assert_string_equal(back + 6, from + 6);
    assert_int_equal(lks_device_copy(device, stream, NULL, from, 0, LKS_COPY_TO_DEVICE), LKS_OK);
    assert_int_equal(lks_device_copy(device, stream, NULL, from, 1, LKS_COPY_TO_DEVICE),
                     LKS_EINVAL);
    assert_int_equal(lks_device_copy(device, stream, a, NULL, 1, LKS_COPY_TO_DEVICE), LKS_EINVAL);
    assert_int_equal(lks_device_zero(device, stream, NULL, 1), LKS_EINVAL);
    assert_int_equal(lks_device_zero(device, stream, NULL, 0), LKS_OK);
    lks_device_free(device, a);
    lks_device_free(device, b);
    lks_device_destroy(device);
}

static void streams_and_events(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    lks_event *event = NULL;
    lks_stream *compute = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_stream *comm = lks_device_stream(device, LKS_STREAM_COMM);
    assert_non_null(compute);
    assert_ptr_not_equal(compute, comm);
    assert_ptr_equal(compute, lks_device_stream(device, LKS_STREAM_COMPUTE));
    assert_int_equal(lks_event_create(device, &event), LKS_OK);
    assert_int_equal(lks_event_record(event, compute), LKS_OK);
    assert_int_equal(lks_stream_wait(comm, event), LKS_OK);
    assert_int_equal(lks_event_synchronize(event), LKS_OK);
    assert_int_equal(lks_stream_synchronize(comm), LKS_OK);
    lks_event_destroy(event);
    lks_event_destroy(NULL);
    lks_device_destroy(device);
}

static void operations_check_their_arguments(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const lks_add_desc desc = {.count = 4};
    lks_op *op = NULL;
    assert_int_equal(lks_op_create(device, LKS_OP_KIND_COUNT, &desc, 1, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(device, (lks_op_kind)-1, &desc, 1, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(device, LKS_OP_ADD, NULL, 1, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(NULL, LKS_OP_ADD, &desc, 1, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(device, LKS_OP_ADD, &desc, 0, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(device, LKS_OP_ADD, &desc, 2, &op), LKS_OK);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8] = {0};
    lks_op_args args = {.batch = 3, .x = x, .x2 = x, .y = y};
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_EINVAL);
    assert_non_null(strstr(lks_last_error(), "3 samples"));
    assert_int_equal(lks_op_backward(op, stream, &args), LKS_EINVAL);
    args.batch = -1;
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_EINVAL);
    args.batch = 2;
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_OK);
    assert_true(y[7] == 16);
    lks_op_destroy(op);
    lks_op_destroy(NULL);

    op = NULL; /* a fork has no forward: it does nothing */
    assert_int_equal(lks_op_create(device, LKS_OP_FORK, &desc, 2, &op), LKS_OK);
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_OK);
    lks_op_destroy(op);
    lks_device_destroy(device);
}

static void count_poll(void *data) {
    ++*(int *)data;
}

/* After every operation, and between the two products of linear's backward. */
static void operations_poll(void **state) {
    (void)state;
    lks_device *device = open_cpu(1);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const lks_linear_desc desc = {.in_features = 2, .out_features = 2, .rows_per_sample = 1};
    lks_op *op = NULL;
    assert_int_equal(lks_op_create(device, LKS_OP_LINEAR, &desc, 1, &op), LKS_OK);
    float x[2] = {1, 2}, w[4] = {1, 0, 0, 1}, y[2], dy[2] = {1, 1}, dx[2], dw[4];
    const void *const params[] = {w};
    void *const dparams[] = {dw};
    const lks_op_args args = {.batch = 1,
                              .training = true,
                              .x = x,
                              .y = y,
                              .dy = dy,
                              .dx = dx,
                              .params = params,
                              .dparams = dparams};
    int polls = 0;
    lks_device_set_poll(device, count_poll, &polls);
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_OK);
    assert_int_equal(polls, 1);
    assert_int_equal(lks_op_backward(op, stream, &args), LKS_OK);
    assert_int_equal(polls, 3);
    lks_device_set_poll(device, NULL, NULL);
    assert_int_equal(lks_op_forward(op, stream, &args), LKS_OK);
    assert_int_equal(polls, 3);
    lks_op_destroy(op);
    lks_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_describes_itself),
        cmocka_unit_test(auto_finds_a_device),
        cmocka_unit_test(ranks_share_the_cores),
        cmocka_unit_test(unknown_kinds_are_refused),
        cmocka_unit_test(memory_is_aligned),
        cmocka_unit_test(too_much_memory_is_an_error),
        cmocka_unit_test(measuring_takes_no_memory),
        cmocka_unit_test(available_memory_is_the_hosts),
        cmocka_unit_test(copies_and_zeros),
        cmocka_unit_test(streams_and_events),
        cmocka_unit_test(operations_check_their_arguments),
        cmocka_unit_test(operations_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
