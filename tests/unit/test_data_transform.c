/* From stored rows to the model's inputs: normalisation, layout and augmentation, each against a
 * plain calculation of what torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize
 * do in this order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "data/transform.h"
#include "unit/status_check.h"

static lks_transform made(const lks_shape *shape, lks_dtype dtype, const char *options,
                          lks_layout layout, bool training) {
    lks_data_settings settings;
    lks_transform transform;
    memset(&settings, 0, sizeof settings);
    assert_ok(lks_options_parse(&lks_data_settings_options, &settings, options, "data"));
    assert_ok(lks_transform_create(shape, dtype, &settings, training, layout, &transform));
    lks_options_free(&lks_data_settings_options, &settings);
    return transform;
}

/* x * (scale / std) - mean / std in float32 differs from (x * scale - mean) / std in float64 by a
 * few roundings of numbers below 10: 10 * 3 * 2^-24 is 2e-6. */
static void assert_near(float got, double expected) {
    if (!(fabs(got - expected) <= 2e-6)) fail_msg("%.9g is not %.9g", got, expected);
}

static void one_number_for_all(void **state) {
    (void)state;
    uint8_t bytes[256];
    float floats[256], out[256];
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
        floats[i] = (float)i;
    }
    const lks_shape shapes[] = {{1, {256}}, {2, {16, 16}}, {3, {4, 8, 8}}};
    for (int s = 0; s < 3; s++)
        for (int dtype = 0; dtype < 2; dtype++) {
            lks_transform transform =
                made(&shapes[s], dtype ? LKS_U8 : LKS_F32,
                     "scale=0.00392156862745098 mean=0.5 std=0.25", LKS_LAYOUT_ROWS, true);
            lks_transform_apply(&transform, dtype ? (void *)bytes : floats, (lks_philox_block){0},
                                out);
            for (int i = 0; i < 256; i++)
                assert_near(out[i], (i / 255.0 - 0.5) / 0.25);
            lks_transform_free(&transform);
        }
}

static void nothing_asked_changes_nothing(void **state) {
    (void)state;
    const float row[6] = {1.5f, -2, 1e30f, 1e-30f, 0, 7};
    float out[6];
    lks_transform transform = made(&(lks_shape){1, {6}}, LKS_F32, "", LKS_LAYOUT_ROWS, true);
    lks_transform_apply(&transform, row, (lks_philox_block){0}, out);
    assert_memory_equal(out, row, sizeof row);
    lks_transform_free(&transform);
}

static void one_number_for_each_feature(void **state) {
    (void)state;
    const float row[3] = {1, 2, 3};
    float out[3];
    lks_transform transform = made(&(lks_shape){1, {3}}, LKS_F32, "mean=[1,1,1] std=[1,2,4]",
                                   LKS_LAYOUT_CHANNELS_LAST, true);
    lks_transform_apply(&transform, row, (lks_philox_block){0}, out);
    assert_true(out[0] == 0 && out[1] == 0.5f && out[2] == 0.5f);
    lks_transform_free(&transform);
}

/* ---- images ---- */

enum { C = 3, H = 4, W = 5, PIXELS = C * H * W };

static const double image_mean[C] = {0.5, 0.25, 0}, image_std[C] = {1, 2, 0.5};

static void make_image(uint8_t *bytes, float *floats) {
    for (int i = 0; i < PIXELS; i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
        floats[i] = bytes[i];
    }
}

/* The pixel that stands at (c, y, x) after padding, cropping at (top, left) of the padded image,
 * and mirroring; normalised. */
static double expected_pixel(const uint8_t *image, int crop, int top, int left, bool mirrored,
                             int c, int y, int x) {
    int from_x = (mirrored ? W - 1 - x : x) + left - crop, from_y = y + top - crop;
    bool inside = from_x >= 0 && from_x < W && from_y >= 0 && from_y < H;
    double pixel = inside ? image[(c * H + from_y) * W + from_x] : 0;
    return (pixel / 255 - image_mean[c]) / image_std[c];
}

