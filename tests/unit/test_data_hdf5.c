/* HDF5 data sets: the shipped digits, every numeric type, blocks, and what bad files say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <hdf5.h>
#include <math.h>

#include "data/dataset.h"
#include "h5/h5.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

static const int64_t PLENTY = (int64_t)1 << 30;

/* Opens FILE in the temporary folder with these further options. */
static lks_status open_hdf5(const char *file, const char *options, int64_t memory,
                            lks_dataset **out) {
    char text[512];
    snprintf(text, sizeof text, "file=%s %s", temp_path(file), options);
    return lks_dataset_open(&(lks_spec){.type = "hdf5", .options = text}, memory, out);
}

/* Adds an array of `dtype` to a file that is made when absent. */
static void add_array(lks_h5_file *file, const char *path, lks_dtype dtype, lks_shape shape,
                      lks_dtype memory_dtype, const void *values) {
    lks_h5_array *array = NULL;
    int64_t count = 0;
    assert_ok(lks_h5_create_array(file, path, dtype, &shape, &array));
    assert_ok(lks_shape_count(&shape, &count));
    assert_ok(lks_h5_write(array, 0, count, memory_dtype, values));
    lks_h5_close_array(array);
}

static void the_digits_are_complete(void **state) {
    (void)state;
    const lks_spec spec = {.type = "hdf5",
                           .options = "file=\"" LKS_SOURCE_DIR "/examples/digits/digits.h5\" "
                                      "inputs=validation/inputs targets=validation/targets"};
    lks_dataset *dataset = NULL;
    assert_ok(lks_dataset_open(&spec, PLENTY, &dataset));
    assert_int_equal(lks_dataset_count(dataset), 359);
    assert_true(lks_shape_equal(lks_dataset_input_shape(dataset), &(lks_shape){3, {1, 8, 8}}));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_CLASSES);
    assert_ok(lks_dataset_check_labels(dataset, 10, -100));
    int per_class[10] = {0};
    float highest = 0;
    for (int64_t i = 0; i < 359; i++) {
        float pixels[64];
        int32_t label = -1;
        assert_ok(lks_dataset_read(dataset, &i, 1, pixels, &label));
        per_class[label]++;
        for (int p = 0; p < 64; p++)
            highest = pixels[p] > highest ? pixels[p] : highest;
    }
    for (int c = 0; c < 10; c++)
        assert_in_range(per_class[c], 35, 37);
    assert_true(highest == 16);
    lks_dataset_destroy(dataset);
}

static void every_type_is_read(void **state) {
    (void)state;
    const lks_dtype types[] = {LKS_F32, LKS_F64, LKS_I32, LKS_I64, LKS_U8};
    const int64_t inputs[6] = {1, 2, 3, 250, 0, 6}, targets[3] = {2, 0, 1};
    for (int t = 0; t < 5; t++) {
        lks_h5_file *file = NULL;
        assert_ok(lks_h5_create(temp_path("types.h5"), &file));
        add_array(file, "x", types[t], (lks_shape){2, {3, 2}}, LKS_I64, inputs);
        add_array(file, "y", types[t], (lks_shape){1, {3}}, LKS_I64, targets);
        assert_ok(lks_h5_close(file));

        lks_dataset *dataset = NULL;
        assert_ok(open_hdf5("types.h5", "inputs=x targets=y", PLENTY, &dataset));
        const int64_t wanted[3] = {2, 0, 1};
        float got[6];
        assert_ok(lks_dataset_read(dataset, wanted, 3, got, NULL));
        for (int i = 0; i < 6; i++)
            assert_true(got[i] == (float)inputs[2 * wanted[i / 2] + i % 2]);
        if (t < 2) {
            float values[3];
            assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_VALUES);
            assert_true(lks_shape_equal(lks_dataset_target_shape(dataset), &(lks_shape){1, {1}}));
            assert_ok(lks_dataset_read(dataset, wanted, 3, NULL, values));
            assert_true(values[0] == 1 && values[1] == 2 && values[2] == 0);
        } else {
            int32_t labels[3];
            assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_CLASSES);
            assert_ok(lks_dataset_read(dataset, wanted, 3, NULL, labels));
            assert_true(labels[0] == 1 && labels[1] == 2 && labels[2] == 0);
        }
        lks_dataset_destroy(dataset);
    }
}

