/* HDF5 files that others wrote: types, groups, links and attributes that Lockstep itself never
 * makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <hdf5.h>

#include "h5/h5.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

/* An array [rows] of `type`, filled from `memory_type` unless values is NULL. */
static void add_array(hid_t file, const char *name, hid_t type, hid_t space, hid_t memory_type,
                      const void *values) {
    hid_t array = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(array >= 0);
    if (values != NULL)
        assert_true(H5Dwrite(array, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    assert_true(H5Dclose(array) >= 0);
}

/* numpy's bool as h5py stores it. */
static hid_t bool_type(void) {
    hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
    assert_true(H5Tenum_insert(type, "FALSE", &(int8_t){0}) >= 0);
    assert_true(H5Tenum_insert(type, "TRUE", &(int8_t){1}) >= 0);
    return type;
}

static void add_fixed_text(hid_t file, const char *name, const char *text) {
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text)); /* no room for a NUL */
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attribute, type, text) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static int setup(void **state) {
    if (temp_folder_setup(state) != 0) return -1;
    hsize_t three = 3, many[7] = {1, 1, 1, 1, 1, 1, 1};
    hid_t file = H5Fcreate(temp_path("foreign.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t row = H5Screate_simple(1, &three, NULL), deep = H5Screate_simple(7, many, NULL);
    hid_t none = H5Screate(H5S_NULL), boolean = bool_type();
    hid_t text = H5Tcopy(H5T_C_S1), group = H5Gcreate2(file, "g", 0, 0, 0);
    const int8_t flags[3] = {1, 0, 1};
    const int16_t numbers[3] = {-2, 0, 300};
    add_array(file, "g/second", boolean, row, boolean, flags);
    add_array(file, "g/first", H5T_STD_I32BE, row, H5T_NATIVE_INT16, numbers);
    add_array(file, "a-text", text, row, H5T_C_S1, NULL);
    add_array(file, "nothing", H5T_IEEE_F32LE, none, 0, NULL);
    H5Lcreate_soft("/g/first", file, "link", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/gone", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
    add_fixed_text(file, "fixed", "abc");
    H5Gclose(group);
    H5Fclose(file);

    file = H5Fcreate(temp_path("strange.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    add_array(file, "deep", H5T_IEEE_F32LE, deep, 0, NULL);
    H5Gclose(H5Gcreate2(file, "loop", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_hard(file, "loop", file, "loop/loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(text);
    H5Tclose(boolean);
    H5Sclose(none);
    H5Sclose(deep);
    H5Sclose(row);
    return H5Fclose(file) >= 0 ? 0 : -1;
}

static void types_are_converted(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    float got[3];
    assert_ok(lks_h5_open(temp_path("foreign.h5"), &file));
    assert_ok(lks_h5_open_array(file, "g/second", &array));
    assert_int_equal(lks_h5_array_info(array)->number_class, LKS_H5_INTEGER);
    assert_ok(lks_h5_read(array, 0, 3, LKS_F32, got));
    assert_true(got[0] == 1 && got[1] == 0 && got[2] == 1);
    lks_h5_close_array(array);
    assert_ok(lks_h5_open_array(file, "link", &array));
    assert_string_equal(lks_h5_array_info(array)->type_name, "int32");
    assert_ok(lks_h5_read(array, 0, 3, LKS_F32, got));
    assert_true(got[0] == -2 && got[1] == 0 && got[2] == 300);
    lks_h5_close_array(array);
    assert_ok(lks_h5_close(file));
}

static void what_holds_no_numbers_is_not_read(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    float got[3];
    assert_ok(lks_h5_open(temp_path("foreign.h5"), &file));
    assert_ok(lks_h5_open_array(file, "a-text", &array));
    assert_int_equal(lks_h5_read(array, 0, 3, LKS_F32, got), LKS_EDATA);
    assert_error_has("a-text holds strings, expected numbers");
    lks_h5_close_array(array);
    assert_ok(lks_h5_open_array(file, "nothing", &array));
    assert_int_equal(lks_h5_read(array, 0, 1, LKS_F32, got), LKS_EDATA);
    lks_h5_close_array(array);
    assert_int_equal(lks_h5_open_array(file, "dangling", &array), LKS_EDATA);
    assert_error_has("has no dangling");
    assert_ok(lks_h5_close(file));
}

/* Without an order of creation: by name. Links are not followed, or objects would come twice. */
static void groups_without_an_order(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    char *text = NULL;
    assert_ok(lks_h5_open(temp_path("foreign.h5"), &file));
    assert_int_equal(lks_h5_open_array(file, "absent", &array), LKS_EDATA);
    assert_error_has("it holds the arrays: a-text, g/first, g/second, nothing");
    assert_ok(lks_h5_read_attr_text(file, "/", "fixed", &text));
    assert_string_equal(text, "abc");
    free(text);
    assert_ok(lks_h5_close(file));
}

static lks_status ignore(void *data, const char *path, bool is_group, const lks_h5_info *info) {
    (void)data, (void)path, (void)is_group, (void)info;
    return LKS_OK;
}

static void too_deep_is_an_error(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    assert_ok(lks_h5_open(temp_path("strange.h5"), &file));
    assert_int_equal(lks_h5_open_array(file, "deep", &array), LKS_EDATA);
    assert_error_has("deep has 7 dimensions, expected at most 6");
    assert_int_equal(lks_h5_visit(file, "/loop", ignore, NULL), LKS_EDATA);
    assert_error_has("nested deeper");
    assert_null(array);
    assert_ok(lks_h5_close(file));
}

/* The program that embeds Lockstep keeps HDF5's printing as it set it. */
static void printing_of_errors_stays_the_callers(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    H5E_auto2_t print = NULL;
    void *data = NULL;
    FILE *stream = tmpfile();
    assert_non_null(stream);
    assert_true(H5Eset_auto2(H5E_DEFAULT, (H5E_auto2_t)H5Eprint2, stream) >= 0);
    assert_ok(lks_h5_open(temp_path("foreign.h5"), &file));
    assert_int_equal(lks_h5_open_array(file, "g", &array), LKS_EDATA);
    assert_ok(lks_h5_close(file));
    assert_int_equal(ftell(stream), 0);
    assert_true(H5Eget_auto2(H5E_DEFAULT, &print, &data) >= 0);
    assert_ptr_equal(data, stream);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    fclose(stream);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_converted),
        cmocka_unit_test(what_holds_no_numbers_is_not_read),
        cmocka_unit_test(groups_without_an_order),
        cmocka_unit_test(too_deep_is_an_error),
        cmocka_unit_test(printing_of_errors_stays_the_callers),
    };
    return cmocka_run_group_tests(tests, setup, temp_folder_teardown);
}
