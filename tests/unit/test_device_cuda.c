/* The GPU as a device, on an emulated machine with three small ones: which GPU a rank takes, its
 * memory, and what it says when that does not suffice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/op.h"

enum { MIB = 1 << 20 };

static lks_device *open_gpu(int local_rank) {
    lks_device *device = NULL;
    const lks_device_config config = {
        .kind = "auto", .local_rank = local_rank, .local_size = local_rank + 1};
    assert_int_equal(lks_device_create(&config, &device), LKS_OK);
    return device;
}

static void ranks_of_a_host_take_gpus_in_turn(void **state) {
    static const char *const expected[] = {"GPU 0: ", "GPU 1: ", "GPU 2: ", "GPU 0: "};
    (void)state;
    for (int rank = 0; rank < 4; rank++) {
        lks_device *device = open_gpu(rank);
        const char *description = lks_device_description(device);
        assert_string_equal(lks_device_kind(device), "cuda");
        assert_false(lks_device_is_host(device));
        assert_int_equal(strncmp(description, expected[rank], strlen(expected[rank])), 0);
        lks_device_destroy(device);
    }
}

static void too_much_memory_is_explained(void **state) {
    (void)state;
    lks_device *device = open_gpu(0);
    void *first = NULL, *second = NULL;
    assert_int_equal(lks_device_alloc(device, 24 * MIB, &first), LKS_OK);
    assert_int_equal(lks_device_alloc(device, 512 * (size_t)MIB, &second), LKS_ENOMEM);
    assert_null(second);
    const char *said = lks_last_error();
    assert_non_null(strstr(said, "GPU 0"));
    assert_non_null(strstr(said, "512.0 MiB were asked for"));
    assert_non_null(strstr(said, "planned 24."));
    assert_non_null(strstr(said, "of 64.0 MiB are free"));
    assert_non_null(strstr(said, "batch_size"));
    assert_non_null(strstr(said, "zero_stage"));
    lks_device_free(device, first);
    assert_int_equal(lks_device_alloc(device, 40 * MIB, &second), LKS_OK); /* it came back */
    lks_device_free(device, second);
    lks_device_destroy(device);
}

static void device_memory_is_told_from_the_hosts(void **state) {
    (void)state;
    lks_device *device = open_gpu(1);
    void *memory = NULL, *pinned = NULL;
    int local = 0;
    assert_int_equal(lks_device_alloc(device, 100, &memory), LKS_OK);
    assert_int_equal(lks_device_alloc_host(device, 100, &pinned), LKS_OK);
    assert_true(lks_device_holds(device, memory));
    assert_true(lks_device_holds(device, (char *)memory + 99));
    assert_false(lks_device_holds(device, pinned));
    assert_false(lks_device_holds(device, &local));
    lks_device_free(device, memory);
    lks_device_free_host(device, pinned);
    lks_device_destroy(device);
}

/* The host's order of calls is the device's, and a copy is done when its stream is. */
static void memory_goes_there_and_back(void **state) {
    (void)state;
    lks_device *device = open_gpu(2);
    lks_stream *compute = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_stream *copy = lks_device_stream(device, LKS_STREAM_COPY);
    lks_event *zeroed = NULL;
    char *pinned = NULL;
    void *memory = NULL;
    assert_int_equal(lks_device_alloc_host(device, 64, (void **)&pinned), LKS_OK);
    assert_int_equal(lks_device_alloc(device, 64, &memory), LKS_OK);
    assert_int_equal(lks_event_create(device, &zeroed), LKS_OK);
    memset(pinned, 1, 64);
    assert_int_equal(lks_device_zero(device, compute, memory, 64), LKS_OK);
    assert_int_equal(lks_event_record(zeroed, compute), LKS_OK);
    assert_int_equal(lks_stream_wait(copy, zeroed), LKS_OK);
    assert_int_equal(lks_device_copy(device, copy, pinned, memory, 64, LKS_COPY_TO_HOST), LKS_OK);
    assert_int_equal(lks_stream_synchronize(copy), LKS_OK);
    for (int i = 0; i < 64; i++)
        assert_int_equal(pinned[i], 0);
    lks_event_destroy(zeroed);
    lks_device_free(device, memory);
    lks_device_free_host(device, pinned);
    lks_device_destroy(device);
}

static void what_a_grid_does_not_hold_is_refused(void **state) {
    (void)state;
    enum { MOST_GROUPS = 65535 };
    lks_device *device = open_gpu(0);
    for (int64_t groups = MOST_GROUPS; groups <= MOST_GROUPS + 1; groups++) {
        lks_op *op = NULL;
        /* two channels each: depthwise, no grid has the groups as an axis */
        const lks_conv2d_desc desc = {.in_channels = 2 * groups,
                                      .out_channels = 2 * groups,
                                      .groups = groups,
                                      .in_size = {1, 1},
                                      .out_size = {1, 1},
                                      .kernel = {1, 1},
                                      .stride = {1, 1},
                                      .dilation = {1, 1}};
        assert_int_equal(lks_op_create(device, LKS_OP_CONV2D, &desc, 1, &op),
                         groups <= MOST_GROUPS ? LKS_OK : LKS_EUNSUPPORTED);
        lks_op_destroy(op);
    }
    assert_non_null(strstr(lks_last_error(), "65536 groups"));
    lks_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_a_host_take_gpus_in_turn),
        cmocka_unit_test(too_much_memory_is_explained),
        cmocka_unit_test(device_memory_is_told_from_the_hosts),
        cmocka_unit_test(memory_goes_there_and_back),
        cmocka_unit_test(what_a_grid_does_not_hold_is_refused),
    };
    if (setenv("LKS_CUDA_EMU_DEVICES", "3", 1) || setenv("LKS_CUDA_EMU_MEMORY_MIB", "64", 1))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
