/* Between float32 and bfloat16, as a call and as an operation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

static lks_stream *compute(lks_device *device) {
    return lks_device_stream(device, LKS_STREAM_COMPUTE);
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Every bfloat16 there is becomes the float32 of which it is the upper half, and comes back. */
static void test_every_bfloat16(void **state) {
    enum { COUNT = 1 << 16 };
    uint16_t *halves = malloc(COUNT * sizeof *halves);
    uint32_t *bits = malloc(COUNT * sizeof *bits);
    assert_true(halves && bits);
    for (int i = 0; i < COUNT; i++)
        halves[i] = (uint16_t)i;
    void *narrow = check_device_copy(*state, halves, COUNT * sizeof *halves);
    void *wide = check_device_copy(*state, NULL, COUNT * sizeof *bits);
    check_ok(lks_device_cast(*state, compute(*state), COUNT, LKS_BF16, narrow, LKS_F32, wide));
    check_download(*state, bits, wide, COUNT * sizeof *bits);
    for (uint32_t i = 0; i < COUNT; i++)
        if (!isnan(float_of_bits(i << 16))) assert_int_equal(bits[i], i << 16);
    check_ok(lks_device_cast(*state, compute(*state), COUNT, LKS_F32, wide, LKS_BF16, narrow));
    check_download(*state, halves, narrow, COUNT * sizeof *halves);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (isnan(float_of_bits(i << 16)))
            assert_true(isnan(float_of_bits((uint32_t)halves[i] << 16)));
        else
            assert_int_equal(halves[i], i);
    }
    lks_device_free(*state, narrow);
    lks_device_free(*state, wide);
    free(halves);
    free(bits);
}

/* What is dropped, from just above nothing to just below a whole unit, at even and odd places. */
static void test_rounding(void **state) {
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {
        {0x3f800001, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81},
        {0x3f817fff, 0x3f81}, {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82}, {0x3fffffff, 0x4000},
        {0x7f7fffff, 0x7f80}, {0xff7fffff, 0xff80}, {0x7f800000, 0x7f80}, {0x00000001, 0x0000},
        {0x00008001, 0x0001}, {0x80000000, 0x8000}, {0x00ff8000, 0x0100},
    };
    enum { CASES = sizeof cases / sizeof *cases, COPIES = 37 };
    uint32_t from[CASES * COPIES];
    uint16_t to[CASES * COPIES];
    for (int i = 0; i < CASES * COPIES; i++)
        from[i] = cases[i % CASES].from;
    void *wide = check_device_copy(*state, from, sizeof from);
    void *narrow = check_device_copy(*state, NULL, sizeof to);
    check_ok(
        lks_device_cast(*state, compute(*state), CASES * COPIES, LKS_F32, wide, LKS_BF16, narrow));
    check_download(*state, to, narrow, sizeof to);
    for (int i = 0; i < CASES * COPIES; i++)
        assert_int_equal(to[i], cases[i % CASES].to);
    lks_device_free(*state, wide);
    lks_device_free(*state, narrow);
}

/* A NaN whose set bits are all among those that are dropped. */
static void test_nan_stays(void **state) {
    const uint32_t nans[] = {0x7f800001, 0xffffffff, 0x7fffffff};
    uint16_t halves[3];
    void *wide = check_device_copy(*state, nans, sizeof nans);
    void *narrow = check_device_copy(*state, NULL, sizeof halves);
    check_ok(lks_device_cast(*state, compute(*state), 3, LKS_F32, wide, LKS_BF16, narrow));
    check_download(*state, halves, narrow, sizeof halves);
    for (int i = 0; i < 3; i++)
        assert_true(isnan(float_of_bits((uint32_t)halves[i] << 16)));
    lks_device_free(*state, wide);
    lks_device_free(*state, narrow);
}

/* Sizes around those of packs, and places that are not aligned to them. */
static void test_sizes_and_places(void **state) {
    static const int64_t counts[] = {0, 1, 7, 8, 9, 31, 4099, (1 << 18) + 5};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int64_t begin = 0; begin < 3; begin += 2) {
            const int64_t count = counts[c], all = begin + count + 1;
            float *x = check_random(c + 1, all, -1, 1);
            uint16_t *halves = calloc((size_t)all, sizeof *halves);
            assert_non_null(halves);
            void *wide = check_device_copy(*state, x, (size_t)all * sizeof *x);
            void *narrow = check_device_copy(*state, halves, (size_t)all * sizeof *halves);
            check_ok(lks_device_cast(*state, compute(*state), count, LKS_F32, (float *)wide + begin,
                                     LKS_BF16, (uint16_t *)narrow + begin));
            check_download(*state, halves, narrow, (size_t)all * sizeof *halves);
            for (int64_t i = 0; i < all; i++)
                assert_int_equal(halves[i],
                                 i < begin || i == all - 1 ? 0 : lks_bf16_of_float(x[i]));
            lks_device_free(*state, wide);
            lks_device_free(*state, narrow);
            free(halves);
            free(x);
        }
}

static void test_operation(void **state) {
    const lks_cast_desc desc = {.count = 5, .from = LKS_F32, .to = LKS_BF16};
    const float x[10] = {1, 2.5f, -3, 1.0009765625f, 5, 6, 7, 8, 9, 10};
    uint16_t y[10], dy[10];
    float dx[10];
    lks_op *op;
    for (int i = 0; i < 10; i++)
        dy[i] = lks_bf16_of_float((float)i);
    check_ok(lks_op_create(*state, LKS_OP_CAST, &desc, 2, &op));
    void *memory[] = {
        check_device_copy(*state, x, sizeof x), check_device_copy(*state, NULL, sizeof y),
        check_device_copy(*state, dy, sizeof dy), check_device_copy(*state, NULL, sizeof dx)};
    const lks_op_args args = {
        .batch = 2, .x = memory[0], .y = memory[1], .dy = memory[2], .dx = memory[3]};
    check_ok(lks_op_forward(op, compute(*state), &args));
    check_ok(lks_op_backward(op, compute(*state), &args));
    check_download(*state, y, memory[1], sizeof y);
    check_download(*state, dx, memory[3], sizeof dx);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(y[i], lks_bf16_of_float(x[i]));
        assert_true(dx[i] == (float)i);
    }
    for (int i = 0; i < 4; i++)
        lks_device_free(*state, memory[i]);
    lks_op_destroy(op);
}

static void test_refused(void **state) {
    const lks_cast_desc same = {.count = 1, .from = LKS_F32, .to = LKS_F32};
    const lks_cast_desc whole = {.count = 1, .from = LKS_I32, .to = LKS_F32};
    lks_op *op = NULL;
    float x = 0;
    lks_stream *stream = compute(*state);
    assert_int_equal(lks_op_create(*state, LKS_OP_CAST, &same, 1, &op), LKS_EINVAL);
    assert_int_equal(lks_op_create(*state, LKS_OP_CAST, &whole, 1, &op), LKS_EINVAL);
    assert_null(op);
    assert_int_equal(lks_device_cast(*state, stream, 1, LKS_F32, &x, LKS_F32, &x), LKS_EINVAL);
    assert_int_equal(lks_device_cast(*state, stream, 1, LKS_F64, &x, LKS_F32, &x), LKS_EINVAL);
    assert_int_equal(lks_device_cast(*state, stream, -1, LKS_F32, &x, LKS_BF16, &x), LKS_EINVAL);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bfloat16), cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_nan_stays),      cmocka_unit_test(test_sizes_and_places),
        cmocka_unit_test(test_operation),      cmocka_unit_test(test_refused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
