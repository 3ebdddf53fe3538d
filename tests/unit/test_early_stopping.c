/* Early stopping, driven by made-up series. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sched/sched.h"

static lks_early_stopping_config parse(const char *options) {
    lks_early_stopping_config config;
    assert_int_equal(lks_options_parse(&lks_early_stopping_options, &config, options, "test"),
                     LKS_OK);
    return config;
}

/* Feeds the series (ended by -1); returns the epoch that stopped it, or -1. */
static int run(const char *options, const double *series, lks_early_stopping *out) {
    lks_early_stopping_config config = parse(options);
    lks_early_stopping state = lks_early_stopping_start(&config);
    int stopped = -1;
    for (int i = 0; series[i] != -1; i++) {
        bool now = lks_early_stopping_update(&config, &state, i + 1, series[i]);
        assert_int_equal(now, state.stopped);
        if (now && stopped < 0) stopped = i + 1;
    }
    if (out) *out = state;
    return stopped;
}

static void it_stops_after_patience_bad_epochs(void **state) {
    (void)state;
    lks_early_stopping end;
    const double falling[] = {5, 4, 3, 3.5, 3, 3.1, -1};
    assert_int_equal(run("patience=3", falling, &end), 6);
    assert_true(end.best == 3 && end.best_epoch == 3 && end.bad_epochs == 3 && end.stopped);
    assert_int_equal(run("patience=4", falling, &end), -1);
    assert_false(end.stopped);
    assert_int_equal(run("patience=1", falling, NULL), 4);
    assert_int_equal(run("patience=0", falling, NULL), 4);
}

static void an_improvement_starts_the_count_again(void **state) {
    (void)state;
    lks_early_stopping end;
    const double series[] = {5, 6, 6, 4, 6, 6, 3, 6, 6, -1};
    assert_int_equal(run("patience=3", series, &end), -1);
    assert_true(end.best == 3 && end.best_epoch == 7 && end.bad_epochs == 2);
}

static void min_delta_is_what_an_improvement_must_exceed(void **state) {
    (void)state;
    lks_early_stopping end;
    const double series[] = {1, 0.75, 0.5, 0.125, -1};
    run("patience=9 min_delta=0.25", series, &end);
    assert_true(end.best ==
                0.125); /* 1 -> 0.75 is not more than 0.25; 1 -> 0.5 is; 0.5 -> 0.125 is */
    assert_int_equal(end.best_epoch, 4);
    const double slow[] = {1, 0.75, 0.75, -1};
    run("patience=9 min_delta=0.25", slow, &end);
    assert_true(end.best == 1 && end.best_epoch == 1 && end.bad_epochs == 2);
    const double rising[] = {0.25, 0.5, 0.5, -1};
    run("monitor=val_acc patience=9 min_delta=0.25", rising, &end);
    assert_true(end.best == 0.25 && end.best_epoch == 1 && end.bad_epochs == 2);
}

static void the_mode_follows_the_monitor_or_the_user(void **state) {
    (void)state;
    lks_early_stopping end;
    const double rising[] = {0.1, 0.2, 0.3, -1};
    run("monitor=val_acc", rising, &end);
    assert_true(end.best == 0.3);
    run("monitor=train_acc", rising, &end);
    assert_true(end.best == 0.3);
    run("monitor=val_loss", rising, &end);
    assert_true(end.best == 0.1);
    run("monitor=train_loss mode=max", rising, &end);
    assert_true(end.best == 0.3);
    run("monitor=val_acc mode=min", rising, &end);
    assert_true(end.best == 0.1);
    run("monitor=val_acc min_delta=0.15", rising, &end);
    assert_true(end.best == 0.3 && end.bad_epochs == 0);
    assert_true(lks_monitor_minimizes("val_loss") && !lks_monitor_minimizes("val_acc"));
}

static void nan_is_no_improvement(void **state) {
    (void)state;
    lks_early_stopping end;
    const double series[] = {NAN, 2, NAN, NAN, 1, -1};
    assert_int_equal(run("patience=3", series, &end), -1);
    assert_true(end.best == 1 && end.best_epoch == 5);
    const double never[] = {NAN, NAN, NAN, -1};
    assert_int_equal(run("patience=3", never, &end), 3);
    assert_int_equal(end.best_epoch, -1);
    const double infinite[] = {INFINITY, INFINITY, -1};
    assert_int_equal(run("patience=2", infinite, NULL), 2);
}

static void it_stays_stopped(void **state) {
    (void)state;
    lks_early_stopping end;
    const double series[] = {1, 2, 0.5, -1};
    assert_int_equal(run("patience=1", series, &end), 2);
    assert_true(end.stopped && end.best == 0.5);
}

static void defaults_and_bounds(void **state) {
    (void)state;
    lks_early_stopping_config config = parse("");
    assert_string_equal(lks_monitor_names[config.monitor], "val_loss");
    assert_int_equal(config.patience, 10);
    assert_true(config.min_delta == 0 && config.mode == 0 && !config.restore_best);
    static const char *const bad[] = {"patience=-1",  "min_delta=-0.1", "min_delta=inf",
                                      "monitor=loss", "mode=up",        "patience=1.5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(lks_options_parse(&lks_early_stopping_options, &config, bad[i], "test"),
                         LKS_ECONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_stops_after_patience_bad_epochs),
        cmocka_unit_test(an_improvement_starts_the_count_again),
        cmocka_unit_test(min_delta_is_what_an_improvement_must_exceed),
        cmocka_unit_test(the_mode_follows_the_monitor_or_the_user),
        cmocka_unit_test(nan_is_no_improvement),
        cmocka_unit_test(it_stays_stopped),
        cmocka_unit_test(defaults_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