static void check_image(const lks_transform *transform, const uint8_t *image, const void *row,
                        int crop, int top, int left, bool mirrored) {
    /* the words that lead to these choices: floor(word * places / 2^32) */
    uint64_t places = 2 * (uint64_t)crop + 1;
    lks_philox_block random = {{(uint32_t)((((uint64_t)top << 32) + places - 1) / places),
                                (uint32_t)((((uint64_t)left << 32) + places - 1) / places),
                                mirrored ? 0x80000000u : 0x7FFFFFFFu, 0}};
    float out[PIXELS + 1];
    out[PIXELS] = 123;
    lks_transform_apply(transform, row, random, out);
    for (int c = 0; c < C; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                int at = transform->channels_last ? (y * W + x) * C + c : (c * H + y) * W + x;
                assert_near(out[at], expected_pixel(image, crop, top, left, mirrored, c, y, x));
            }
    assert_true(out[PIXELS] == 123);
}

static void images_in_both_layouts(void **state) {
    (void)state;
    uint8_t bytes[PIXELS];
    float floats[PIXELS];
    make_image(bytes, floats);
    for (int variant = 0; variant < 4; variant++) {
        bool last = variant & 1, from_bytes = variant & 2;
        lks_transform transform = made(&(lks_shape){3, {C, H, W}}, from_bytes ? LKS_U8 : LKS_F32,
                                       "scale=0.00392156862745098 mean=[0.5,0.25,0] std=[1,2,0.5]",
                                       last ? LKS_LAYOUT_CHANNELS_LAST : LKS_LAYOUT_ROWS, true);
        check_image(&transform, bytes, from_bytes ? (void *)bytes : floats, 0, 0, 0, false);
        lks_transform_free(&transform);
    }
}

/* Paddings up to more than the image's size, every place of the crop, mirrored or not. */
static void every_crop_and_flip(void **state) {
    (void)state;
    uint8_t bytes[PIXELS];
    float floats[PIXELS];
    make_image(bytes, floats);
    const int crops[] = {0, 1, 2, 6};
    for (int variant = 0; variant < 4; variant++)
        for (int k = 0; k < 4; k++) {
            bool last = variant & 1, from_bytes = variant & 2;
            char options[160];
            snprintf(options, sizeof options,
                     "scale=0.00392156862745098 mean=[0.5,0.25,0] std=[1,2,0.5] random_crop=%d "
                     "horizontal_flip=true",
                     crops[k]);
            lks_transform transform =
                made(&(lks_shape){3, {C, H, W}}, from_bytes ? LKS_U8 : LKS_F32, options,
                     last ? LKS_LAYOUT_CHANNELS_LAST : LKS_LAYOUT_ROWS, true);
            for (int top = 0; top <= 2 * crops[k]; top++)
                for (int left = 0; left <= 2 * crops[k]; left++)
                    for (int mirrored = 0; mirrored < 2; mirrored++)
                        check_image(&transform, bytes, from_bytes ? (void *)bytes : floats,
                                    crops[k], top, left, mirrored);
            lks_transform_free(&transform);
        }
}

/* What would mirror the image if that were asked for. */
static void a_crop_alone_does_not_mirror(void **state) {
    (void)state;
    const float row[4] = {1, 2, 3, 4}, expected[4] = {0, 0, 0, 1};
    float out[4];
    lks_transform transform =
        made(&(lks_shape){3, {1, 2, 2}}, LKS_F32, "random_crop=1", LKS_LAYOUT_ROWS, true);
    lks_transform_apply(&transform, row, (lks_philox_block){{0, 0, ~0u, 0}}, out);
    assert_memory_equal(out, expected, sizeof out);
    lks_transform_free(&transform);
}

static void no_augmentation_in_validation(void **state) {
    (void)state;
    const float row[4] = {1, 2, 3, 4};
    float out[4];
    lks_transform transform = made(&(lks_shape){3, {1, 2, 2}}, LKS_F32,
                                   "random_crop=2 horizontal_flip=true", LKS_LAYOUT_ROWS, false);
    lks_transform_apply(&transform, row, (lks_philox_block){{~0u, ~0u, ~0u, ~0u}}, out);
    assert_memory_equal(out, row, sizeof row);
    lks_transform_free(&transform);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_number_for_all),
        cmocka_unit_test(nothing_asked_changes_nothing),
        cmocka_unit_test(one_number_for_each_feature),
        cmocka_unit_test(images_in_both_layouts),
        cmocka_unit_test(every_crop_and_flip),
        cmocka_unit_test(a_crop_alone_does_not_mirror),
        cmocka_unit_test(no_augmentation_in_validation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
