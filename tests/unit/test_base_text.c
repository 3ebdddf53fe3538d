/* Growing strings, JSON, names, the error detail and log lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static void strings_grow(void **state) {
    (void)state;
    lks_strbuf s = {0};
    lks_strbuf_add_bytes(&s, "", 0);
    assert_string_equal(s.text, "");
    for (int i = 0; i < 1000; i++)
        lks_strbuf_add(&s, "%03d,", i);
    assert_false(s.failed);
    assert_int_equal(s.length, 4000);
    assert_int_equal(strlen(s.text), 4000);
    assert_memory_equal(s.text + 3996, "999,", 5);
    lks_strbuf_free(&s);
    assert_null(s.text);
}

static void appends_at_the_edge_of_the_capacity(void **state) {
    (void)state;
    for (size_t length = 60; length < 70; length++) {
        lks_strbuf s = {0};
        for (size_t i = 0; i < length; i++)
            lks_strbuf_add_bytes(&s, "x", 1);
        lks_strbuf_add(&s, "%s", "yz");
        assert_int_equal(strlen(s.text), length + 2);
        assert_true(s.length < s.capacity);
        lks_strbuf_free(&s);
    }
}

static void too_large_an_append_fails_once_and_for_all(void **state) {
    (void)state;
    lks_strbuf s = {0};
    lks_strbuf_add(&s, "a");
    lks_strbuf_add_bytes(&s, "b", SIZE_MAX - 1);
    assert_true(s.failed);
    lks_strbuf_add(&s, "c");
    assert_string_equal(s.text, "a");
    lks_strbuf_free(&s);
}

static void check_json(const char *text, const char *expected) {
    lks_strbuf s = {0};
    lks_strbuf_add_json(&s, text);
    assert_string_equal(s.text, expected);
    lks_strbuf_free(&s);
}

static void json_strings(void **state) {
    (void)state;
    check_json("", "\"\"");
    check_json("a \"b\" c:\\d", "\"a \\\"b\\\" c:\\\\d\"");
    check_json("\n\t\x01\x7f", "\"\\n\\t\\u0001\\u007f\"");
    check_json("M\xc3\xbcller \xe2\x82\xac \xf0\x9f\x98\x80",
               "\"M\xc3\xbcller \xe2\x82\xac \xf0\x9f\x98\x80\"");
    /* what is not UTF-8: Latin-1, a cut sequence, an overlong one, a surrogate, too large */
    check_json("M\xfcller", "\"M\\ufffdller\"");
    check_json("\xe2\x82", "\"\\ufffd\\ufffd\"");
    check_json("\xc0\xaf", "\"\\ufffd\\ufffd\"");
    check_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
    check_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void json_numbers(void **state) {
    (void)state;
    lks_strbuf s = {0};
    double values[] = {0.1, 1e300, -3, NAN, INFINITY};
    for (int i = 0; i < 5; i++) {
        lks_strbuf_add_json_number(&s, values[i]);
        lks_strbuf_add(&s, " ");
    }
    assert_string_equal(s.text, "0.10000000000000001 1.0000000000000001e+300 -3 null null ");
    lks_strbuf_free(&s);
}

static void copies(void **state) {
    (void)state;
    assert_null(lks_strdup(NULL));
    char *a = lks_strdup("abc"), *b = lks_strdup_printf("%d-%s", 7, "x");
    assert_string_equal(a, "abc");
    assert_string_equal(b, "7-x");
    free(a);
    free(b);
}

