/* Option tables: parsing, validation, messages, printing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <string.h>

#include "base/base.h"

typedef struct thing {
    int64_t steps, bytes, buckets;
    double lr;
    bool nesterov;
    int reduction;
    char *name, *file;
    int64_t kernel[2], padding[2];
    double betas[2];
    lks_int_list milestones;
    lks_float_list mean;
    lks_text_list stages;
} thing;

static const char *const reductions[] = {"mean", "sum", NULL};

#define THING(member_) .offset = offsetof(thing, member_)
static const lks_option thing_options[] = {
    {"steps", LKS_OPTION_INT, THING(steps), .text = "3", .low = 1, .high = 1e6},
    {"bytes", LKS_OPTION_BYTES, THING(bytes), .text = "25MiB", .low = 0, .high = INFINITY},
    {"lr", LKS_OPTION_FLOAT, THING(lr), .text = "1e-3", .low = 0, .high = INFINITY},
    {"nesterov", LKS_OPTION_BOOL, THING(nesterov), .text = "false"},
    {"reduction", LKS_OPTION_CHOICE, THING(reduction), .text = "mean", .choices = reductions},
    {"name", LKS_OPTION_STRING, THING(name), .text = "a thing"},
    {"file", LKS_OPTION_PATH, THING(file), .optional = true},
    {"kernel_size", LKS_OPTION_INT_PAIR, THING(kernel), .low = 1, .high = INFINITY},
    {"betas", LKS_OPTION_FLOAT_PAIR, THING(betas), .text = "[0.9, 0.999]", .low = 0, .high = 1,
     .low_open = true, .high_open = true},
    {"milestones", LKS_OPTION_INT_LIST, THING(milestones), .text = "[]"},
    {"mean", LKS_OPTION_FLOAT_LIST, THING(mean), .optional = true, .low = -1, .high = 1},
    {"stages", LKS_OPTION_SPEC_LIST, THING(stages), .optional = true, .section = "stage"},
    {"buckets", LKS_OPTION_BYTES, THING(buckets), .text = "1MiB", .low = 1024, .high = 0x1p40,
     .word = "auto"},
    {"padding", LKS_OPTION_INT_PAIR, THING(padding), .text = "0", .low = 0, .high = 99,
     .word = "same", .word_value = -1},
    {0},
};
static const lks_option_table thing_table = {"thing", "A thing.", sizeof(thing), thing_options};

static thing parsed(const char *text) {
    thing t;
    if (lks_options_parse(&thing_table, &t, text, "thing")) fail_msg("%s", lks_last_error());
    return t;
}

static void defaults(void **state) {
    (void)state;
    thing t = parsed("kernel_size=3");
    assert_int_equal(t.steps, 3);
    assert_int_equal(t.bytes, 25 << 20);
    assert_true(t.lr == 1e-3);
    assert_false(t.nesterov);
    assert_int_equal(t.reduction, 0);
    assert_string_equal(t.name, "a thing");
    assert_null(t.file);
    assert_int_equal(t.kernel[0], 3);
    assert_int_equal(t.kernel[1], 3);
    assert_true(t.betas[0] == 0.9 && t.betas[1] == 0.999);
    assert_int_equal(t.milestones.count, 0);
    assert_int_equal(t.mean.count, 0);
    lks_options_free(&thing_table, &t);
    assert_null(t.name);
}

/* Elements of a list of texts may be quoted, and hold what otherwise ends an element. */
static void a_list_of_texts_is_read_and_written(void **state) {
    (void)state;
    thing t = parsed("kernel_size=3 stages=[one, \"two a=[1,2] b=\\\"x y\\\"\" ,three]");
    assert_int_equal(t.stages.count, 3);
    assert_string_equal(t.stages.values[0], "one");
    assert_string_equal(t.stages.values[1], "two a=[1,2] b=\"x y\"");
    assert_string_equal(t.stages.values[2], "three");

    lks_strbuf text = {0}, shown = {0};
    lks_options_append_text(&text, "kernel_size", (const char *const[]){"3"}, 1, false);
    lks_options_append_text(&text, "stages", (const char *const *)t.stages.values, 3, true);
    thing again = parsed(text.text);
    assert_int_equal(again.stages.count, 3);
    assert_string_equal(again.stages.values[1], t.stages.values[1]);
    lks_option_print(lks_options_find(&thing_table, "stages"), &t, &shown);
    assert_string_equal(shown.text, "[\"one\", \"two a=[1,2] b=\\\"x y\\\"\", \"three\"]");
    lks_strbuf_free(&shown);
    lks_strbuf_free(&text);
    lks_options_free(&thing_table, &again);
    lks_options_free(&thing_table, &t);
    assert_null(t.stages.values);

    static const char *const bad[] = {"stages=[\"a\" b]", "stages=[\"a", "stages=[a,,b]",
                                      "stages=[\"a\"", "stages=one"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(lks_options_parse(&thing_table, &t, bad[i], "thing"), LKS_ECONFIG);
}

static void every_type_is_read(void **state) {
    (void)state;
    thing t = parsed(" steps=1_0  bytes=1.5GiB lr=5e-2 nesterov=Yes reduction=sum\n"
                     "name=\"say \\\"hi\\\" [1]\" file=a/b=c.h5 kernel_size=[3, 5] "
                     "betas=[0.5,.25] milestones=[10,20,-30] mean=[0.5] ");
    assert_int_equal(t.steps, 10);
    assert_int_equal(t.bytes, 3 * (INT64_C(1) << 29));
    assert_true(t.lr == 0.05);
    assert_true(t.nesterov);
    assert_int_equal(t.reduction, 1);
    assert_string_equal(t.name, "say \"hi\" [1]");
    assert_string_equal(t.file, "a/b=c.h5");
    assert_int_equal(t.kernel[0], 3);
    assert_int_equal(t.kernel[1], 5);
    assert_true(t.betas[0] == 0.5 && t.betas[1] == 0.25);
    assert_int_equal(t.milestones.count, 3);
    assert_int_equal(t.milestones.values[2], -30);
    assert_int_equal(t.mean.count, 1);
    assert_true(t.mean.values[0] == 0.5);
    lks_options_free(&thing_table, &t);
}

typedef struct refusal {
    const char *text, *message;
} refusal;

static const refusal refusals[] = {
    {"", "thing: missing required option: kernel_size"},
    {"kernel_size=3 steps=0",
     "thing: steps: 0 is out of range: expected an integer from 1 to 1000000"},
    {"kernel_size=3 lr=-1", "thing: lr: -1 is out of range: expected a number >= 0"},
    {"kernel_size=3 lr=1e-3x", "thing: lr: \"1e-3x\" is not valid: expected a number >= 0"},
    {"kernel_size=3 lr=nan", "thing: lr: \"nan\" is not valid: expected a number >= 0"},
    {"kernel_size=3 lr=0x10", "thing: lr: \"0x10\" is not valid: expected a number >= 0"},
    {"kernel_size=3 lr=1e999", "thing: lr: \"1e999\" is not valid: expected a number >= 0"},
    {"kernel_size=3 lr=", "thing: lr: \"\" is not valid: expected a number >= 0"},
    {"kernel_size=3 lr=[1]", "thing: lr: [1] does not fit: expected a number >= 0"},
    {"kernel_size=3 steps=1.5",
     "thing: steps: \"1.5\" is not valid: expected an integer from 1 to 1000000"},
    {"kernel_size=3 steps=_1",
     "thing: steps: \"_1\" is not valid: expected an integer from 1 to 1000000"},
    {"kernel_size=3 steps=1__0",
     "thing: steps: \"1__0\" is not valid: expected an integer from 1 to 1000000"},
    {"kernel_size=9223372036854775808", "thing: kernel_size: \"9223372036854775808\" is not valid: "
                                        "expected an integer or a list of two, each >= 1"},
    {"kernel_size=[3]",
     "thing: kernel_size: [3] does not fit: expected an integer or a list of two, each >= 1"},
    {"kernel_size=[3,0]",
     "thing: kernel_size: 0 is out of range: expected an integer or a list of two, each >= 1"},
    {"kernel_size=3 bytes=25XiB",
     "thing: bytes: \"25XiB\" is not valid: expected a size such as 25MiB >= 0"},
    {"kernel_size=3 bytes=MiB",
     "thing: bytes: \"MiB\" is not valid: expected a size such as 25MiB >= 0"},
    {"kernel_size=3 bytes=9e9TiB",
     "thing: bytes: \"9e9TiB\" is not valid: expected a size such as 25MiB >= 0"},
    {"kernel_size=3 buckets=0",
     "thing: buckets: 0 is out of range: expected a size such as 25MiB from 1KiB to 1TiB, or auto"},
    {"kernel_size=3 buckets=autos",
     "thing: buckets: \"autos\" is not valid: expected a size such as 25MiB from 1KiB to 1TiB, or "
     "auto"},
    {"kernel_size=3 padding=-1",
     "thing: padding: -1 is out of range: expected an integer or a list "
     "of two, each from 0 to 99, or same"},
    {"kernel_size=3 nesterov=2", "thing: nesterov: \"2\" is not valid: expected true or false"},
    {"kernel_size=3 reduction=meen",
     "thing: reduction: \"meen\" is not a choice: expected one of: mean, sum"},
    {"kernel_size=3 betas=[0.9,1]",
     "thing: betas: 1 is out of range: expected a list of two numbers, each > 0 and < 1"},
    {"kernel_size=3 betas=0.9",
     "thing: betas: 0.9 does not fit: expected a list of two numbers, each > 0 and < 1"},
    {"kernel_size=3 mean=[0,2]",
     "thing: mean: 2 is out of range: expected a list of numbers, each from -1 to 1"},
    {"kernel_size=3 milestones=[1,x]",
     "thing: milestones: \"x\" is not valid: expected a list of integers"},
    {"kernel_size=3 milestones=[1,,2]", "thing: milestones: an element of the list is empty"},
    {"kernel_size=3 milestones=[1",
     "thing: milestones: the closing bracket of the list is missing"},
    {"kernel_size=3 name=\"x", "thing: name: the closing quote is missing"},
    {"kernel_size=3 name=\"x\"y", "thing: name: \"y\" follows the value without a blank"},
    {"kernel_size=3 steps", "thing: \"steps\" is not of the form key=value"},
    {"kernel_size=3 =3", "thing: \"=3\" is not of the form key=value"},
    {"kernel_size=3 kernel_size=3", "thing: kernel_size is given twice"},
    {"kernal_size=3", "thing: unknown option \"kernal_size\": did you mean \"kernel_size\"?"},
    {"qqqqqqqq=1",
     "thing: unknown option \"qqqqqqqq\": expected one of steps, bytes, lr, nesterov, "
     "reduction, name, file, kernel_size, betas, milestones, mean, stages, buckets, padding"},
};

static void what_is_wrong_is_refused_with_a_message(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        thing t;
        assert_int_equal(lks_options_parse(&thing_table, &t, refusals[i].text, "thing"),
                         LKS_ECONFIG);
        assert_string_equal(lks_last_error(), refusals[i].message);
        assert_null(t.name); /* freed */
    }
}