static void prediction_needs_no_targets(void **state) {
    (void)state;
    const float inputs[2] = {1, 2};
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("predict.h5"), &file));
    add_array(file, "x", LKS_F32, (lks_shape){1, {2}}, LKS_F32, inputs);
    assert_ok(lks_h5_close(file));
    lks_dataset *dataset = NULL;
    assert_ok(open_hdf5("predict.h5", "inputs=x", PLENTY, &dataset));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_NONE);
    assert_true(lks_shape_equal(lks_dataset_input_shape(dataset), &(lks_shape){1, {1}}));
    assert_int_equal(lks_dataset_check_labels(dataset, 10, -100), LKS_EINVAL);
    assert_non_null(strstr(lks_dataset_describe(dataset), "predict.h5 (x)"));
    lks_dataset_destroy(dataset);
}

/* A chunked, compressed array, as h5py writes them; our own room does not. */
static void make_chunked(const char *path, hsize_t rows, hsize_t width, hsize_t chunk_rows) {
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hsize_t dims[2] = {rows, width}, chunk[2] = {chunk_rows, width};
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 2, chunk);
    H5Pset_deflate(creation, 1);
    hid_t array = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    float *values = malloc(rows * width * sizeof *values);
    for (hsize_t i = 0; i < rows * width; i++)
        values[i] = (float)i;
    assert_true(H5Dwrite(array, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    free(values);
    H5Dclose(array);
    H5Pclose(creation);
    H5Sclose(space);
    assert_true(H5Fclose(file) >= 0);
}

/* Any memory budget gives the same samples, also when it holds less than one row. */
static void blocks_give_what_memory_gives(void **state) {
    (void)state;
    enum { ROWS = 101, WIDTH = 3 };
    make_chunked(temp_path("chunked.h5"), ROWS, WIDTH, 8);
    const int64_t budgets[] = {1, 12, 13, 100, 700, 1211, 1212, PLENTY};
    for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
        lks_dataset *dataset = NULL;
        assert_ok(open_hdf5("chunked.h5", "inputs=x", budgets[b], &dataset));
        for (int64_t epoch = 0; epoch < 2; epoch++) {
            int64_t order[ROWS];
            float got[ROWS * WIDTH];
            lks_sampler_permutation(1, epoch, ROWS, order);
            assert_ok(lks_dataset_read(dataset, order, 0, got, NULL));
            for (int64_t at = 0; at < ROWS; at += 20) {
                int64_t n = ROWS - at < 20 ? ROWS - at : 20;
                assert_ok(lks_dataset_read(dataset, order + at, n, got + at * WIDTH, NULL));
            }
            for (int i = 0; i < ROWS * WIDTH; i++)
                assert_true(got[i] == (float)(order[i / WIDTH] * WIDTH + i % WIDTH));
        }
        lks_dataset_destroy(dataset);
    }
}

/* Inputs and values share one budget: 12 + 24 bytes. Labels are in memory anyway. */
static void the_budget_is_for_both_columns(void **state) {
    (void)state;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("budget.h5"), &file));
    add_array(file, "x", LKS_F32, (lks_shape){2, {3, 2}}, LKS_F32, values);
    add_array(file, "y", LKS_F32, (lks_shape){1, {3}}, LKS_F32, values);
    add_array(file, "labels", LKS_I32, (lks_shape){1, {3}}, LKS_F32, values);
    assert_ok(lks_h5_close(file));
    const struct {
        const char *targets;
        int64_t budget;
        bool whole_inputs, whole_targets;
    } cases[] = {{"y", 36, true, true},
                 {"y", 35, false, true},
                 {"y", 11, false, false},
                 {"labels", 24, true, true},
                 {"labels", 23, false, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lks_dataset *dataset = NULL;
        char options[64];
        snprintf(options, sizeof options, "inputs=x targets=%s", cases[i].targets);
        assert_ok(open_hdf5("budget.h5", options, cases[i].budget, &dataset));
        assert_int_equal(dataset->inputs.memory != NULL, cases[i].whole_inputs);
        assert_int_equal(dataset->targets.memory != NULL, cases[i].whole_targets);
        lks_dataset_destroy(dataset);
    }
}

