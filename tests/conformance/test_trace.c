/* Traces of steps: that the time goes to the span that is open, all of it and once. */
#include "device/trace.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "conformance/ops_check.h"

enum { LAYERS = 3, KIND = 2 };

static lks_trace *attach(lks_device *device) {
    lks_trace *trace = NULL;
    check_ok(lks_trace_create(device, LAYERS, &trace));
    lks_device_set_trace(device, trace);
    assert_true(lks_device_is_traced(device));
    return trace;
}

/* Something for the device to do. On a CPU it takes at least `seconds`. */
static void work(lks_device *device, double seconds) {
    enum { COUNT = 1000 };
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    void *x = NULL;
    check_ok(lks_device_alloc(device, COUNT * sizeof(float), &x));
    check_ok(lks_device_zero(device, stream, x, COUNT * sizeof(float)));
    const double begin = lks_clock_seconds();
    do
        check_ok(
            lks_device_add(device, stream, COUNT / 2, LKS_F32, x, LKS_F32, (float *)x + COUNT / 2));
    while (lks_device_is_host(device) && lks_clock_seconds() - begin < seconds);
    lks_device_free(device, x);
}

/* A step with a bit of everything; communication interrupts a layer. */
static void run_step(lks_device *device) {
    lks_trace_begin_step(device);
    lks_trace_enter(device, LKS_PHASE_FORWARD, LKS_TRACE_NO_LAYER, "forward");
    work(device, 1e-4);
    for (int layer = 0; layer < LAYERS; layer++) {
        lks_trace_enter(device, LKS_PHASE_FORWARD, layer, "layer");
        work(device, layer == 1 ? 4e-4 : 1e-4);
        if (layer == 2) {
            lks_trace_enter(device, LKS_PHASE_COMM, LKS_TRACE_NO_LAYER, "wait");
            work(device, 5e-4);
            lks_trace_leave(device);
        }
        lks_trace_leave(device);
    }
    lks_trace_leave(device);
    work(device, 2e-4);
    lks_trace_end_step(device);
}

static lks_trace_result read(lks_trace *trace) {
    lks_trace_result result;
    check_ok(lks_trace_read(trace, &result));
    return result;
}

static void test_every_moment_belongs_to_one_span(void **state) {
    enum { STEPS = 7 };
    lks_device *device = *state;
    lks_trace *trace = attach(device);
    const double begin = lks_clock_seconds();
    for (int i = 0; i < STEPS; i++)
        run_step(device);
    const double elapsed = lks_clock_seconds() - begin;
    lks_trace_result result = read(trace);
    assert_int_equal(result.steps, STEPS);
    double sum = 0;
    for (int phase = 0; phase < LKS_PHASE_COUNT; phase++) {
        assert_true(result.phases[phase] >= 0);
        sum += result.phases[phase];
    }
    assert_true(fabs(sum - result.step) <= 1e-12);
    assert_true(result.phases[LKS_PHASE_BACKWARD] == 0 && result.phases[LKS_PHASE_INPUT] == 0);
    if (lks_device_is_host(device)) {
        /* At least what was spent in each, and no moment twice. */
        assert_true(result.step <= elapsed);
        assert_true(result.phases[LKS_PHASE_COMM] >= STEPS * 5e-4);
        assert_true(result.phases[LKS_PHASE_FORWARD] >= STEPS * 7e-4);
        assert_true(result.phases[LKS_PHASE_OTHER] >= STEPS * 2e-4);
        assert_true(lks_trace_layer_seconds(trace, LKS_PHASE_FORWARD, 1) >= STEPS * 4e-4);
        assert_true(lks_trace_layer_seconds(trace, LKS_PHASE_FORWARD, 2) >= STEPS * 1e-4);
    }
    double layers = 0;
    for (int layer = LKS_TRACE_NO_LAYER; layer < LAYERS; layer++)
        layers += lks_trace_layer_seconds(trace, LKS_PHASE_FORWARD, layer);
    assert_true(fabs(layers - result.phases[LKS_PHASE_FORWARD]) <= 1e-12);

    check_ok(lks_trace_reset(trace));
    result = read(trace);
    assert_true(result.steps == 0 && result.step == 0);
    run_step(device);
    assert_int_equal(read(trace).steps, 1);
    lks_trace_destroy(trace);
    assert_false(lks_device_is_traced(device));
}

/* Two transfers of 10 bytes, the second one begun while the first was under way, and one that ends
 * in the next step. */
static void test_transfers_count_once(void **state) {
    lks_device *device = *state;
    lks_trace *trace = attach(device);
    lks_trace_begin_step(device);
    const int64_t first = lks_trace_begin_transfer(device, KIND, 10);
    const int64_t second = lks_trace_begin_transfer(device, KIND, 10);
    const int64_t third = lks_trace_begin_transfer(device, KIND + 1, 5);
    assert_true(first != 0 && second != 0 && second != first);
    work(device, 3e-4);
    lks_trace_end_transfer(device, first);
    work(device, 1e-4);
    lks_trace_end_transfer(device, second);
    lks_trace_end_step(device);
    lks_trace_begin_step(device);
    lks_trace_end_transfer(device, third);
    lks_trace_end_transfer(device, 0);
    lks_trace_end_step(device);
    const lks_trace_result result = read(trace);
    const lks_trace_transfers *moved = &result.transfers[KIND];
    assert_int_equal(moved->count, 2);
    assert_int_equal(moved->bytes, 20);
    assert_int_equal(result.transfers[KIND + 1].count, 1);
    assert_int_equal(result.transfers[KIND + 1].bytes, 5);
    if (lks_device_is_host(device)) {
        assert_true(moved->seconds >= 4e-4);
        assert_true(moved->seconds <= result.step);
    }
    lks_trace_destroy(trace);
}