static lks_status set(thing *t, const char *key, const char *const *values, int count) {
    return lks_option_assign(lks_options_find(&thing_table, key), t, values, count, false);
}

static void set_one_at_a_time(void **state) {
    (void)state;
    thing t;
    const char *three[] = {"1", "2", "3"}, *negative[] = {"-2"};
    assert_int_equal(lks_options_init(&thing_table, &t), LKS_OK);
    assert_int_equal(set(&t, "milestones", three, 3), LKS_OK);
    assert_int_equal(set(&t, "milestones", three, 2), LKS_OK);
    assert_int_equal(t.milestones.count, 2);
    assert_int_equal(set(&t, "kernel_size", three, 2), LKS_OK);
    assert_int_equal(set(&t, "kernel_size", three, 3), LKS_ECONFIG);
    assert_int_equal(set(&t, "kernel_size", negative, 1), LKS_ECONFIG);
    assert_int_equal(t.kernel[1], 2); /* a refused value changes nothing */
    assert_int_equal(set(&t, "name", three, 1), LKS_OK);
    assert_string_equal(t.name, "1");
    assert_int_equal(set(&t, "lr", three, 2), LKS_ECONFIG);
    assert_int_equal(set(&t, "lr", three, 0), LKS_ECONFIG);
    assert_int_equal(set(&t, "file", negative, 1), LKS_OK);
    lks_options_free(&thing_table, &t);
}