static void reading_outside_is_refused(void **state) {
    (void)state;
    make_chunked(temp_path("outside.h5"), 5, 1, 2);
    lks_dataset *dataset = NULL;
    float got = 0;
    assert_ok(open_hdf5("outside.h5", "inputs=x", PLENTY, &dataset));
    assert_int_equal(lks_dataset_read(dataset, &(int64_t){5}, 1, &got, NULL), LKS_EINVAL);
    assert_error_has("no sample 5, it has 5");
    assert_int_equal(lks_dataset_read(dataset, &(int64_t){-1}, 1, &got, NULL), LKS_EINVAL);
    lks_dataset_destroy(dataset);
}

/* ---- bad files ---- */

static void a_label_out_of_range_is_named(void **state) {
    (void)state;
    float inputs[20] = {0};
    int64_t targets[20] = {0};
    targets[17] = 11;
    targets[3] = -100;
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("labels.h5"), &file));
    add_array(file, "train/inputs", LKS_F32, (lks_shape){1, {20}}, LKS_F32, inputs);
    add_array(file, "train/targets", LKS_I64, (lks_shape){1, {20}}, LKS_I64, targets);
    targets[5] = (int64_t)1 << 40;
    add_array(file, "huge", LKS_I64, (lks_shape){1, {20}}, LKS_I64, targets);
    assert_ok(lks_h5_close(file));

    lks_dataset *dataset = NULL;
    assert_ok(open_hdf5("labels.h5", "inputs=train/inputs targets=train/targets", 8, &dataset));
    assert_int_equal(lks_dataset_check_labels(dataset, 10, -100), LKS_EDATA);
    assert_error_has("labels.h5: train/targets[17] is 11: expected a label in 0..9");
    assert_int_equal(lks_dataset_check_labels(dataset, 12, -1), LKS_EDATA);
    assert_error_has("train/targets[3] is -100: expected a label in 0..11");
    assert_ok(lks_dataset_check_labels(dataset, 12, -100));
    lks_dataset_destroy(dataset);

    assert_int_equal(open_hdf5("labels.h5", "inputs=train/inputs targets=huge", PLENTY, &dataset),
                     LKS_EDATA);
    assert_error_has("huge[5] is 1099511627776");
    assert_null(dataset);
}

