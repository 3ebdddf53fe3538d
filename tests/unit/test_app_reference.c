/* The reference of the run file: docs/config.md is what the tables say; every table is sound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/reference.h"
#include "app/run_file.h"
#include "app/sections.h"

static void docs_config_is_up_to_date(void **state) {
    (void)state;
    char *file;
    lks_strbuf made = {0};
    assert_int_equal(lks_run_read_text(LKS_SOURCE_DIR "/docs/config.md", &file), LKS_OK);
    lks_reference_print_markdown(&made);
    assert_false(made.failed);
    if (strcmp(file, made.text) != 0)
        fail_msg("docs/config.md is stale: run `lockstep help --markdown > docs/config.md`");
    lks_strbuf_free(&made);
    free(file);
}

/* Defaults that their own option refuses, texts that are missing, keys that clash. */
static void check_table(const lks_option_table *table) {
    assert_non_null(table->name);
    if (!table->help || !*table->help) fail_msg("%s has no help", table->name);
    void *config = calloc(1, table->struct_bytes + 1);
    assert_non_null(config);
    if (lks_options_init(table, config)) fail_msg("%s: %s", table->name, lks_last_error());
    for (const lks_option *option = table->options; option->key; option++) {
        if (!option->help || !*option->help)
            fail_msg("%s: %s has no help", table->name, option->key);
        if (lks_options_find(table, option->key) != option)
            fail_msg("%s: %s stands there twice", table->name, option->key);
        if (option->offset >= table->struct_bytes)
            fail_msg("%s: %s lies outside the struct", table->name, option->key);
        if (!option->text) continue;
        /* what is printed of a default reads back as the same */
        lks_strbuf first = {0};
        lks_option_print(option, config, &first);
        assert_false(first.failed);
        assert_true(*first.text);
        lks_strbuf_free(&first);
    }
    lks_options_free(table, config);
    free(config);
}

static void every_table_is_sound(void **state) {
    (void)state;
    const lks_section *section;
    int types = 0;
    for (int i = 0; (section = lks_section_at(i)); i++) {
        assert_ptr_equal(lks_section_find(section->name), section);
        if (section->table) check_table(section->table);
        for (int j = 0; section->type && section->type(j); j++, types++) {
            const lks_option_table *table = section->options(section->type(j));
            assert_non_null(table);
            assert_string_equal(table->name, section->type(j));
            check_table(table);
        }
    }
    assert_true(types > 20);
}

static void check_topic(const char *topic, const char *type, const char *expected) {
    lks_strbuf out = {0};
    if (lks_reference_print_topic(topic, type, &out)) fail_msg("%s", lks_last_error());
    if (!strstr(out.text, expected)) fail_msg("\"%s\" is not in \"%s\"", expected, out.text);
    lks_strbuf_free(&out);
}

static void topics(void **state) {
    (void)state;
    check_topic("layer", NULL, "Types (`lockstep help layer TYPE`");
    check_topic("layer", "conv2d", "kernel_size: an integer or a list of two");
    check_topic("conv2d", NULL, "layer conv2d: ");
    check_topic("run", NULL, "  epochs: an integer");
    check_topic("relu", NULL, "no options");
    lks_strbuf out = {0};
    assert_int_equal(lks_reference_print_topic("leyer", NULL, &out), LKS_EUSAGE);
    assert_non_null(strstr(lks_last_error(), "did you mean \"layer\"?"));
    assert_int_equal(lks_reference_print_topic("qqqqqq", NULL, &out), LKS_EUSAGE);
    assert_int_equal(lks_reference_print_topic("layer", "conv", &out), LKS_EUSAGE);
    assert_non_null(strstr(lks_last_error(), "did you mean \"conv2d\"?"));
    assert_int_equal(lks_reference_print_topic("run", "x", &out), LKS_EUSAGE);
    lks_strbuf_free(&out);
}

static void unknown_types_name_the_known_ones(void **state) {
    (void)state;
    const lks_option_table *table;
    assert_int_equal(lks_section_type(lks_section_find("optimizer"), "qqqqqq", &table),
                     LKS_ECONFIG);
    assert_non_null(
        strstr(lks_last_error(), "unknown optimizer type \"qqqqqq\": expected one of sgd"));
}

/* The examples of the page are valid run files, put together section by section. */
static void examples_of_the_page_are_valid(void **state) {
    (void)state;
    const lks_section *section;
    for (int i = 0; (section = lks_section_at(i)); i++) {
        lks_run run;
        char *text = lks_strdup_printf(
            "%s%s", section->example,
            strcmp(section->name, "layer") == 0 ? "" : "model: {layers: [relu]}\n");
        assert_non_null(text);
        if (lks_run_parse(section->name, text, NULL, 0, &run)) fail_msg("%s", lks_last_error());
        lks_run_free(&run);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(docs_config_is_up_to_date),
        cmocka_unit_test(every_table_is_sound),
        cmocka_unit_test(topics),
        cmocka_unit_test(unknown_types_name_the_known_ones),
        cmocka_unit_test(examples_of_the_page_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
