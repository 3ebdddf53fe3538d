/* Batches that are copied to the emulated GPU while the step before them runs: no step gets another
 * one's rows, however late a stream is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cuda_emu.h"
#include "train/feed.h"

enum { SAMPLES = 22, BATCH = 5, STEPS = 5, WIDTH = 3, POLLS = 200 };

static float inputs[SAMPLES * WIDTH];
static int64_t labels[SAMPLES];
static lks_device *device;
static lks_dataset *dataset;
static lks_loader *loader;
static lks_feed *feed;

static void check(lks_status status) {
    if (status != LKS_OK) fail_msg("%s", lks_last_error());
}

static int setup(void **state) {
    (void)state;
    static lks_data_settings settings;
    static const lks_shape shape = {1, {WIDTH}};
    const lks_device_config on = {.kind = "cuda", .local_size = 1};
    const lks_loader_config config = {
        .batch_size = BATCH, .size = 1, .training = true, .settings = &settings};
    for (int i = 0; i < SAMPLES * WIDTH; i++)
        inputs[i] = (float)(i + 1);
    for (int i = 0; i < SAMPLES; i++)
        labels[i] = 100 + i;
    check(lks_options_init(&lks_data_settings_options, &settings));
    settings.shuffle = false;
    check(lks_device_create(&on, &device));
    check(lks_dataset_from_arrays(SAMPLES, &shape, inputs, labels, NULL, NULL, &dataset));
    check(lks_loader_create(dataset, device, &config, &loader));
    check(lks_feed_create(device, loader, WIDTH * sizeof(float), sizeof(int32_t), &feed));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    lks_feed_destroy(feed);
    lks_loader_destroy(loader);
    lks_dataset_destroy(dataset);
    lks_device_destroy(device);
    return 0;
}

static lks_stream *stream(lks_stream_name name) {
    return lks_device_stream(device, name);
}

/* What the compute stream finds where the batch should stand. */
static void check_batch(const lks_host_batch *batch, int step) {
    float x[BATCH * WIDTH];
    int32_t y[BATCH];
    const int64_t rows = step == STEPS - 1 ? SAMPLES % BATCH : BATCH;
    assert_int_equal(batch->step, step);
    assert_int_equal(batch->rows, rows);
    lks_stream *compute = stream(LKS_STREAM_COMPUTE);
    check(lks_device_copy(device, compute, x, batch->inputs, (size_t)(rows * WIDTH) * sizeof *x,
                          LKS_COPY_TO_HOST));
    check(lks_device_copy(device, compute, y, batch->targets, (size_t)rows * sizeof *y,
                          LKS_COPY_TO_HOST));
    check(lks_stream_synchronize(compute));
    assert_memory_equal(x, inputs + step * BATCH * WIDTH, (size_t)(rows * WIDTH) * sizeof *x);
    for (int64_t i = 0; i < rows; i++)
        assert_int_equal(y[i], 100 + step * BATCH + i);
}

/* Lets everything run that can. */
static void let_run(void) {
    for (int i = 0; i < POLLS; i++) {
        lks_event *now;
        bool done;
        check(lks_event_create(device, &now));
        check(lks_event_record(now, stream(LKS_STREAM_COMM)));
        check(lks_event_query(now, &done));
        lks_event_destroy(now);
    }
}

/* An epoch in each of whose steps the stream is late. */
static void run_epoch(lks_stream_name late) {
    lks_host_batch batch;
    check(lks_feed_begin(feed, 0, 0));
    for (int step = 0; step < STEPS; step++) {
        bool over = false;
        lks_cuda_emu_hang(lks_stream_handle(stream(late)), &over);
        check(lks_feed_take(feed, &batch));
        let_run();
        if (late == LKS_STREAM_COPY) over = true; /* the host waits for this copy */
        lks_feed_go_on(feed);
        let_run();
        over = true;
        check(lks_stream_synchronize(stream(late)));
        check_batch(&batch, step);
    }
    assert_int_equal(lks_feed_take(feed, &batch), LKS_EINVAL);
}

static void no_step_begins_before_its_batch_is_there(void **state) {
    (void)state;
    run_epoch(LKS_STREAM_COPY);
}

static void no_batch_is_overwritten_before_it_is_used(void **state) {
    (void)state;
    run_epoch(LKS_STREAM_COMPUTE);
}

static void what_was_copied_ahead_is_forgotten(void **state) {
    (void)state;
    lks_host_batch batch;
    check(lks_feed_begin(feed, 0, 0));
    for (int step = 0; step < 2; step++) {
        check(lks_feed_take(feed, &batch));
        lks_feed_go_on(feed);
    }
    for (int step = 1; step < STEPS; step += 2) {
        check(lks_feed_begin(feed, 0, step));
        check(lks_feed_take(feed, &batch));
        lks_feed_go_on(feed);
        check_batch(&batch, step);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_step_begins_before_its_batch_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(no_batch_is_overwritten_before_it_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_copied_ahead_is_forgotten, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
