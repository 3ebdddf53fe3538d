/* Optimizer updates and their memory: arrays that begin anywhere, and decisions that stay on the
 * device. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIMIZERS = 4, STATES = 3, LENGTH = 32 };

/* Host memory of one update: LENGTH elements each, of which it may take a part. */
typedef struct arrays {
    float param[LENGTH], grad[LENGTH], state[STATES][LENGTH];
} arrays;

static arrays make_arrays(void) {
    arrays a;
    float *const to[] = {a.param, a.grad, a.state[0], a.state[1], a.state[2]};
    for (uint64_t i = 0; i < 5; i++) {
        float *random = check_random(1 + i, LENGTH, 0.5, 1);
        memcpy(to[i], random, sizeof a.param);
        free(random);
    }
    return a;
}

/* The same in device memory. */
typedef struct device_arrays {
    float *param, *grad, *state[STATES];
    double *divisor;
} device_arrays;

static device_arrays upload(lks_device *device, const arrays *a) {
    const double divisor = 2;
    device_arrays d = {.param = check_device_copy(device, a->param, sizeof a->param),
                       .grad = check_device_copy(device, a->grad, sizeof a->grad),
                       .divisor = check_device_copy(device, &divisor, sizeof divisor)};
    for (int i = 0; i < STATES; i++)
        d.state[i] = check_device_copy(device, a->state[i], sizeof a->state[i]);
    return d;
}

/* Reads back into *a, and frees. */
static void download(lks_device *device, device_arrays *d, arrays *a) {
    check_download(device, a->param, d->param, sizeof a->param);
    for (int i = 0; i < STATES; i++) {
        check_download(device, a->state[i], d->state[i], sizeof a->state[i]);
        lks_device_free(device, d->state[i]);
    }
    lks_device_free(device, d->param);
    lks_device_free(device, d->grad);
    lks_device_free(device, d->divisor);
}

/* One update of `count` elements: parameters from place `param_at` on, the rest from `at` on. */
static void update(lks_device *device, int optimizer, const device_arrays *d, int64_t count,
                   int param_at, int at, const lks_update_control *control) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    float *const s[] = {d->state[0] + at, d->state[1] + at, d->state[2] + at};
    const lks_update u = {.count = count,
                          .param = d->param + param_at,
                          .grad = d->grad + at,
                          .divisor = d->divisor,
                          .grad_scale = 1,
                          .lr = 0.1,
                          .step = 2,
                          .control = control};
    const lks_sgd_update sgd = {.momentum = 0.9, .momentum_buffer = s[0]};
    const lks_adam_update adam = {.beta1 = 0.9,
                                  .beta2 = 0.99,
                                  .eps = 1e-8,
                                  .exp_avg = s[0],
                                  .exp_avg_sq = s[1],
                                  .max_exp_avg_sq = s[2]};
    const lks_rmsprop_update rmsprop = {.alpha = 0.9,
                                        .eps = 1e-8,
                                        .momentum = 0.9,
                                        .square_avg = s[0],
                                        .grad_avg = s[1],
                                        .momentum_buffer = s[2]};
    const lks_adagrad_update adagrad = {.eps = 1e-8, .sum = s[0]};
    if (optimizer == 0) check_ok(lks_device_sgd(device, stream, &u, &sgd));
    if (optimizer == 1) check_ok(lks_device_adam(device, stream, &u, &adam));
    if (optimizer == 2) check_ok(lks_device_rmsprop(device, stream, &u, &rmsprop));
    if (optimizer == 3) check_ok(lks_device_adagrad(device, stream, &u, &adagrad));
}

/* Arrays that begin anywhere, all alike or not, give the bits of those that begin at a boundary,
 * and nothing beside them is touched. */
static void test_any_alignment(void **state) {
    enum { COUNT = 23 };
    for (int optimizer = 0; optimizer < OPTIMIZERS; optimizer++)
        for (int shift = 0; shift < 8; shift++) {
            const int at = shift % 4, param_at = shift < 4 ? at : 0;
            const arrays start = make_arrays();
            arrays want = start, got = start, moved = start;
            device_arrays d = upload(*state, &want);
            update(*state, optimizer, &d, COUNT, 0, 0, NULL);
            download(*state, &d, &want);

            memcpy(moved.param + param_at, start.param, COUNT * sizeof(float));
            memcpy(moved.grad + at, start.grad, COUNT * sizeof(float));
            for (int i = 0; i < STATES; i++)
                memcpy(moved.state[i] + at, start.state[i], COUNT * sizeof(float));
            d = upload(*state, &moved);
            update(*state, optimizer, &d, COUNT, param_at, at, NULL);
            download(*state, &d, &got);
            assert_memory_equal(got.param + param_at, want.param, COUNT * sizeof(float));
            for (int i = 0; i < STATES; i++)
                assert_memory_equal(got.state[i] + at, want.state[i], COUNT * sizeof(float));
            for (int i = 0; i < LENGTH; i++)
                if (i < param_at || i >= param_at + COUNT)
                    assert_true(got.param[i] == moved.param[i]);
        }
}

