/* What the CPU kernels stand on: splitting a loop over threads, and elementary functions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/cpu/parallel.h"
#include "device/cpu/vecmath.h"

/* ---- splitting ---- */

enum { MAX_COUNT = 1000 };

typedef struct split_record {
    int64_t count, align;
    int visits[MAX_COUNT];
    int calls;
    bool misplaced;
} split_record;

static void record_part(const void *data, int64_t begin, int64_t end) {
    split_record *record = (split_record *)data; /* the test's own, not const there */
#pragma omp critical
    {
        record->calls++;
        if (begin % record->align || begin >= end || end > record->count)
            record->misplaced = true;
        else
            for (int64_t i = begin; i < end; i++)
                record->visits[i]++;
    }
}

static void test_parts_cover_everything_once(void **state) {
    (void)state;
    const int64_t counts[] = {0, 1, 15, 16, 17, 33, 100, 999}, aligns[] = {1, 16};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t a = 0; a < sizeof aligns / sizeof *aligns; a++)
            for (int threads = 1; threads <= 5; threads++)
                for (int64_t grain = 1; grain <= 256; grain *= 16) {
                    const lks_device device = {.threads = threads};
                    split_record record = {.count = counts[c], .align = aligns[a]};
                    lks_cpu_parallel(&device, counts[c], aligns[a], grain, record_part, &record);
                    assert_false(record.misplaced);
                    for (int64_t i = 0; i < MAX_COUNT; i++)
                        assert_int_equal(record.visits[i], i < counts[c]);
                    assert_true(record.calls <= threads);
                    if (counts[c] < 2 * grain) assert_int_equal(record.calls, counts[c] > 0);
                }
}

static void test_more_threads_for_more_work(void **state) {
    (void)state;
    const lks_device device = {.threads = 2};
    split_record record = {.count = 999, .align = 16};
    lks_cpu_parallel(&device, record.count, record.align, 16, record_part, &record);
    assert_int_equal(record.calls, 2);
}

static void test_copy(void **state) {
    (void)state;
    enum { COUNT = 3 * LKS_CPU_GRAIN + 5 };
    static float from[COUNT + 16], to[COUNT + 16];
    const lks_device device = {.threads = 2};
    for (int i = 0; i < COUNT + 16; i++)
        from[i] = (float)i;
    lks_cpu_copy(&device, LKS_F32, COUNT, from, to);
    for (int i = 0; i < COUNT + 16; i++)
        assert_true(to[i] == (i < COUNT ? (float)i : 0.0f));
    lks_cpu_copy(&device, LKS_F32, COUNT, from, from);
    assert_true(from[COUNT - 1] == (float)(COUNT - 1));
}

/* ---- elementary functions ---- */

typedef struct function {
    const char *name;
    float (*got)(float x);
    double (*want)(double x);
    float low, high;
    double ulps; /* the error bound that vecmath.h states */
} function;

static float got_exp(float x) {
    return lks_expf(x);
}

static float got_sigmoid(float x) {
    return lks_sigmoidf(x);
}

static double want_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static float got_tanh(float x) {
    return lks_tanhf(x);
}

static float got_log1p(float x) {
    return lks_log1pf_unit(x);
}

static float got_normal_cdf(float x) {
    return lks_normal_cdff(x, lks_expf(-0.5f * x * x));
}

static double want_normal_cdf(double x) {
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* Units in the last place of a float32 near `want`. */
static double ulps_between(float got, double want) {
    const float near = fmaxf(fabsf((float)want), 0x1p-126f);
    return fabs((double)got - want) / (double)(nextafterf(near, INFINITY) - near);
}

static void test_error_bounds(void **state) {
    (void)state;
    /* 8e-7 relative is at most 14 ulp */
    const function functions[] = {
        {"exp", got_exp, exp, -103, 88.7f, 2},
        {"sigmoid", got_sigmoid, want_sigmoid, -87, 100, 3},
        {"tanh", got_tanh, tanh, -20, 20, 3},
        {"tanh near 0", got_tanh, tanh, -0.5f, 0.5f, 3},
        {"log1p", got_log1p, log1p, 0, 1, 3},
        {"normal cdf", got_normal_cdf, want_normal_cdf, -5, 5, 14},
    };
    enum { POINTS = 100000 };
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
        for (int i = 0; i <= POINTS; i++) {
            const function *fn = &functions[f];
            const float x = fn->low + (fn->high - fn->low) * ((float)i / POINTS);
            const double want = fn->want((double)x), error = ulps_between(fn->got(x), want);
            if (!(error <= fn->ulps))
                fail_msg("%s of %.9g is %.9g, expected %.12g: %.1f ulp", fn->name, (double)x,
                         (double)fn->got(x), want, error);
        }
}

static void test_ends_of_the_range(void **state) {
    (void)state;
    assert_true(lks_expf(-INFINITY) == 0.0f && lks_expf(-1e30f) == 0.0f);
    assert_true(isinf(lks_expf(INFINITY)) && isinf(lks_expf(89)) && isinf(lks_expf(1e30f)));
    assert_true(isnan(lks_expf(NAN)));
    assert_true(lks_expf(-103.9f) == 0x1p-149f); /* the least that float32 has */
    assert_true(lks_sigmoidf(-INFINITY) == 0.0f && lks_sigmoidf(INFINITY) == 1.0f);
    assert_true(lks_tanhf(-INFINITY) == -1.0f && lks_tanhf(INFINITY) == 1.0f);
    assert_true(isnan(lks_tanhf(NAN)) && isnan(lks_sigmoidf(NAN)));
    assert_true(signbit(lks_tanhf(-0.0f)) && lks_log1pf_unit(0) == 0.0f);
    assert_true(got_normal_cdf(-20) == 0.0f && got_normal_cdf(20) == 1.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_cover_everything_once),
        cmocka_unit_test(test_more_threads_for_more_work),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_error_bounds),
        cmocka_unit_test(test_ends_of_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
