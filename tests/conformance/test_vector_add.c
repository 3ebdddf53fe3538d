/* Sums of vectors, in place. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that leave a rest behind vectors of any width, and enough for several threads. Every
 * element is one correctly rounded addition, so the bits are those of C. */
static void test_add_f32(void **state) {
    static const int64_t counts[] = {1, 15, 16, 17, 4097, (1 << 20) + 77};
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const int64_t count = counts[c];
        const size_t bytes = (size_t)count * sizeof(float);
        float *x = check_random(3, count + 1, -2, 2), *y = check_random(5, count + 1, -2, 2);
        float *sum = malloc(bytes + sizeof(float));
        assert_non_null(sum);
        x[0] = NAN;
        void *from = check_device_copy(*state, x, bytes + sizeof(float));
        void *to = check_device_copy(*state, y, bytes + sizeof(float));
        check_ok(lks_device_add(*state, stream, count, LKS_F32, from, LKS_F32, to));
        check_ok(lks_device_add(*state, stream, 0, LKS_F32, from, LKS_F32, to));
        check_download(*state, sum, to, bytes + sizeof(float));
        assert_true(isnan(sum[0]));
        for (int64_t i = 1; i < count; i++)
            assert_true(sum[i] == y[i] + x[i]);
        assert_true(sum[count] == y[count]);
        lks_device_free(*state, from);
        lks_device_free(*state, to);
        free(sum);
        free(x);
        free(y);
    }
}

/* bfloat16 numbers are summed as float32 and rounded once. */
static void test_add_bf16(void **state) {
    static const int64_t counts[] = {1, 7, 8, 9, 4101, (1 << 18) + 13};
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int wide_x = 0; wide_x < 2; wide_x++) {
            const int64_t count = counts[c];
            float *x = check_random(3, count, -2, 2), *y = check_random(5, count, -2, 2);
            uint16_t *half_x = malloc((size_t)count * 2), *half_y = malloc((size_t)count * 2);
            assert_true(half_x && half_y);
            for (int64_t i = 0; i < count; i++) {
                half_x[i] = lks_bf16_of_float(x[i]);
                half_y[i] = lks_bf16_of_float(y[i]);
                const float more = wide_x ? x[i] : lks_bf16_to_float(half_x[i]);
                y[i] = lks_bf16_to_float(half_y[i]) + more;
            }
            void *from = wide_x ? check_device_copy(*state, x, (size_t)count * 4)
                                : check_device_copy(*state, half_x, (size_t)count * 2);
            void *to = check_device_copy(*state, half_y, (size_t)count * 2);
            check_ok(lks_device_add(*state, stream, count, wide_x ? LKS_F32 : LKS_BF16, from,
                                    LKS_BF16, to));
            check_download(*state, half_y, to, (size_t)count * 2);
            for (int64_t i = 0; i < count; i++)
                assert_int_equal(half_y[i], lks_bf16_of_float(y[i]));
            lks_device_free(*state, from);
            lks_device_free(*state, to);
            free(half_x);
            free(half_y);
            free(x);
            free(y);
        }
}

/* Vectors that begin at any element, alike or not, and neighbours that stay as they are. */
static void test_add_anywhere(void **state) {
    enum { LARGEST = 4099, PLACES = 9 };
    static const int64_t counts[] = {1, 6, 20, LARGEST};
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    float *x = check_random(3, LARGEST + PLACES, -2, 2);
    float *y = check_random(5, LARGEST + PLACES, -2, 2);
    float sum[LARGEST + PLACES];
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int places = 0; places < PLACES * PLACES; places++) {
            const int64_t count = counts[c], at_x = places % PLACES, at_y = places / PLACES;
            const size_t bytes = (size_t)(count + PLACES) * sizeof(float);
            if (count == LARGEST && places % 7 != 0) continue;
            float *from = check_device_copy(*state, x, bytes);
            float *to = check_device_copy(*state, y, bytes);
            check_ok(
                lks_device_add(*state, stream, count, LKS_F32, from + at_x, LKS_F32, to + at_y));
            check_download(*state, sum, to, bytes);
            for (int64_t i = 0; i < count + PLACES; i++) {
                const bool inside = i >= at_y && i < at_y + count;
                assert_true(sum[i] == (inside ? y[i] + x[i - at_y + at_x] : y[i]));
            }
            lks_device_free(*state, from);
            lks_device_free(*state, to);
        }
    free(x);
    free(y);
}

static void test_refused(void **state) {
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    float x32 = 1, y32 = 1;
    assert_int_equal(lks_device_add(*state, stream, -1, LKS_F32, &x32, LKS_F32, &y32), LKS_EINVAL);
    assert_int_equal(lks_device_add(*state, stream, 1, LKS_I32, &x32, LKS_F32, &y32), LKS_EINVAL);
    assert_int_equal(lks_device_add(*state, stream, 1, LKS_F32, &x32, LKS_F64, &y32), LKS_EINVAL);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_f32),
        cmocka_unit_test(test_add_bf16),
        cmocka_unit_test(test_add_anywhere),
        cmocka_unit_test(test_refused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