static void required_options(void **state) {
    (void)state;
    uint64_t kernel = UINT64_C(1) << 7;
    assert_int_equal(lks_options_check_required(&thing_table, kernel), LKS_OK);
    assert_int_equal(lks_options_check_required(&thing_table, ~kernel), LKS_ECONFIG);
    assert_string_equal(lks_last_error(), "missing required option: kernel_size");
}

static void a_table_without_options(void **state) {
    (void)state;
    static const lks_option none[] = {{0}};
    static const lks_option_table relu = {"relu", "", 0, none};
    char nothing;
    assert_int_equal(lks_options_parse(&relu, &nothing, NULL, "layer 1"), LKS_OK);
    assert_int_equal(lks_options_parse(&relu, &nothing, "x=1", "layer 1"), LKS_ECONFIG);
    assert_string_equal(lks_last_error(), "layer 1: unknown option \"x\": relu takes no options");
}

static void a_wrong_default_is_our_own_error(void **state) {
    (void)state;
    static const lks_option options[] = {
        {"name", LKS_OPTION_STRING, THING(name), .text = "x"},
        {"lr", LKS_OPTION_FLOAT, THING(lr), .text = "-1", .low = 0, .high = 1},
        {0},
    };
    static const lks_option_table table = {"broken", "", sizeof(thing), options};
    thing t;
    assert_int_equal(lks_options_init(&table, &t), LKS_EINTERNAL);
    assert_null(t.name);
}