/* ---- decisions ---- */

/* Of a step after 6 updates, with totals of 10 each so far. */
static lks_update_control decide(lks_device *device, lks_norm_kind kind, double clip_norm,
                                 double parts, double failed, double loss) {
    static const double before[LKS_LOSS_SUM_COUNT] = {10, 10, 10, 10};
    const double sums[LKS_LOSS_SUM_COUNT] = {loss, 4, 3, 2}, both[] = {parts, failed};
    const lks_step_counters counters = {.updates = 6};
    double totals[LKS_LOSS_SUM_COUNT];
    lks_update_control got, *there = check_device_copy(device, NULL, sizeof got);
    void *there_parts = check_device_copy(device, both, sizeof both);
    void *there_sums = check_device_copy(device, sums, sizeof sums);
    void *there_totals = check_device_copy(device, before, sizeof before);
    void *there_counters = check_device_copy(device, &counters, sizeof counters);
    const lks_decision decision = {kind,       clip_norm,    there_parts,
                                   there_sums, there_totals, there_counters};
    check_ok(
        lks_device_decide(device, lks_device_stream(device, LKS_STREAM_COMPUTE), &decision, there));
    check_download(device, &got, there, sizeof got);
    check_download(device, totals, there_totals, sizeof totals);
    for (int i = 0; i < LKS_LOSS_SUM_COUNT; i++)
        assert_true(totals[i] == (got.skip ? 10 : 10 + sums[i]));
    void *const all[] = {there, there_parts, there_sums, there_totals, there_counters};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lks_device_free(device, all[i]);
    return got;
}

/* Steps that are finite are counted and clipped, the others skipped. */
static void test_decisions(void **state) {
    lks_update_control got = decide(*state, LKS_NORM_2, 0, 64, 0, 1);
    assert_true(got.step == 7 && !got.skip && !got.failed && got.grad_scale == 1 && got.norm == 2);
    got = decide(*state, LKS_NORM_2, 0.5, 64, 0, 1);
    assert_true(got.step == 7 && got.norm == 2 && got.grad_scale == 0.5 / (2 + 1e-6));
    got = decide(*state, LKS_NORM_1, 16.5, 64, 0, 1);
    assert_true(got.step == 7 && got.norm == 16 && got.grad_scale == 1);
    got = decide(*state, LKS_NORM_INF, 1, (double)NAN, 0, 1);
    assert_true(got.step == 6 && got.skip && !got.failed && isnan(got.norm));
    got = decide(*state, LKS_NORM_2, 1, 1, 0, (double)INFINITY);
    assert_true(got.step == 6 && got.skip && !got.failed);
    got = decide(*state, LKS_NORM_2, 0, 64, 2, 1);
    assert_true(got.step == 6 && got.skip && got.failed);
}

static void test_skipped_steps_change_nothing(void **state) {
    for (int optimizer = 0; optimizer < OPTIMIZERS; optimizer++)
        for (int skip = 0; skip <= 1; skip++) {
            const lks_update_control control = {.step = 2, .skip = skip, .grad_scale = 1};
            void *there = check_device_copy(*state, &control, sizeof control);
            const arrays before = make_arrays();
            arrays after = before;
            device_arrays d = upload(*state, &after);
            update(*state, optimizer, &d, LENGTH, 0, 0, there);
            download(*state, &d, &after);
            assert_true((memcmp(&after, &before, sizeof after) == 0) == skip);
            lks_device_free(*state, there);
        }
}

static void test_refused(void **state) {
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    const double numbers[LKS_LOSS_SUM_COUNT] = {0};
    lks_update_control control;
    double totals[LKS_LOSS_SUM_COUNT];
    const lks_step_counters counters = {0};
    const lks_decision good = {LKS_NORM_2, 1, numbers, numbers, totals, &counters};
    lks_decision bad = good;
    bad.clip_norm = (double)NAN;
    assert_int_equal(lks_device_decide(*state, stream, &bad, &control), LKS_EINVAL);
    bad = good;
    bad.parts = NULL;
    assert_int_equal(lks_device_decide(*state, stream, &bad, &control), LKS_EINVAL);
    bad = good;
    bad.counters = NULL;
    assert_int_equal(lks_device_decide(*state, stream, &bad, &control), LKS_EINVAL);
    assert_int_equal(lks_device_decide(*state, stream, &good, NULL), LKS_EINVAL);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_alignment),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_skipped_steps_change_nothing),
        cmocka_unit_test(test_refused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
