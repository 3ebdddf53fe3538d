/* Launches that fail, on the emulated GPU: whoever waits for the operation's part in a sum over the
 * ranks gets it all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cuda_emu.h"
#include "device/op.h"

enum { BATCH = 6, CHANNELS = 5, VALUES = 2 * CHANNELS + 1, MAX_LAUNCHES = 20 };

typedef struct meeting {
    lks_device *device;
    int calls;
    double values[VALUES]; /* this rank's of the last call */
} meeting;

static void check(lks_status status) {
    if (status != LKS_OK) fail_msg("%s", lks_last_error());
}

static lks_status all_reduce(void *data, double *values, int64_t count, lks_stream *stream) {
    meeting *m = data;
    m->calls++;
    assert_in_range(count, 1, VALUES);
    check(lks_device_copy(m->device, stream, m->values, values, (size_t)count * sizeof(double),
                          LKS_COPY_TO_HOST));
    check(lks_stream_synchronize(stream));
    return LKS_OK;
}

/* Device memory of ones. */
static void *ones(lks_device *device, size_t bytes) {
    float host[BATCH * CHANNELS];
    void *memory;
    for (int i = 0; i < BATCH * CHANNELS; i++)
        host[i] = 1;
    assert_true(bytes <= sizeof host);
    check(lks_device_alloc(device, bytes, &memory));
    check(lks_device_copy(device, lks_device_stream(device, LKS_STREAM_COMPUTE), memory, host,
                          bytes, LKS_COPY_TO_DEVICE));
    check(lks_stream_synchronize(lks_device_stream(device, LKS_STREAM_COMPUTE)));
    return memory;
}

typedef lks_status pass(lks_op *op, lks_stream *stream, const lks_op_args *args);

/* Whichever launch fails: one sum, and zeros in it where the failure came before it. */
static void fail_each_launch(pass *run, lks_op *op, const lks_op_args *args, meeting *m) {
    static const double nothing[VALUES];
    lks_stream *stream = lks_device_stream(m->device, LKS_STREAM_COMPUTE);
    int before = 0; /* launches that come before the sum */
    lks_status status = LKS_EDEVICE;
    for (int number = 1; status != LKS_OK; number++) {
        assert_in_range(number, 1, MAX_LAUNCHES);
        m->calls = 0;
        lks_cuda_emu_fail_launch(number);
        status = run(op, stream, args);
        lks_cuda_emu_fail_launch(0);
        assert_true(status == LKS_OK || status == LKS_EDEVICE);
        assert_int_equal(m->calls, 1);
        if (memcmp(m->values, nothing, sizeof(double) * 2 * CHANNELS) == 0) before++;
    }
    assert_true(before >= 2);
}

static void a_synchronised_batch_norm_keeps_nobody_waiting(void **state) {
    (void)state;
    meeting m = {0};
    lks_op *op;
    const lks_batch_norm_desc desc = {.channels = CHANNELS,
                                      .spatial = 1,
                                      .layout = LKS_LAYOUT_CHANNELS_LAST,
                                      .eps = 1e-5,
                                      .affine = true};
    const lks_device_config config = {.kind = "cuda", .local_size = 1};
    check(lks_device_create(&config, &m.device));
    check(lks_op_create(m.device, LKS_OP_BATCH_NORM, &desc, BATCH, &op));
    void *saved, *scratch;
    check(lks_device_alloc(m.device, lks_op_get_needs(op)->saved_bytes, &saved));
    check(lks_device_alloc(m.device, lks_op_get_needs(op)->scratch_bytes, &scratch));
    enum { X, Y, DY, DX, WEIGHT, BIAS, DWEIGHT, DBIAS, ARRAYS };
    void *a[ARRAYS];
    for (int i = 0; i < ARRAYS; i++)
        a[i] = ones(m.device, (i < WEIGHT ? BATCH : 1) * CHANNELS * sizeof(float));
    const lks_op_args args = {.batch = BATCH,
                              .training = true,
                              .x = a[X],
                              .y = a[Y],
                              .dy = a[DY],
                              .dx = a[DX],
                              .params = (const void *[]){a[WEIGHT], a[BIAS]},
                              .dparams = (void *[]){a[DWEIGHT], a[DBIAS]},
                              .saved = saved,
                              .scratch = scratch,
                              .all_reduce = all_reduce,
                              .all_reduce_data = &m};
    fail_each_launch(lks_op_forward, op, &args, &m);
    fail_each_launch(lks_op_backward, op, &args, &m);
    for (int i = 0; i < ARRAYS; i++)
        lks_device_free(m.device, a[i]);
    lks_device_free(m.device, saved);
    lks_device_free(m.device, scratch);
    lks_op_destroy(op);
    lks_device_destroy(m.device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_synchronised_batch_norm_keeps_nobody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
