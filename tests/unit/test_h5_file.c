/* Opening and creating HDF5 files, groups, attributes and walking: what works, and what every kind
 * of broken input says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "h5/h5.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

/* A file with the array `train/x` of 10 x 3 float32. */
static void make_file(const char *path) {
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    float values[30] = {0};
    assert_ok(lks_h5_create(path, &file));
    assert_ok(lks_h5_create_array(file, "train/x", LKS_F32, &(lks_shape){2, {10, 3}}, &array));
    assert_ok(lks_h5_write(array, 0, 30, LKS_F32, values));
    lks_h5_close_array(array);
    assert_ok(lks_h5_close(file));
}

static void opening_says_what_is_wrong(void **state) {
    (void)state;
    lks_h5_file *file = NULL;

    assert_int_equal(lks_h5_open(temp_path("absent.h5"), &file), LKS_EIO);
    assert_error_has("absent.h5");
    assert_error_has("No such file");

    assert_int_equal(lks_h5_open(temp_folder, &file), LKS_EIO);
    assert_error_has("directory");

    temp_write(temp_path("empty.h5"), "", 0);
    assert_int_equal(lks_h5_open(temp_path("empty.h5"), &file), LKS_EDATA);
    assert_error_has("empty");

    temp_write(temp_path("text.h5"), "label,pixel\n1,2\n", 16);
    assert_int_equal(lks_h5_open(temp_path("text.h5"), &file), LKS_EDATA);
    assert_error_has("not an HDF5 file");
    assert_error_has("16 bytes");
    assert_null(file);
}

/* Root may read everything, so it steps down for the moment. */
static void a_file_without_permission_is_refused(void **state) {
    (void)state;
    const uid_t user = geteuid(), nobody = 65534;
    lks_h5_file *file = NULL;
    make_file(temp_path("secret.h5"));
    assert_int_equal(chmod(temp_path("secret.h5"), 0), 0);
    if (user == 0) assert_int_equal(seteuid(nobody), 0);
    lks_status status = lks_h5_open(temp_path("secret.h5"), &file);
    if (user == 0) assert_int_equal(seteuid(user), 0);
    assert_int_equal(status, LKS_EIO);
    assert_error_has("secret.h5: Permission denied");
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    const char *path = temp_path("whole.h5");
    make_file(path);
    static char bytes[1 << 16];
    FILE *whole = fopen(path, "rb");
    assert_non_null(whole);
    size_t count = fread(bytes, 1, sizeof bytes, whole);
    fclose(whole);
    assert_in_range(count, 200, sizeof bytes - 1);
    for (size_t length = 0; length < count; length += 7) {
        lks_h5_file *file = NULL;
        temp_write(temp_path("cut.h5"), bytes, length);
        assert_int_equal(lks_h5_open(temp_path("cut.h5"), &file), LKS_EDATA);
        assert_null(file);
    }
    assert_error_has("truncated");
}

static void creating_says_what_is_wrong(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    assert_int_equal(lks_h5_create(temp_path("no/such/folder.h5"), &file), LKS_EIO);
    assert_error_has("No such file or directory");
    assert_int_equal(lks_h5_create(temp_folder, &file), LKS_EIO);
    assert_error_has("directory");
    assert_null(file);
}

static void groups_are_made_with_their_parents(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("groups.h5"), &file));
    assert_ok(lks_h5_create_group(file, "/a/b/c"));
    assert_ok(lks_h5_create_group(file, "a/b")); /* again, without complaint */
    assert_true(lks_h5_exists(file, "/a"));
    assert_true(lks_h5_exists(file, "a/b/c"));
    assert_true(lks_h5_exists(file, "/"));
    assert_false(lks_h5_exists(file, "a/x"));
    assert_false(lks_h5_exists(file, "x/b/c"));

    lks_h5_array *array = NULL;
    assert_ok(lks_h5_create_array(file, "a/data", LKS_I32, &(lks_shape){1, {1}}, &array));
    assert_int_not_equal(lks_h5_create_group(file, "a/data/below"), LKS_OK);
    assert_error_has("a/data");
    lks_h5_close_array(array);
    assert_ok(lks_h5_close(file));
}

