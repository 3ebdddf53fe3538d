/* Lengths of time as users write them, alone and as an option. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

static void what_is_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        {"0", 0},        {"90s", 90},      {"0.5s", 0.5},         {"30min", 1800},
        {"1.5 h", 5400}, {"2d", 172800},   {"1:30:00", 5400},     {"0:00:07", 7},
        {"0s", 0},       {"1_000s", 1000}, {"100:59:59", 363599},
    };
    static const char *const bad[] = {"",         "90",     "s",       "-5s",     "5 m",
                                      "5ms",      "1:30",   "1:60:00", "1:00:60", "1:00:00s",
                                      "1:0:0:0",  ":00:00", "1h30min", "infs",    "1e12d",
                                      "-1:00:00", "1: 2: 3"};
    double seconds;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!lks_duration_parse(good[i].text, &seconds)) fail_msg("%s is refused", good[i].text);
        assert_true(seconds == good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (lks_duration_parse(bad[i], &seconds)) fail_msg("%s is not refused", bad[i]);
}

static void what_is_printed(void **state) {
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0"},        {90, "90s"},    {0.5, "0.5s"},  {1800, "30min"},
                 {5400, "90min"}, {172800, "2d"}, {43200, "12h"}, {5400.25, "5400.25s"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lks_strbuf text = {0};
        lks_duration_print(cases[i].seconds, &text);
        assert_string_equal(text.text, cases[i].text);
        lks_strbuf_free(&text);
    }
}

typedef struct limits {
    double limit;
} limits;

static void as_an_option(void **state) {
    (void)state;
    static const lks_option options[] = {
        {.key = "limit",
         .type = LKS_OPTION_DURATION,
         .offset = offsetof(limits, limit),
         .text = "5min"},
        {0},
    };
    static const lks_option_table table = {"limits", "Limits.", sizeof(limits), options};
    limits l;
    assert_int_equal(lks_options_parse(&table, &l, NULL, "limits"), LKS_OK);
    assert_true(l.limit == 300);
    lks_strbuf text = {0};
    lks_option_print(&options[0], &l, &text);
    assert_string_equal(text.text, "5min");
    lks_strbuf_free(&text);
    assert_int_equal(lks_options_parse(&table, &l, "limit=12", "limits"), LKS_ECONFIG);
    assert_string_equal(lks_last_error(), "limits: limit: \"12\" is not valid: expected a time "
                                          "such as 90s, 30min, 12h or 1:30:00");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(what_is_printed),
        cmocka_unit_test(as_an_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
