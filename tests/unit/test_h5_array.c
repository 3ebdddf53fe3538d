/* Moving elements of HDF5 arrays: every range of every shape, conversions, and refusals. */
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

static lks_h5_file *created(const char *name) {
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path(name), &file));
    return file;
}

static lks_h5_array *created_array(lks_h5_file *file, const char *path, lks_dtype dtype,
                                   lks_shape shape) {
    lks_h5_array *array = NULL;
    assert_ok(lks_h5_create_array(file, path, dtype, &shape, &array));
    return array;
}

/* Each flat range [first, last) of a small array of every rank is written alone and read back
 * through another range, which covers every way of cutting a range into boxes. */
static void every_range_of_every_rank(void **state) {
    (void)state;
    const lks_shape shapes[] = {{1, {7}},          {2, {3, 4}},          {3, {2, 3, 2}},
                                {4, {2, 1, 3, 2}}, {5, {1, 2, 2, 1, 3}}, {6, {2, 1, 2, 1, 2, 2}}};
    lks_h5_file *file = created("ranges.h5");
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        char name[8];
        snprintf(name, sizeof name, "r%zu", s);
        lks_h5_array *array = created_array(file, name, LKS_I32, shapes[s]);
        int64_t count = 0;
        assert_ok(lks_shape_count(&shapes[s], &count));
        int32_t expected[32] = {0}, got[32], serial = 0;
        assert_ok(lks_h5_write(array, 0, count, LKS_I32, expected));
        for (int64_t first = 0; first <= count; first++) {
            for (int64_t last = first; last <= count; last++) {
                for (int64_t i = first; i < last; i++)
                    expected[i] = ++serial;
                assert_ok(lks_h5_write(array, first, last - first, LKS_I32, expected + first));
                assert_ok(lks_h5_read(array, 0, count, LKS_I32, got));
                assert_memory_equal(got, expected, (size_t)count * sizeof got[0]);
                memset(got, 0xEE, sizeof got);
                assert_ok(lks_h5_read(array, first, last - first, LKS_I32, got));
                assert_memory_equal(got, expected + first, (size_t)(last - first) * sizeof got[0]);
            }
        }
        lks_h5_close_array(array);
    }
    assert_ok(lks_h5_close(file));
}

static void rows_and_types_are_converted(void **state) {
    (void)state;
    lks_h5_file *file = created("types.h5");
    const lks_dtype types[] = {LKS_F32, LKS_F64, LKS_I32, LKS_I64, LKS_U8};
    const char *names[] = {"float32", "float64", "int32", "int64", "uint8"};
    const int64_t integers[6] = {0, 1, 2, 100, 200, 255};
    for (int t = 0; t < 5; t++) {
        lks_h5_array *array = created_array(file, names[t], types[t], (lks_shape){2, {3, 2}});
        const lks_h5_info *info = lks_h5_array_info(array);
        assert_string_equal(info->type_name, names[t]);
        assert_int_equal(info->number_class, t < 2 ? LKS_H5_FLOAT : LKS_H5_INTEGER);
        assert_int_equal(info->element_bytes, lks_dtype_bytes(types[t]));
        assert_int_equal(info->is_unsigned, types[t] == LKS_U8);
        assert_int_equal(info->chunk_rows, 0);
        assert_ok(lks_h5_write(array, 0, 6, LKS_I64, integers));
        float floats[4];
        assert_ok(lks_h5_read_rows(array, 1, 2, LKS_F32, floats));
        for (int i = 0; i < 4; i++)
            assert_true(floats[i] == (float)integers[2 + i]);
        assert_true(lks_h5_array_file_offset(array) > 0);
        lks_h5_close_array(array);
    }
    assert_ok(lks_h5_close(file));
}

static void scalars_and_empty_arrays(void **state) {
    (void)state;
    lks_h5_file *file = created("small.h5");
    lks_h5_array *scalar = created_array(file, "scalar", LKS_I64, (lks_shape){0});
    int64_t value = 42, got = 0;
    assert_ok(lks_h5_write(scalar, 0, 1, LKS_I64, &value));
    assert_ok(lks_h5_read_rows(scalar, 0, 1, LKS_I64, &got));
    assert_int_equal(got, 42);
    assert_ok(lks_h5_read(scalar, 1, 0, LKS_I64, NULL));
    lks_h5_close_array(scalar);

    lks_h5_array *empty = created_array(file, "empty", LKS_F32, (lks_shape){2, {0, 3}});
    assert_ok(lks_h5_write(empty, 0, 0, LKS_F32, NULL));
    assert_ok(lks_h5_read_rows(empty, 0, 0, LKS_F32, NULL));
    assert_int_equal(lks_h5_read(empty, 0, 1, LKS_F32, &got), LKS_EINVAL);
    lks_h5_close_array(empty);
    assert_ok(lks_h5_close(file));
}