static void closing_with_an_open_array_is_an_error(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    assert_ok(lks_h5_create(temp_path("open.h5"), &file));
    assert_ok(lks_h5_create_array(file, "x", LKS_I32, &(lks_shape){1, {1}}, &array));
    assert_int_equal(lks_h5_close(file), LKS_EIO);
    lks_h5_close_array(array);
    assert_ok(lks_h5_close(NULL));
}

static void attributes_come_back(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    const char *path = temp_path("attributes.h5");
    const double pair[2] = {0.9, 0.999};
    assert_ok(lks_h5_create(path, &file));
    assert_ok(lks_h5_create_group(file, "g"));
    assert_ok(lks_h5_write_attr_i64(file, "/", "version", INT64_MIN));
    assert_ok(lks_h5_write_attr_i64(file, "/", "version", 7)); /* replaces */
    assert_ok(lks_h5_write_attr_f64(file, "g", "betas", pair, 2));
    assert_ok(lks_h5_write_attr_f64(file, "/g", "lr", pair, 1));
    assert_ok(lks_h5_write_attr_f64(file, "/g", "none", pair, 0));
    assert_ok(lks_h5_write_attr_text(file, "/", "text", "naïve → ü"));
    assert_ok(lks_h5_write_attr_text(file, "/", "nothing", ""));
    assert_ok(lks_h5_flush(file));
    assert_ok(lks_h5_close(file));

    assert_ok(lks_h5_open(path, &file));
    int64_t integer = 0;
    double numbers[2] = {0};
    int count = -1;
    char *text = NULL;
    assert_ok(lks_h5_read_attr_i64(file, "/", "version", &integer));
    assert_int_equal(integer, 7);
    assert_ok(lks_h5_read_attr_f64(file, "g", "betas", numbers, 2, &count));
    assert_int_equal(count, 2);
    assert_memory_equal(numbers, pair, sizeof pair);
    assert_ok(lks_h5_read_attr_f64(file, "g", "lr", numbers, 1, &count));
    assert_int_equal(count, 1);
    assert_ok(lks_h5_read_attr_f64(file, "g", "none", numbers, 1, &count));
    assert_int_equal(count, 0);
    assert_ok(lks_h5_read_attr_text(file, "/", "text", &text));
    assert_string_equal(text, "naïve → ü");
    free(text);
    assert_ok(lks_h5_read_attr_text(file, "/", "nothing", &text));
    assert_string_equal(text, "");
    free(text);
    assert_ok(lks_h5_close(file));
}

static void wrong_attributes_are_errors(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    const double pair[2] = {1, 2};
    int64_t integer = 0;
    double number = 0;
    int count = 0;
    char *text = NULL;
    assert_ok(lks_h5_create(temp_path("wrong.h5"), &file));
    assert_ok(lks_h5_write_attr_f64(file, "/", "pair", pair, 2));
    assert_ok(lks_h5_write_attr_text(file, "/", "text", "t"));

    assert_int_equal(lks_h5_read_attr_i64(file, "/", "absent", &integer), LKS_EDATA);
    assert_error_has("absent");
    assert_int_equal(lks_h5_read_attr_i64(file, "/group", "absent", &integer), LKS_EDATA);
    assert_error_has("/group");
    assert_int_equal(lks_h5_read_attr_i64(file, "/", "text", &integer), LKS_EDATA);
    assert_error_has("not a number");
    assert_int_equal(lks_h5_read_attr_i64(file, "/", "pair", &integer), LKS_EDATA);
    assert_error_has("2 values");
    assert_int_equal(lks_h5_read_attr_f64(file, "/", "pair", &number, 1, &count), LKS_EDATA);
    assert_int_equal(lks_h5_read_attr_text(file, "/", "pair", &text), LKS_EDATA);
    assert_error_has("not a text");
    assert_null(text);

    char *long_text = malloc(70000);
    memset(long_text, 'x', 69999);
    long_text[69999] = '\0';
    assert_int_equal(lks_h5_write_attr_text(file, "/", "long", long_text), LKS_EINVAL);
    assert_error_has("69999");
    free(long_text);
    assert_int_equal(lks_h5_write_attr_i64(file, "nowhere", "a", 1), LKS_EDATA);
    assert_ok(lks_h5_close(file));
}

typedef struct seen {
    lks_h5_file *file;
    char text[512];
} seen;

