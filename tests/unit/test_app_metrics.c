/* Reading metrics.jsonl: runs that were resumed, runs that go on, files that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/metrics.h"

static char path[] = "/tmp/test_app_metrics.XXXXXX";

static lks_status read_text(const char *text, lks_metrics *out) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return lks_metrics_read(path, out);
}

static lks_metrics parsed(const char *text) {
    lks_metrics m;
    if (read_text(text, &m)) fail_msg("%s", lks_last_error());
    return m;
}

#define EPOCH(number_, loss_)                                                                \
    "{\"kind\": \"epoch\", \"epoch\": " #number_ ", \"train_loss\": " #loss_                 \
    ", \"train_acc\": 0.5, \"val_loss\": null, \"val_acc\": null, \"lr\": 1e-05, \"best\": " \
    "true}\n"

static void epochs_become_rows(void **state) {
    (void)state;
    lks_metrics m = parsed("{\"kind\": \"progress\", \"epoch\": 1, \"train_loss\": 9}\n" EPOCH(
        1, 2.5) "\n" EPOCH(2, 1.25));
    assert_int_equal(m.count, 2);
    assert_true(m.epochs[0] == 1 && m.epochs[1] == 2);
    assert_true(m.values[LKS_METRIC_TRAIN_LOSS][0] == 2.5);
    assert_true(m.values[LKS_METRIC_TRAIN_LOSS][1] == 1.25);
    assert_true(m.values[LKS_METRIC_LR][1] == 1e-5);
    assert_true(isnan(m.values[LKS_METRIC_VAL_LOSS][0]));
    assert_true(lks_metrics_has(&m, LKS_METRIC_TRAIN_ACC));
    assert_false(lks_metrics_has(&m, LKS_METRIC_VAL_ACC));
    assert_false(lks_metrics_has(&m, LKS_METRIC_COUNT));
    lks_metrics_free(&m);
}

static void more_epochs_than_fit_at_first(void **state) {
    (void)state;
    lks_strbuf text = {0};
    for (int i = 1; i <= 1000; i++)
        lks_strbuf_add(&text, "{\"kind\": \"epoch\", \"epoch\": %d, \"lr\": %d}\n", i, 2 * i);
    lks_metrics m = parsed(text.text);
    assert_int_equal(m.count, 1000);
    for (int i = 0; i < 1000; i++)
        assert_true(m.values[LKS_METRIC_LR][i] == 2 * (i + 1));
    lks_metrics_free(&m);
    lks_strbuf_free(&text);
}

/* Epoch 2 was done twice, and the old epoch 3 belongs to a course that was given up. */
static void what_a_resumed_run_repeats_counts_once(void **state) {
    (void)state;
    lks_metrics m = parsed(EPOCH(1, 3) EPOCH(2, 2) EPOCH(
        3, 1) "{\"kind\": \"resume\", \"epoch\": 1, \"checkpoint\": \"a b\"}\n" EPOCH(2, 0.5));
    assert_int_equal(m.count, 2);
    assert_true(m.values[LKS_METRIC_TRAIN_LOSS][1] == 0.5);
    lks_metrics_free(&m);
}

static void half_a_line_at_the_end_is_left_out(void **state) {
    (void)state;
    lks_metrics m = parsed(EPOCH(1, 3) "{\"kind\": \"epoch\", \"epo");
    assert_int_equal(m.count, 1);
    lks_metrics_free(&m);
    m = parsed("");
    assert_int_equal(m.count, 0);
    lks_metrics_free(&m);
}

static void other_files_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        EPOCH(1, 2) "half a {\n" EPOCH(2, 1),
        EPOCH(1, 2) "[1, 2]\n",
        EPOCH(1, 2) "{\"kind\": \"epoch\"}\n",
        EPOCH(1, 2) "{\"kind\": \"epoch\", \"epoch\": \"2\"}\n",
    };
    lks_metrics m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_text(bad[i], &m), LKS_EDATA);
        if (!strstr(lks_last_error(), ":2: ")) fail_msg("no line in \"%s\"", lks_last_error());
        lks_metrics_free(&m);
    }
    assert_int_equal(lks_metrics_read("/nonexistent/metrics.jsonl", &m), LKS_EIO);
    lks_metrics_free(&m);
}

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs_become_rows),
        cmocka_unit_test(more_epochs_than_fit_at_first),
        cmocka_unit_test(what_a_resumed_run_repeats_counts_once),
        cmocka_unit_test(half_a_line_at_the_end_is_left_out),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
