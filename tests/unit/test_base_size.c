/* Sizes, shapes, splits, element types and statuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <string.h>

#include "base/base.h"

static void products_and_sums_do_not_overflow_silently(void **state) {
    (void)state;
    size_t out = 7;
    assert_true(lks_size_mul(6, 7, &out));
    assert_int_equal(out, 42);
    assert_false(lks_size_mul(SIZE_MAX / 2, 3, &out));
    assert_int_equal(out, 42);
    assert_true(lks_size_mul(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_true(lks_size_mul(SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
    assert_true(lks_size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(lks_size_add(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
}

static void rounding_up(void **state) {
    (void)state;
    assert_int_equal(lks_round_up(0, 16), 0);
    assert_int_equal(lks_round_up(1, 16), 16);
    assert_int_equal(lks_round_up(16, 16), 16);
    assert_int_equal(lks_round_up(17, 16), 32);
    assert_int_equal(lks_round_up(7, 3), 9);
}

static void elements_of_shapes(void **state) {
    (void)state;
    int64_t count = -1;
    assert_int_equal(lks_shape_count(&(lks_shape){0}, &count), LKS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(lks_shape_count(&(lks_shape){3, {3, 32, 32}}, &count), LKS_OK);
    assert_int_equal(count, 3 * 32 * 32);
    assert_int_equal(lks_shape_count(&(lks_shape){3, {INT64_MAX, 0, INT64_MAX}}, &count), LKS_OK);
    assert_int_equal(count, 0);
    count = 5;
    assert_int_equal(lks_shape_count(&(lks_shape){2, {INT64_MAX, 2}}, &count), LKS_ESHAPE);
    assert_non_null(strstr(lks_last_error(), "[9223372036854775807, 2]"));
    assert_int_equal(lks_shape_count(&(lks_shape){2, {-1, 2}}, &count), LKS_ESHAPE);
    assert_int_equal(lks_shape_count(&(lks_shape){2, {0, -2}}, &count), LKS_ESHAPE);
    assert_int_equal(count, 5);
}

static void equal_shapes(void **state) {
    (void)state;
    lks_shape a = {2, {3, 4, 9}}, b = {2, {3, 4, 8}}, c = {2, {3, 5}}, d = {3, {3, 4, 9}};
    assert_true(lks_shape_equal(&a, &b));
    assert_false(lks_shape_equal(&a, &c));
    assert_false(lks_shape_equal(&a, &d));
}

static void text_of_shapes(void **state) {
    (void)state;
    char text[LKS_SHAPE_TEXT_BYTES];
    assert_string_equal(lks_shape_text(&(lks_shape){0}, text), "[]");
    assert_string_equal(lks_shape_text(&(lks_shape){3, {3, 32, 1}}, text), "[3, 32, 1]");
    lks_shape longest = {.rank = LKS_MAX_DIMS};
    for (int i = 0; i < LKS_MAX_DIMS; i++)
        longest.dim[i] = INT64_MIN;
    assert_int_equal(strlen(lks_shape_text(&longest, text)), 6 * 20 + 5 * 2 + 2);
}

/* The parts of every split follow each other without gap and differ by one at most. */
static void splits_cover_everything(void **state) {
    (void)state;
    for (int64_t count = 0; count < 40; count++)
        for (int parts = 1; parts < 9; parts++) {
            int64_t end_before = 0;
            for (int part = 0; part < parts; part++) {
                int64_t begin, end;
                lks_split(count, part, parts, &begin, &end);
                assert_int_equal(begin, end_before);
                assert_in_range(end - begin, count / parts, (count + parts - 1) / parts);
                end_before = end;
            }
            assert_int_equal(end_before, count);
        }
}

static void element_types(void **state) {
    (void)state;
    assert_int_equal(lks_dtype_bytes(LKS_F32), 4);
    assert_int_equal(lks_dtype_bytes(LKS_BF16), 2);
    assert_int_equal(lks_dtype_bytes(LKS_U8), 1);
    assert_int_equal(lks_dtype_bytes(LKS_I64), 8);
    assert_string_equal(lks_dtype_name(LKS_F64), "float64");
    assert_string_equal(lks_dtype_name(LKS_I32), "int32");
}

static void statuses_have_texts_and_exit_codes(void **state) {
    (void)state;
    assert_string_equal(lks_status_text(LKS_OK), "success");
    assert_int_equal(lks_status_exit_code(LKS_OK), 0);
    assert_int_equal(lks_status_exit_code(LKS_EUSAGE), 2);
    for (int status = 1; status < LKS_STATUS_COUNT; status++) {
        assert_true(strlen(lks_status_text((lks_status)status)) > 3);
        assert_in_range(lks_status_exit_code((lks_status)status), 1, 125);
    }
    assert_string_equal(lks_status_text((lks_status)9999), "unknown status");
    assert_string_equal(lks_status_text((lks_status)-1), "unknown status");
    assert_int_equal(lks_status_exit_code((lks_status)9999), 1);
}

static void text_of_bytes(void **state) {
    (void)state;
    char text[LKS_BYTES_TEXT_BYTES];
    assert_string_equal(lks_bytes_text(0, text), "0 B");
    assert_string_equal(lks_bytes_text(1023, text), "1023 B");
    assert_string_equal(lks_bytes_text(1024, text), "1.0 KiB");
    assert_string_equal(lks_bytes_text(18432, text), "18.0 KiB");
    assert_string_equal(lks_bytes_text((size_t)3 << 40, text), "3.0 TiB");
    assert_string_equal(lks_bytes_text(SIZE_MAX, text), "16777216.0 TiB");
}

static void clock_does_not_go_back(void **state) {
    (void)state;
    double first = lks_clock_seconds();
    for (int i = 0; i < 1000; i++) {
        double second = lks_clock_seconds();
        assert_true(second >= first);
        first = second;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_sums_do_not_overflow_silently),
        cmocka_unit_test(rounding_up),
        cmocka_unit_test(elements_of_shapes),
        cmocka_unit_test(equal_shapes),
        cmocka_unit_test(text_of_shapes),
        cmocka_unit_test(text_of_bytes),
        cmocka_unit_test(splits_cover_everything),
        cmocka_unit_test(element_types),
        cmocka_unit_test(statuses_have_texts_and_exit_codes),
        cmocka_unit_test(clock_does_not_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