/* Calls back into the room, which must not be locked now. */
static lks_status note(void *data, const char *path, bool is_group, const lks_h5_info *info) {
    seen *all = data;
    char shape[LKS_SHAPE_TEXT_BYTES];
    size_t length = strlen(all->text);
    assert_true(lks_h5_exists(all->file, path));
    snprintf(all->text + length, sizeof all->text - length, "%s%s%s ", path, is_group ? "/" : ":",
             is_group ? "" : lks_shape_text(&info->shape, shape));
    return LKS_OK;
}

static lks_status refuse(void *data, const char *path, bool is_group, const lks_h5_info *info) {
    (void)is_group;
    (void)info;
    ++*(int *)data;
    return lks_fail(LKS_ECHECKPOINT, "no %s", path);
}

static void walking_follows_the_order_of_creation(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    const char *names[] = {"z/w2", "z/w1", "a", "z/b/c"};
    assert_ok(lks_h5_create(temp_path("walk.h5"), &file));
    for (int i = 0; i < 4; i++) {
        assert_ok(lks_h5_create_array(file, names[i], LKS_F64, &(lks_shape){2, {2, i}}, &array));
        lks_h5_close_array(array);
    }
    seen all = {.file = file};
    assert_ok(lks_h5_visit(file, "/", note, &all));
    assert_string_equal(all.text, "z/ z/w2:[2, 0] z/w1:[2, 1] z/b/ z/b/c:[2, 3] a:[2, 2] ");
    all.text[0] = '\0';
    assert_ok(lks_h5_visit(file, "/z/b", note, &all));
    assert_string_equal(all.text, "z/b/c:[2, 3] ");

    int calls = 0;
    assert_int_equal(lks_h5_visit(file, "/", refuse, &calls), LKS_ECHECKPOINT);
    assert_int_equal(calls, 1);
    assert_int_equal(lks_h5_visit(file, "/absent", refuse, &calls), LKS_EDATA);
    assert_int_equal(lks_h5_visit(file, "/a", refuse, &calls), LKS_EDATA);

    assert_int_equal(lks_h5_open_array(file, "absent", &array), LKS_EDATA);
    assert_error_has("has no absent; it holds the arrays: z/w2, z/w1, z/b/c, a");
    assert_ok(lks_h5_close(file));
}

static void name_of_member(int index, char out[32]) {
    snprintf(out, 32, "g/%d", (index * 7919) % 300);
}

/* Checks that the arrays come in the order of their creation; data: how many have come. */
static lks_status expect_next(void *data, const char *path, bool is_group,
                              const lks_h5_info *info) {
    int *count = data;
    char name[32];
    (void)info;
    if (is_group) return LKS_OK;
    name_of_member((*count)++, name);
    assert_string_equal(path, name);
    return LKS_OK;
}

static void more_members_than_a_compact_group_holds(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    const char *path = temp_path("many.h5");
    char name[32];
    int count = 0;
    assert_ok(lks_h5_create(path, &file));
    for (int i = 0; i < 300; i++) {
        name_of_member(i, name);
        assert_ok(lks_h5_create_array(file, name, LKS_U8, &(lks_shape){0}, &array));
        lks_h5_close_array(array);
    }
    assert_ok(lks_h5_close(file));
    assert_ok(lks_h5_open(path, &file));
    assert_ok(lks_h5_visit(file, "/", expect_next, &count));
    assert_int_equal(count, 300);
    /* too many for a message */
    assert_int_equal(lks_h5_open_array(file, "absent", &array), LKS_EDATA);
    assert_error_has("it holds the arrays: g/0, g/119, g/238, ");
    assert_string_equal(lks_last_error() + strlen(lks_last_error()) - 3, "...");
    assert_ok(lks_h5_close(file));
}

static void the_version_is_a_number(void **state) {
    (void)state;
    int major = 0, minor = 0;
    assert_int_equal(sscanf(lks_h5_version(), "%d.%d", &major, &minor), 2);
    assert_in_range(major, 1, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(a_file_without_permission_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(creating_says_what_is_wrong),
        cmocka_unit_test(groups_are_made_with_their_parents),
        cmocka_unit_test(closing_with_an_open_array_is_an_error),
        cmocka_unit_test(attributes_come_back),
        cmocka_unit_test(wrong_attributes_are_errors),
        cmocka_unit_test(walking_follows_the_order_of_creation),
        cmocka_unit_test(more_members_than_a_compact_group_holds),
        cmocka_unit_test(the_version_is_a_number),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
