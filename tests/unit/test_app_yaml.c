/* YAML texts as trees: what is read, where it stands, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "app/yaml.h"

static int arena_begin(void **state) {
    *state = calloc(1, sizeof(lks_arena));
    return *state ? 0 : -1;
}

static int arena_end(void **state) {
    lks_arena_free(*state);
    free(*state);
    return 0;
}

static lks_node *parsed(lks_arena *arena, const char *text) {
    lks_node *root = NULL;
    if (lks_yaml_parse(arena, "run.yaml", text, &root)) fail_msg("%s", lks_last_error());
    return root;
}

static void refused(lks_arena *arena, const char *text, const char *message) {
    lks_node *root = NULL;
    assert_int_equal(lks_yaml_parse(arena, "run.yaml", text, &root), LKS_ECONFIG);
    if (!strstr(lks_last_error(), message))
        fail_msg("\"%s\" is not in \"%s\"", message, lks_last_error());
}

static void maps_lists_and_scalars(void **state) {
    lks_node *root = parsed(*state, "# a comment\n"
                                    "a: 1\n"
                                    "b: [x, \"y z\", {c: d}]\n"
                                    "e:\n"
                                    "  - f\n"
                                    "  - g: h\n"
                                    "    i: 'null'\n"
                                    "j: |\n"
                                    "  two\n"
                                    "  lines\n");
    assert_int_equal(root->kind, LKS_NODE_MAP);
    assert_int_equal(lks_node_count(root), 4);
    const lks_node *a = lks_node_find(root, "a"), *b = lks_node_find(root, "b");
    assert_string_equal(a->text, "1");
    assert_false(a->quoted);
    assert_int_equal(a->line, 2);
    assert_int_equal(b->kind, LKS_NODE_LIST);
    assert_int_equal(lks_node_count(b), 3);
    assert_true(b->first->next->quoted);
    assert_string_equal(b->first->next->text, "y z");
    const lks_node *second = lks_node_find(root, "e")->first->next;
    assert_int_equal(second->kind, LKS_NODE_MAP);
    assert_int_equal(second->line, 6);
    assert_int_equal(lks_node_find(second, "i")->line, 7);
    assert_false(lks_node_is_null(lks_node_find(second, "i")));
    assert_string_equal(lks_node_find(root, "j")->text, "two\nlines\n");
    assert_null(lks_node_find(root, "k"));
    assert_string_equal(lks_node_where(*state, second), "run.yaml:6");
}

static void nothing_is_null(void **state) {
    lks_node *root = parsed(*state, "a:\nb: ~\nc: null\nd: ''\ne: NULL\nf: nil\n");
    assert_true(lks_node_is_null(lks_node_find(root, "a")));
    assert_true(lks_node_is_null(lks_node_find(root, "b")));
    assert_true(lks_node_is_null(lks_node_find(root, "c")));
    assert_false(lks_node_is_null(lks_node_find(root, "d")));
    assert_true(lks_node_is_null(lks_node_find(root, "e")));
    assert_false(lks_node_is_null(lks_node_find(root, "f")));
    assert_true(lks_node_is_null(parsed(*state, "")));
    assert_true(lks_node_is_null(parsed(*state, "# only a comment\n")));
    assert_true(lks_node_is_null(parsed(*state, "---\n...\n")));
}

static void aliases_are_copies(void **state) {
    lks_node *root = parsed(*state, "a: &block [1, {x: 2}]\nb: *block\nc: *block\n");
    const lks_node *a = lks_node_find(root, "a"), *b = lks_node_find(root, "b");
    assert_ptr_not_equal(a->first, b->first);
    assert_int_equal(lks_node_count(b), 2);
    assert_string_equal(lks_node_find(b->first->next, "x")->text, "2");
    assert_int_equal(b->line, 2);
    assert_int_equal(lks_node_count(root), 3);
    assert_string_equal(lks_node_find(root, "c")->first->text, "1");
}

static void what_is_refused(void **state) {
    refused(*state, "a: 1\nb: 2\na: 3\n", "run.yaml:3: \"a\" is given twice, first on line 1");
    refused(*state, "a: 1\nx: {b: 1, b: 2}\n", "run.yaml:2: \"b\" is given twice");
    refused(*state, "a: [1, 2\nb: 3\n", "run.yaml:2: not valid YAML");
    refused(*state, "a: \"x\n", "not valid YAML");
    refused(*state, "a: b: c\n", "run.yaml:1: not valid YAML");
    refused(*state, "a: 1\n\tb: 2\n", "run.yaml:2: not valid YAML: a tab before");
    refused(*state, "a: *b\n", "run.yaml:1: the alias *b has no anchor &b before it");
    refused(*state, "a: &a [*a]\n", "run.yaml:1: the alias *a has no anchor");
    refused(*state, "a: !!int 3\n", "run.yaml:1: the tag tag:yaml.org,2002:int has no meaning");
    refused(*state, "a: 1\n---\nb: 2\n", "run.yaml:2: a second document begins here");
    refused(*state, "? [a, b]\n: 1\n", "run.yaml:1: a key must be a plain text");
    refused(*state, "a: \"x\\0y\"\n", "run.yaml:1: a text with a zero byte in it");
    refused(*state, "a: \xff\xfe\n", "run.yaml: not a YAML text");
}

/* Each line is twice the one before it: 2^30 values from 31 lines. */
static void aliases_of_aliases_do_not_fill_the_memory(void **state) {
    lks_strbuf text = {0};
    lks_strbuf_add(&text, "a0: &a0 [x]\n");
    for (int i = 1; i <= 30; i++)
        lks_strbuf_add(&text, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    refused(*state, text.text, "this is no run file");
    lks_strbuf_free(&text);
}

static void endless_nesting_does_not_fill_the_stack(void **state) {
    lks_strbuf text = {0};
    for (int i = 0; i < 5000; i++)
        lks_strbuf_add(&text, "[");
    refused(*state, text.text, "levels deep");
    lks_strbuf_free(&text);
}

int main(void) {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, arena_begin, arena_end)
    const struct CMUnitTest tests[] = {
        TEST(maps_lists_and_scalars),
        TEST(nothing_is_null),
        TEST(aliases_are_copies),
        TEST(what_is_refused),
        TEST(aliases_of_aliases_do_not_fill_the_memory),
        TEST(endless_nesting_does_not_fill_the_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