/* The first one goes on in the next step, in which the second one begins: during steps there is
 * always one under way, and between them no time counts. */
static void test_transfers_from_step_to_step(void **state) {
    lks_device *device = *state;
    lks_trace *trace = attach(device);
    lks_trace_begin_step(device);
    const int64_t first = lks_trace_begin_transfer(device, KIND, 10);
    work(device, 2e-4);
    lks_trace_end_step(device);
    work(device, 5e-4);
    lks_trace_begin_step(device);
    const int64_t second = lks_trace_begin_transfer(device, KIND + 1, 10);
    work(device, 3e-4);
    lks_trace_end_transfer(device, first);
    work(device, 4e-4);
    lks_trace_end_transfer(device, second);
    lks_trace_end_step(device);
    const lks_trace_result result = read(trace);
    const double seconds[] = {result.transfers[KIND].seconds, result.transfers[KIND + 1].seconds};
    assert_int_equal(result.transfers[KIND].count, 1);
    assert_int_equal(result.transfers[KIND + 1].count, 1);
    if (lks_device_is_host(device)) {
        assert_true(seconds[0] >= 5e-4 && seconds[1] >= 4e-4);
        assert_true(seconds[0] + seconds[1] <= result.step);
    }
    lks_trace_destroy(trace);
}

/* A thread that sleeps has no core: as one that waits for a core which others have. */
static void test_processor_time(void **state) {
    enum { STEPS = 3 };
    const struct timespec pause = {.tv_nsec = 2000000};
    lks_device *device = *state;
    lks_trace *trace = attach(device);
    for (int i = 0; i < STEPS; i++) {
        work(device, 2e-3); /* between steps nothing counts */
        lks_trace_begin_step(device);
        lks_trace_enter(device, LKS_PHASE_FORWARD, 0, "layer");
        nanosleep(&pause, NULL);
        lks_trace_leave(device);
        lks_trace_enter(device, LKS_PHASE_BACKWARD, 0, "layer");
        work(device, 1e-3);
        lks_trace_leave(device);
        work(device, 1e-3);
        lks_trace_end_step(device);
    }
    const lks_trace_result result = read(trace);
    for (int phase = 0; phase < LKS_PHASE_COUNT; phase++) {
        if (!lks_device_is_host(device)) assert_true(result.processor[phase] == 0);
        /* Two clocks, read one after the other at each end of a step. */
        assert_true(result.processor[phase] <= result.phases[phase] + STEPS * 1e-3);
    }
    if (lks_device_is_host(device)) {
        assert_true(result.phases[LKS_PHASE_FORWARD] >= STEPS * 2e-3);
        assert_true(result.processor[LKS_PHASE_FORWARD] < STEPS * 1e-3);
        assert_true(result.processor[LKS_PHASE_BACKWARD] > 0);
        assert_true(result.processor[LKS_PHASE_OTHER] > 0);
    }
    check_ok(lks_trace_reset(trace));
    assert_true(read(trace).processor[LKS_PHASE_BACKWARD] == 0);
    lks_trace_destroy(trace);
}

/* More spans and transfers than the first allocation holds, and deeper than they nest in practice.
 */
static void test_many_marks(void **state) {
    lks_device *device = *state;
    lks_trace *trace = attach(device);
    for (int step = 0; step < 3; step++) {
        lks_trace_begin_step(device);
        for (int i = 0; i < 200; i++) {
            lks_trace_enter(device, LKS_PHASE_BACKWARD, i % LAYERS, "layer");
            lks_trace_end_transfer(device, lks_trace_begin_transfer(device, KIND, 1));
            lks_trace_leave(device);
        }
        for (int i = 0; i < 40; i++)
            lks_trace_enter(device, LKS_PHASE_OPTIMIZER, LKS_TRACE_NO_LAYER, "deeper");
        for (int i = 0; i < 40; i++)
            lks_trace_leave(device);
        lks_trace_end_step(device);
    }
    const lks_trace_result result = read(trace);
    assert_int_equal(result.steps, 3);
    assert_int_equal(result.transfers[KIND].count, 600);
    lks_trace_destroy(trace);
}

static void test_nothing_outside_of_a_step(void **state) {
    lks_device *device = *state;
    lks_trace_enter(NULL, LKS_PHASE_COMM, LKS_TRACE_NO_LAYER, "no device");
    lks_trace_leave(NULL);
    run_step(device); /* without a trace */
    lks_trace *trace = attach(device);
    lks_trace_enter(device, LKS_PHASE_FORWARD, 0, "validation");
    assert_int_equal(lks_trace_begin_transfer(device, KIND, 10), 0);
    lks_trace_leave(device);
    const lks_trace_result result = read(trace);
    assert_true(result.steps == 0 && result.step == 0);
    assert_int_equal(result.transfers[KIND].count, 0);
    lks_trace_destroy(trace);
    lks_trace_destroy(NULL);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_moment_belongs_to_one_span),
        cmocka_unit_test(test_transfers_count_once),
        cmocka_unit_test(test_transfers_from_step_to_step),
        cmocka_unit_test(test_processor_time),
        cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_nothing_outside_of_a_step),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