static void ranges_outside_are_refused(void **state) {
    (void)state;
    lks_h5_file *file = created("outside.h5");
    lks_h5_array *array = created_array(file, "group/x", LKS_U8, (lks_shape){2, {2, 3}});
    uint8_t bytes[16] = {0};
    assert_int_equal(lks_h5_read(array, 0, 7, LKS_U8, bytes), LKS_EINVAL);
    assert_error_has("group/x");
    assert_error_has("no 7 elements from 0 on, it has 6");
    assert_int_equal(lks_h5_read(array, -1, 2, LKS_U8, bytes), LKS_EINVAL);
    assert_int_equal(lks_h5_read(array, 0, -2, LKS_U8, bytes), LKS_EINVAL);
    assert_int_equal(lks_h5_write(array, 6, INT64_MAX, LKS_U8, bytes), LKS_EINVAL);
    assert_int_equal(lks_h5_read_rows(array, 1, 2, LKS_U8, bytes), LKS_EINVAL);
    assert_error_has("no 2 rows from 1 on, it has 2");
    assert_int_equal(lks_h5_read_rows(array, INT64_MAX / 2, 1, LKS_U8, bytes), LKS_EINVAL);
    assert_int_equal(lks_h5_read(array, 0, 1, LKS_BF16, bytes), LKS_EINVAL);
    lks_h5_close_array(array);

    assert_int_equal(lks_h5_create_array(file, "half", LKS_BF16, &(lks_shape){1, {1}}, &array),
                     LKS_EINVAL);
    assert_error_has("bfloat16");
    assert_int_equal(lks_h5_create_array(file, "group/x", LKS_U8, &(lks_shape){1, {1}}, &array),
                     LKS_EIO);
    assert_error_has("group/x");
    assert_null(array);
    assert_ok(lks_h5_close(file));
}

static void a_missing_array_lists_what_is_there(void **state) {
    (void)state;
    lks_h5_file *file = created("listed.h5");
    lks_h5_array *array = NULL;
    assert_int_equal(lks_h5_open_array(file, "x", &array), LKS_EDATA);
    assert_error_has("no arrays");
    lks_h5_close_array(created_array(file, "train/inputs", LKS_U8, (lks_shape){1, {1}}));
    lks_h5_close_array(created_array(file, "train/targets", LKS_U8, (lks_shape){1, {1}}));
    assert_int_equal(lks_h5_open_array(file, "train/images", &array), LKS_EDATA);
    assert_error_has("listed.h5");
    assert_error_has("train/images");
    assert_error_has("train/inputs, train/targets");
    assert_int_equal(lks_h5_open_array(file, "train", &array), LKS_EDATA);
    assert_error_has("train is not an array");
    assert_null(array);
    lks_h5_close_array(NULL);
    assert_ok(lks_h5_close(file));
}

static void writing_into_a_file_opened_for_reading_fails(void **state) {
    (void)state;
    const char *path = temp_path("readonly.h5");
    lks_h5_file *file = created("readonly.h5");
    lks_h5_close_array(created_array(file, "x", LKS_U8, (lks_shape){1, {1}}));
    assert_ok(lks_h5_close(file));
    lks_h5_array *array = NULL;
    uint8_t byte = 1;
    assert_ok(lks_h5_open(path, &file));
    assert_ok(lks_h5_open_array(file, "/x", &array));
    assert_int_equal(lks_h5_write(array, 0, 1, LKS_U8, &byte), LKS_EIO);
    assert_error_has("x: writing failed (HDF5: ");
    lks_h5_close_array(array);
    assert_int_equal(lks_h5_create_group(file, "g"), LKS_EIO);
    assert_ok(lks_h5_close(file));
}

/* The same calls give the same bytes: no time stamps, no uninitialised metadata. */
static void equal_content_gives_equal_files(void **state) {
    (void)state;
    static char bytes[2][8192];
    size_t length[2];
    for (int i = 0; i < 2; i++) {
        lks_h5_file *file = created("equal.h5");
        lks_h5_array *array = created_array(file, "g/x", LKS_U8, (lks_shape){1, {3}});
        assert_ok(lks_h5_write(array, 0, 3, LKS_U8, "abc"));
        assert_ok(lks_h5_write_attr_text(file, "g/x", "note", "text"));
        lks_h5_close_array(array);
        assert_ok(lks_h5_close(file));
        FILE *stream = fopen(temp_path("equal.h5"), "rb");
        assert_non_null(stream);
        length[i] = fread(bytes[i], 1, sizeof bytes[i], stream);
        fclose(stream);
    }
    assert_int_equal(length[0], length[1]);
    assert_memory_equal(bytes[0], bytes[1], length[0]);
}

/* The times that HDF5 would note would make each file another one. */
static void no_times_are_noted(void **state) {
    (void)state;
    lks_h5_file *file = created("times.h5");
    lks_h5_close_array(created_array(file, "g/x", LKS_U8, (lks_shape){1, {3}}));
    assert_ok(lks_h5_close(file));
    hid_t id = H5Fopen(temp_path("times.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t array = H5Dopen2(id, "g/x", H5P_DEFAULT), group = H5Gopen2(id, "g", H5P_DEFAULT);
    hid_t properties[2] = {H5Dget_create_plist(array), H5Gget_create_plist(group)};
    for (int i = 0; i < 2; i++) {
        hbool_t tracked = true;
        assert_true(H5Pget_obj_track_times(properties[i], &tracked) >= 0);
        assert_false(tracked);
        H5Pclose(properties[i]);
    }
    H5Gclose(group);
    H5Dclose(array);
    H5Fclose(id);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_of_every_rank),
        cmocka_unit_test(rows_and_types_are_converted),
        cmocka_unit_test(scalars_and_empty_arrays),
        cmocka_unit_test(ranges_outside_are_refused),
        cmocka_unit_test(a_missing_array_lists_what_is_there),
        cmocka_unit_test(writing_into_a_file_opened_for_reading_fails),
        cmocka_unit_test(equal_content_gives_equal_files),
        cmocka_unit_test(no_times_are_noted),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
