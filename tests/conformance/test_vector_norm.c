/* Parts of vector norms, against plain sums in long double. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double norm_of(lks_device *device, lks_norm_kind kind, int64_t count, const float *x,
                      double start) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    void *there = check_device_copy(device, x, (size_t)count * sizeof *x);
    void *norm = check_device_copy(device, &start, sizeof start);
    double result;
    check_ok(lks_device_norm(device, stream, kind, count, LKS_F32, there, norm));
    check_download(device, &result, norm, sizeof result);
    lks_device_free(device, norm);
    lks_device_free(device, there);
    return result;
}

static double expected(lks_norm_kind kind, int64_t count, const float *x, double start) {
    long double sum = start, largest = start;
    for (int64_t i = 0; i < count; i++) {
        const long double magnitude = fabsl((long double)x[i]);
        sum += kind == LKS_NORM_2 ? magnitude * magnitude : magnitude;
        largest = magnitude > largest ? magnitude : largest;
    }
    return (double)(kind == LKS_NORM_INF ? largest : sum);
}

/* Sums in float64 of positive terms, a few thousand one after the other and the rest in pairs or
 * blocks: their error is some units of 2^-53 times the root of the longest chain, below 1e-13. A
 * sum in float32 would be wrong by 1e-8 at least. */
static const double tolerance = 1e-13;

static const int64_t counts[] = {0, 1, 15, 16, 17, 4095, 4096, 4097, 40009, (1 << 20) + 77};
enum { COUNTS = sizeof counts / sizeof *counts, KINDS = LKS_NORM_INF + 1 };

static void test_against_reference(void **state) {
    for (int c = 0; c < COUNTS; c++) {
        float *x = check_random(7, counts[c], -3, 2);
        for (int kind = 0; kind < KINDS; kind++) {
            const double want = expected(kind, counts[c], x, 0.5);
            const double got = norm_of(*state, kind, counts[c], x, 0.5);
            if (fabs(got - want) > (kind == LKS_NORM_INF ? 0 : tolerance * want))
                fail_msg("norm %d of %lld: %.17g, expected %.17g", kind, (long long)counts[c], got,
                         want);
        }
        free(x);
    }
}

/* Of either type, from any element on; all bits of the numbers fit into bfloat16. */
static void test_any_place(void **state) {
    enum { LARGEST = 5003, PLACES = 9 };
    static const int64_t sizes[] = {1, 7, 29, LARGEST};
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    float *x = check_random(9, LARGEST + PLACES, -3, 2);
    uint16_t halves[LARGEST + PLACES];
    for (int i = 0; i < LARGEST + PLACES; i++) {
        halves[i] = lks_bf16_of_float(x[i]);
        x[i] = lks_bf16_to_float(halves[i]);
    }
    float *wide = check_device_copy(*state, x, (LARGEST + PLACES) * sizeof *x);
    uint16_t *narrow = check_device_copy(*state, halves, sizeof halves);
    void *norm = check_device_copy(*state, NULL, sizeof(double));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int at = 0; at < PLACES; at++)
            for (int half = 0; half < 2; half++) {
                double got = 0;
                const double want = expected(LKS_NORM_2, sizes[s], x + at, 0);
                const void *from = half ? (void *)(narrow + at) : wide + at;
                check_upload(*state, norm, &got, sizeof got);
                check_ok(lks_device_norm(*state, stream, LKS_NORM_2, sizes[s],
                                         half ? LKS_BF16 : LKS_F32, from, norm));
                check_download(*state, &got, norm, sizeof got);
                assert_true(fabs(got - want) <= tolerance * want);
            }
    lks_device_free(*state, wide);
    lks_device_free(*state, narrow);
    lks_device_free(*state, norm);
    free(x);
}

/* The largest may stand anywhere, and an earlier part may have been larger. */
static void test_largest_anywhere(void **state) {
    enum { COUNT = 4113 };
    float x[COUNT] = {0};
    for (int at = 0; at < COUNT; at += 13) {
        x[at] = -2;
        assert_true(norm_of(*state, LKS_NORM_INF, COUNT, x, 0) == 2);
        assert_true(norm_of(*state, LKS_NORM_INF, COUNT, x, 3) == 3);
        x[at] = 0;
    }
}

static void test_same_bits_for_any_threads(void **state) {
    enum { COUNT = (1 << 20) + 12345 };
    if (!lks_device_is_host(*state)) skip();
    float *x = check_random(11, COUNT, -1, 1);
    double first[KINDS] = {0};
    for (int threads = 1; threads <= 5; threads++) {
        const lks_device_config config = {.kind = "cpu", .threads = threads, .local_size = 1};
        lks_device *device;
        check_ok(lks_device_create(&config, &device));
        for (int kind = 0; kind < KINDS; kind++) {
            const double got = norm_of(device, kind, COUNT, x, 0);
            if (threads == 1) first[kind] = got;
            assert_memory_equal(&got, &first[kind], sizeof got);
        }
        lks_device_destroy(device);
    }
    free(x);
}

/* Wherever it stands, also in a later part of the vector. Squares that float32 cannot hold are no
 * infinities. */
static void test_not_finite(void **state) {
    enum { COUNT = 8210 };
    const int places[] = {0, 18, 4095, 4096, COUNT - 1};
    float *x = check_random(13, COUNT, -1, 1);
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            const float kept = x[places[p]];
            x[places[p]] = NAN;
            assert_true(isnan(norm_of(*state, kind, COUNT, x, 1)));
            x[places[p]] = -NAN;
            assert_true(isnan(norm_of(*state, kind, COUNT, x, INFINITY)));
            x[places[p]] = -INFINITY;
            assert_true(norm_of(*state, kind, COUNT, x, 1) == (double)INFINITY);
            x[places[p]] = -3e38f;
            assert_true(isfinite(norm_of(*state, kind, COUNT, x, 1)));
            x[places[p]] = kept;
        }
        assert_true(isnan(norm_of(*state, kind, COUNT, x, NAN)));
        assert_true(norm_of(*state, kind, COUNT, x, INFINITY) == (double)INFINITY);
    }
    free(x);
}

static void test_refused(void **state) {
    lks_stream *stream = lks_device_stream(*state, LKS_STREAM_COMPUTE);
    const float x[1] = {1};
    double norm = 0;
    assert_int_equal(lks_device_norm(*state, stream, LKS_NORM_2, -1, LKS_F32, x, &norm),
                     LKS_EINVAL);
    assert_int_equal(lks_device_norm(*state, stream, LKS_NORM_2, 1, LKS_F32, x, NULL), LKS_EINVAL);
    assert_int_equal(lks_device_norm(*state, stream, (lks_norm_kind)KINDS, 1, LKS_F32, x, &norm),
                     LKS_EINVAL);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference), cmocka_unit_test(test_any_place),
        cmocka_unit_test(test_largest_anywhere),  cmocka_unit_test(test_same_bits_for_any_threads),
        cmocka_unit_test(test_not_finite),        cmocka_unit_test(test_refused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
