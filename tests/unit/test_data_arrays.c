/* Data sets over arrays in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "data/data.h"
#include "unit/status_check.h"

static const lks_shape two = {1, {2}};

static void with_labels_values_or_neither(void **state) {
    (void)state;
    const float inputs[6] = {1, 2, 3, 4, 5, 6}, values[3] = {7, 8, 9};
    const int64_t labels[3] = {2, 0, -100}, wanted[2] = {2, 0};
    float got[4], got_values[2];
    int32_t got_labels[2];
    lks_dataset *dataset = NULL;

    assert_ok(lks_dataset_from_arrays(3, &two, inputs, labels, NULL, NULL, &dataset));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_CLASSES);
    assert_ok(lks_dataset_read(dataset, wanted, 2, got, got_labels));
    assert_true(got[0] == 5 && got[1] == 6 && got[2] == 1 && got[3] == 2);
    assert_true(got_labels[0] == -100 && got_labels[1] == 2);
    assert_ok(lks_dataset_check_labels(dataset, 3, -100));
    assert_int_equal(lks_dataset_check_labels(dataset, 2, -100), LKS_EDATA);
    assert_error_has("arrays in memory: labels[0] is 2: expected a label in 0..1");
    lks_dataset_destroy(dataset);

    assert_ok(
        lks_dataset_from_arrays(3, &two, inputs, NULL, &(lks_shape){1, {1}}, values, &dataset));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_VALUES);
    assert_true(lks_shape_equal(lks_dataset_target_shape(dataset), &(lks_shape){1, {1}}));
    assert_ok(lks_dataset_read(dataset, wanted, 2, NULL, got_values));
    assert_true(got_values[0] == 9 && got_values[1] == 7);
    lks_dataset_destroy(dataset);

    assert_ok(lks_dataset_from_arrays(3, &two, inputs, NULL, NULL, NULL, &dataset));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_NONE);
    assert_int_equal(lks_dataset_count(dataset), 3);
    lks_dataset_destroy(dataset);
    lks_dataset_destroy(NULL);
}

static void arguments_that_make_no_data_set(void **state) {
    (void)state;
    float inputs[4] = {1, 2, 3, NAN};
    const float values[2] = {0, INFINITY};
    int64_t labels[2] = {0, (int64_t)1 << 33};
    const lks_shape one = {1, {1}};
    lks_dataset *dataset = NULL;
    assert_int_equal(lks_dataset_from_arrays(0, &two, inputs, NULL, NULL, NULL, &dataset),
                     LKS_EINVAL);
    assert_int_equal(lks_dataset_from_arrays(1, NULL, inputs, NULL, NULL, NULL, &dataset),
                     LKS_EINVAL);
    assert_int_equal(lks_dataset_from_arrays(1, &two, NULL, NULL, NULL, NULL, &dataset),
                     LKS_EINVAL);
    assert_int_equal(lks_dataset_from_arrays(1, &two, inputs, labels, &one, values, &dataset),
                     LKS_EINVAL);
    assert_int_equal(lks_dataset_from_arrays(1, &two, inputs, NULL, NULL, values, &dataset),
                     LKS_EINVAL);
    assert_int_equal(lks_dataset_from_arrays(2, &two, inputs, NULL, NULL, NULL, &dataset),
                     LKS_EDATA);
    assert_error_has("inputs[1, 1] is nan");
    inputs[3] = 4;
    assert_int_equal(lks_dataset_from_arrays(2, &two, inputs, NULL, &one, values, &dataset),
                     LKS_EDATA);
    assert_error_has("values[1, 0] is inf");
    assert_int_equal(lks_dataset_from_arrays(2, &two, inputs, labels, NULL, NULL, &dataset),
                     LKS_EDATA);
    assert_error_has("labels[1] is 8589934592");
    assert_null(dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_labels_values_or_neither),
        cmocka_unit_test(arguments_that_make_no_data_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