static void printed(const thing *t, const char *key, const char *expected) {
    lks_strbuf s = {0};
    lks_option_print(lks_options_find(&thing_table, key), t, &s);
    assert_string_equal(s.text, expected);
    lks_strbuf_free(&s);
}

static void values_print_as_a_user_writes_them(void **state) {
    (void)state;
    thing t = parsed("kernel_size=[3,5] lr=0.1 betas=[0.1,0.30000000000000004] name=\"a b\" "
                     "bytes=1536 mean=[-1,0.5]");
    printed(&t, "kernel_size", "[3, 5]");
    printed(&t, "lr", "0.1");
    printed(&t, "betas", "[0.1, 0.30000000000000004]");
    printed(&t, "name", "\"a b\"");
    printed(&t, "file", "null");
    printed(&t, "bytes", "1536");
    printed(&t, "nesterov", "false");
    printed(&t, "reduction", "mean");
    printed(&t, "mean", "[-1, 0.5]");
    printed(&t, "milestones", "[]");
    printed(&t, "steps", "3");
    lks_options_free(&thing_table, &t);
    t = parsed("kernel_size=1 buckets=auto bytes=2KiB name=\"true\" file=/a/b-1.h5 lr=inf");
    printed(&t, "buckets", "auto");
    assert_int_equal(t.buckets, 0);
    printed(&t, "bytes", "2KiB");
    printed(&t, "name", "\"true\"");
    printed(&t, "file", "/a/b-1.h5");
    printed(&t, "lr", ".inf");
    lks_options_free(&thing_table, &t);
    t = parsed("kernel_size=1 padding=same");
    assert_true(t.padding[0] == -1 && t.padding[1] == -1);
    printed(&t, "padding", "[same, same]");
    lks_options_free(&thing_table, &t);
    t = parsed("kernel_size=1 padding=[2,same]");
    printed(&t, "padding", "[2, same]");
    lks_options_free(&thing_table, &t);
}

static void text_form_goes_round(void **state) {
    (void)state;
    const char *name = "say \"hi\"  [1] \\ x", *empty = "", *bracket = "[odd.h5";
    const char *kernel[] = {"3", "5"}, *mean = "0.5";
    lks_strbuf s = {0};
    lks_options_append_text(&s, "name", &name, 1, false);
    lks_options_append_text(&s, "kernel_size", kernel, 2, false);
    lks_options_append_text(&s, "mean", &mean, 1, true);
    lks_options_append_text(&s, "milestones", NULL, 0, true);
    lks_options_append_text(&s, "file", &bracket, 1, false);
    thing t = parsed(s.text);
    assert_string_equal(t.name, name);
    assert_string_equal(t.file, bracket);
    assert_int_equal(t.kernel[1], 5);
    assert_int_equal(t.mean.count, 1);
    lks_options_free(&thing_table, &t);
    lks_strbuf_free(&s);
    lks_options_append_text(&s, "kernel_size", kernel, 1, false);
    lks_options_append_text(&s, "name", &empty, 1, false);
    t = parsed(s.text);
    assert_string_equal(t.name, "");
    lks_options_free(&thing_table, &t);
    lks_strbuf_free(&s);
}

/* A program that embeds the library may have set a locale that writes 0,5. Skipped where the system
 * has none. */
static void numbers_ignore_the_locale(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    char *found = NULL;
    for (size_t i = 0; i < 4 && !found; i++)
        found = setlocale(LC_NUMERIC, names[i]);
    thing t = parsed("kernel_size=1 lr=0.25");
    printed(&t, "lr", "0.25");
    assert_true(t.lr == 0.25);
    lks_options_free(&thing_table, &t);
    lks_strbuf s = {0};
    lks_strbuf_add_json_number(&s, 0.5);
    assert_string_equal(s.text, "0.5");
    lks_strbuf_free(&s);
    setlocale(LC_NUMERIC, "C");
    if (!found) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(a_list_of_texts_is_read_and_written),
        cmocka_unit_test(what_is_wrong_is_refused_with_a_message),
        cmocka_unit_test(set_one_at_a_time),
        cmocka_unit_test(required_options),
        cmocka_unit_test(a_table_without_options),
        cmocka_unit_test(a_wrong_default_is_our_own_error),
        cmocka_unit_test(values_print_as_a_user_writes_them),
        cmocka_unit_test(text_form_goes_round),
        cmocka_unit_test(numbers_ignore_the_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