static void a_value_that_is_not_finite_is_named(void **state) {
    (void)state;
    double inputs[24] = {0};
    inputs[17] = NAN; /* [2, 1, 1] of [4, 2, 3] */
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("nan.h5"), &file));
    add_array(file, "x", LKS_F64, (lks_shape){3, {4, 2, 3}}, LKS_F64, inputs);
    inputs[17] = 0;
    inputs[23] = 1e39; /* more than float32 holds */
    add_array(file, "large", LKS_F64, (lks_shape){3, {4, 2, 3}}, LKS_F64, inputs);
    inputs[23] = 0;
    add_array(file, "fine", LKS_F64, (lks_shape){3, {4, 2, 3}}, LKS_F64, inputs);
    inputs[3] = -INFINITY;
    add_array(file, "y", LKS_F64, (lks_shape){1, {4}}, LKS_F64, inputs);
    assert_ok(lks_h5_close(file));

    lks_dataset *dataset = NULL;
    assert_int_equal(open_hdf5("nan.h5", "inputs=x", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("nan.h5: x[2, 1, 2] is nan: expected a finite number");
    assert_int_equal(open_hdf5("nan.h5", "inputs=large", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("large[3, 1, 2] is inf");
    assert_int_equal(open_hdf5("nan.h5", "inputs=fine targets=y", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("y[3] is -inf");

    /* in blocks it is found when it is read */
    float got[6];
    assert_ok(open_hdf5("nan.h5", "inputs=x", 24, &dataset));
    assert_ok(lks_dataset_read(dataset, &(int64_t){1}, 1, got, NULL));
    assert_int_equal(lks_dataset_read(dataset, &(int64_t){2}, 1, got, NULL), LKS_EDATA);
    assert_error_has("x[2, 1, 2] is nan");
    assert_int_equal(lks_dataset_read(dataset, &(int64_t){2}, 1, got, NULL), LKS_EDATA);
    assert_ok(lks_dataset_read(dataset, &(int64_t){3}, 1, got, NULL));
    lks_dataset_destroy(dataset);
}

static void shapes_that_make_no_data_set(void **state) {
    (void)state;
    const float values[6] = {0};
    lks_h5_file *file = NULL;
    assert_ok(lks_h5_create(temp_path("shapes.h5"), &file));
    add_array(file, "six", LKS_F32, (lks_shape){1, {6}}, LKS_F32, values);
    add_array(file, "five", LKS_I32, (lks_shape){1, {5}}, LKS_F32, values);
    add_array(file, "none", LKS_F32, (lks_shape){2, {0, 3}}, LKS_F32, values);
    add_array(file, "hollow", LKS_F32, (lks_shape){2, {6, 0}}, LKS_F32, values);
    add_array(file, "single", LKS_F32, (lks_shape){0}, LKS_F32, values);
    assert_ok(lks_h5_close(file));

    lks_dataset *dataset = NULL;
    assert_int_equal(open_hdf5("shapes.h5", "inputs=six targets=five", PLENTY, &dataset),
                     LKS_EDATA);
    assert_error_has("six has 6 samples, but");
    assert_error_has("five has 5");
    assert_int_equal(open_hdf5("shapes.h5", "inputs=none", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("none is empty");
    assert_int_equal(open_hdf5("shapes.h5", "inputs=hollow", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("hollow has samples of shape [0]");
    assert_int_equal(open_hdf5("shapes.h5", "inputs=single", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("single");
    assert_int_equal(open_hdf5("shapes.h5", "inputs=absent", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("six, five, none, hollow, single");
    assert_int_equal(open_hdf5("shapes.h5", "inputs=six targets=absent", PLENTY, &dataset),
                     LKS_EDATA);
    assert_int_equal(open_hdf5("absent.h5", "inputs=x", PLENTY, &dataset), LKS_EIO);
    assert_error_has("absent.h5");
    assert_null(dataset);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    lks_dataset *dataset = NULL;
    lks_spec spec = {.type = "hdf", .where = "run.yaml:3"};
    assert_int_equal(lks_dataset_open(&spec, PLENTY, &dataset), LKS_ECONFIG);
    assert_error_has("run.yaml:3: unknown data set type \"hdf\"");
    assert_error_has("did you mean \"hdf5\"?");
    spec.type = "qqqqqq";
    assert_int_equal(lks_dataset_open(&spec, PLENTY, &dataset), LKS_ECONFIG);
    assert_error_has("expected one of hdf5, idx, cifar10");
    spec.type = NULL;
    assert_int_equal(lks_dataset_open(&spec, PLENTY, &dataset), LKS_ECONFIG);
    spec = (lks_spec){.type = "hdf5", .options = "inputs=x"};
    assert_int_equal(lks_dataset_open(&spec, PLENTY, &dataset), LKS_ECONFIG);
    assert_error_has("file");
    spec = (lks_spec){.type = "hdf5", .options = "file=a inputs=x target=y"};
    assert_int_equal(lks_dataset_open(&spec, PLENTY, &dataset), LKS_ECONFIG);
    assert_error_has("targets");
    assert_null(dataset);
}

static void the_registry_lists_all_formats(void **state) {
    (void)state;
    int count = 0;
    while (lks_dataset_type(count) != NULL) {
        assert_string_equal(lks_dataset_options(lks_dataset_type(count))->name,
                            lks_dataset_type(count));
        count++;
    }
    assert_int_equal(count, 3);
    assert_null(lks_dataset_type(-1));
    assert_null(lks_dataset_options("csv"));
    assert_null(lks_dataset_options(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_digits_are_complete),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(prediction_needs_no_targets),
        cmocka_unit_test(blocks_give_what_memory_gives),
        cmocka_unit_test(the_budget_is_for_both_columns),
        cmocka_unit_test(reading_outside_is_refused),
        cmocka_unit_test(a_label_out_of_range_is_named),
        cmocka_unit_test(a_value_that_is_not_finite_is_named),
        cmocka_unit_test(shapes_that_make_no_data_set),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(the_registry_lists_all_formats),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