static void nearest_names(void **state) {
    (void)state;
    static const char *const names[] = {"lr", "momentum", "weight_decay", "kernel_size", "padding"};
    enum { COUNT = sizeof names / sizeof *names };
    assert_string_equal(lks_nearest_name("momentun", names, COUNT), "momentum");
    assert_string_equal(lks_nearest_name("kernal_size", names, COUNT), "kernel_size");
    assert_string_equal(lks_nearest_name("weight-decay", names, COUNT), "weight_decay");
    assert_string_equal(lks_nearest_name("LR", names, COUNT), "lr");
    assert_string_equal(lks_nearest_name("rl", names, COUNT), "lr"); /* one swap */
    assert_string_equal(lks_nearest_name("kernel", names, COUNT), "kernel_size");
    assert_null(lks_nearest_name("zzz", names, COUNT));
    assert_null(lks_nearest_name("x", names, COUNT));
    assert_null(lks_nearest_name("", names, COUNT));
    assert_null(lks_nearest_name("lr", NULL, 0));
    char endless[5000];
    memset(endless, 'p', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    assert_null(lks_nearest_name(endless, names, COUNT));
}

static void unknown_names(void **state) {
    (void)state;
    static const char *const names[] = {"sgd", "adam"};
    assert_int_equal(lks_fail_unknown("optimizer", "sdg", names, 2), LKS_ECONFIG);
    assert_string_equal(lks_last_error(), "unknown optimizer \"sdg\": did you mean \"sgd\"?");
    assert_int_equal(lks_fail_unknown("optimizer", "zzz", names, 2), LKS_ECONFIG);
    assert_string_equal(lks_last_error(), "unknown optimizer \"zzz\": expected one of sgd, adam");
    assert_int_equal(lks_fail_unknown("optimizer", "zzz", NULL, 0), LKS_ECONFIG);
}

static void shell_patterns(void **state) {
    (void)state;
    assert_true(lks_glob_match("*.bias", "conv1.bias"));
    assert_true(lks_glob_match("*", ""));
    assert_true(lks_glob_match("fc?.[wb]*", "fc1.weight"));
    assert_false(lks_glob_match("*.bias", "conv1.weight"));
    assert_false(lks_glob_match("fc", "fc1"));
}

static void errors_keep_their_detail(void **state) {
    (void)state;
    assert_int_equal(lks_fail(LKS_EIO, "cannot open %s", "x.h5"), LKS_EIO);
    assert_string_equal(lks_last_error(), "cannot open x.h5");
    assert_int_equal(lks_fail_in(LKS_EDATA, "run.yaml:%d", 12), LKS_EDATA);
    assert_string_equal(lks_last_error(), "run.yaml:12: cannot open x.h5");
    lks_fail(LKS_EIO, "rank 3: %s", lks_last_error()); /* the argument is the old detail */
    assert_string_equal(lks_last_error(), "rank 3: run.yaml:12: cannot open x.h5");
}

static void long_errors_are_cut(void **state) {
    (void)state;
    char text[2 * LKS_ERROR_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lks_fail(LKS_EIO, "%s", text);
    assert_int_equal(strlen(lks_last_error()), LKS_ERROR_BYTES - 1);
    lks_fail_in(LKS_EIO, "front");
    assert_int_equal(strlen(lks_last_error()), LKS_ERROR_BYTES - 1);
    assert_memory_equal(lks_last_error(), "front: xxx", 10);
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    int clean = strcmp(lks_last_error(), "") == 0;
    lks_fail(LKS_EIO, "elsewhere");
    return clean ? "clean" : NULL;
}

static void errors_belong_to_their_thread(void **state) {
    (void)state;
    lks_fail(LKS_EIO, "here");
    pthread_t thread;
    void *clean;
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, &clean), 0);
    assert_non_null(clean);
    assert_string_equal(lks_last_error(), "here");
}

static void count_call(void *data) {
    ++*(int *)data;
}

/* A logger that writes into memory. */
typedef struct log_fixture {
    char *text, *also;
    size_t text_length, also_length;
    int calls;
    lks_logger logger;
} log_fixture;

static void open_log(log_fixture *f, int rank, bool all_ranks) {
    *f = (log_fixture){0};
    f->logger = (lks_logger){LKS_LOG_INFO,
                             rank,
                             all_ranks,
                             open_memstream(&f->text, &f->text_length),
                             open_memstream(&f->also, &f->also_length),
                             count_call,
                             &f->calls};
}

static void close_log(log_fixture *f) {
    fclose(f->logger.stream);
    fclose(f->logger.also);
    free(f->text);
    free(f->also);
}

static void log_lines(void **state) {
    (void)state;
    log_fixture f;
    open_log(&f, 0, false);
    lks_log(&f.logger, LKS_LOG_WARNING, "%d ranks share one core", 2);
    lks_log(&f.logger, LKS_LOG_DEBUG, "not this one");
    lks_log(&f.logger, LKS_LOG_INFO, "and this");
    lks_log(NULL, LKS_LOG_ERROR, "nowhere");
    assert_int_equal(f.text[0], '[');
    assert_string_equal(strstr(f.text, "] ") + 2,
                        strstr(f.text, "warning: 2 ranks share one core\n"));
    assert_non_null(strstr(f.text, "] and this\n"));
    assert_null(strstr(f.text, "not this one"));
    assert_int_equal(f.calls, 2);
    assert_string_equal(f.text, f.also);
    close_log(&f);
}

static void other_ranks_write_only_when_asked(void **state) {
    (void)state;
    log_fixture f;
    open_log(&f, 3, false);
    lks_log(&f.logger, LKS_LOG_ERROR, "silent");
    assert_int_equal(f.calls, 0);
    close_log(&f);
    open_log(&f, 3, true);
    lks_log(&f.logger, LKS_LOG_ERROR, "loud");
    assert_non_null(strstr(f.text, "] rank 3: error: loud\n"));
    close_log(&f);
}

static void long_log_lines_are_whole(void **state) {
    (void)state;
    log_fixture f;
    open_log(&f, 0, false);
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lks_log(&f.logger, LKS_LOG_INFO, "%s", text);
    assert_true(f.text_length > 5000);
    assert_int_equal(f.text[f.text_length - 1], '\n');
    close_log(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_grow),
        cmocka_unit_test(appends_at_the_edge_of_the_capacity),
        cmocka_unit_test(too_large_an_append_fails_once_and_for_all),
        cmocka_unit_test(json_strings),
        cmocka_unit_test(json_numbers),
        cmocka_unit_test(copies),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(shell_patterns),
        cmocka_unit_test(errors_keep_their_detail),
        cmocka_unit_test(long_errors_are_cut),
        cmocka_unit_test(errors_belong_to_their_thread),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(other_ranks_write_only_when_asked),
        cmocka_unit_test(long_log_lines_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
