/* IDX and CIFAR-10 files: what is read, and what every kind of broken file says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <zlib.h>

#include "data/data.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

static const int64_t PLENTY = (int64_t)1 << 30;

/* images, labels: names in the temporary folder; labels may be NULL. */
static lks_status open_idx(const char *images, const char *labels, int64_t memory,
                           lks_dataset **out) {
    char text[700];
    int length = snprintf(text, sizeof text, "images=%s", temp_path(images));
    if (labels != NULL)
        snprintf(text + length, sizeof text - (size_t)length, " labels=%s", temp_path(labels));
    return lks_dataset_open(&(lks_spec){.type = "idx", .options = text}, memory, out);
}

static lks_status open_cifar10(const char *files, int64_t memory, lks_dataset **out) {
    char text[400];
    snprintf(text, sizeof text, "files=%s", temp_path(files));
    return lks_dataset_open(&(lks_spec){.type = "cifar10", .options = text}, memory, out);
}

static void write_compressed(const char *path, const void *bytes, unsigned count) {
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, count), count);
    assert_int_equal(gzclose(file), Z_OK);
}

static size_t read_whole(const char *path, void *bytes, size_t capacity) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t count = fread(bytes, 1, capacity, file);
    fclose(file);
    return count;
}

/* 5 images of 2 x 3 bytes, pixel p of image i is 10 * i + p, and their labels 5 - i. */
enum { IMAGES = 5, PIXELS = 6, HEADER = 16 };
static const uint8_t label_file[8 + IMAGES] = {0, 0, 8, 1, 0, 0, 0, IMAGES, 5, 4, 3, 2, 1};

static void make_images(uint8_t *bytes) {
    const uint8_t header[HEADER] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, 2, 0, 0, 0, 3};
    memcpy(bytes, header, HEADER);
    for (int i = 0; i < IMAGES * PIXELS; i++)
        bytes[HEADER + i] = (uint8_t)(10 * (i / PIXELS) + i % PIXELS);
}

static void check_images(lks_dataset *dataset) {
    const int64_t wanted[4] = {4, 0, 2, 2};
    float inputs[4 * PIXELS];
    int32_t labels[4];
    assert_int_equal(lks_dataset_count(dataset), IMAGES);
    assert_true(lks_shape_equal(lks_dataset_input_shape(dataset), &(lks_shape){3, {1, 2, 3}}));
    assert_int_equal(lks_dataset_target_kind(dataset), LKS_TARGET_CLASSES);
    assert_ok(lks_dataset_read(dataset, wanted, 4, inputs, labels));
    for (int i = 0; i < 4 * PIXELS; i++)
        assert_true(inputs[i] == (float)(10 * wanted[i / PIXELS] + i % PIXELS));
    for (int i = 0; i < 4; i++)
        assert_int_equal(labels[i], 5 - wanted[i]);
}

static void idx_plain_and_compressed(void **state) {
    (void)state;
    uint8_t bytes[HEADER + IMAGES * PIXELS];
    make_images(bytes);
    /* the names lie: content decides */
    temp_write(temp_path("images.gz"), bytes, sizeof bytes);
    temp_write(temp_path("labels.gz"), label_file, sizeof label_file);
    write_compressed(temp_path("images.raw"), bytes, sizeof bytes);
    write_compressed(temp_path("labels.raw"), label_file, sizeof label_file);
    const char *images[] = {"images.gz", "images.raw", "images.gz"};
    const char *labels[] = {"labels.gz", "labels.raw", "labels.raw"};
    const int64_t memory[] = {PLENTY, 30, 13};
    for (int i = 0; i < 3; i++) {
        lks_dataset *dataset = NULL;
        assert_ok(open_idx(images[i], labels[i], memory[i], &dataset));
        check_images(dataset);
        lks_dataset_destroy(dataset);
    }
    lks_dataset *dataset = NULL;
    assert_int_equal(open_idx("images.raw", NULL, 29, &dataset), LKS_ECONFIG);
    assert_error_has("images.raw is compressed and takes 30 bytes in memory, of which 29 are left");
    assert_null(dataset);
}

static void idx_of_every_type(void **state) {
    (void)state;
    /* two rows of one number each, -2 and 3 (unsigned: 254 and 3) */
    const struct {
        uint8_t bytes[12 + 16];
        size_t count;
        float first;
        lks_target_kind kind;
    } cases[] = {
        {{0, 0, 0x08, 1, 0, 0, 0, 2, 254, 3}, 10, 254, LKS_TARGET_CLASSES},
        {{0, 0, 0x09, 1, 0, 0, 0, 2, 254, 3}, 10, -2, LKS_TARGET_CLASSES},
        {{0, 0, 0x0B, 1, 0, 0, 0, 2, 255, 254, 0, 3}, 12, -2, LKS_TARGET_CLASSES},
        {{0, 0, 0x0C, 1, 0, 0, 0, 2, 255, 255, 255, 254, 0, 0, 0, 3}, 16, -2, LKS_TARGET_CLASSES},
        {{0, 0, 0x0D, 1, 0, 0, 0, 2, 0xC0, 0, 0, 0, 0x40, 0x40}, 16, -2, LKS_TARGET_VALUES},
        {{0, 0, 0x0E, 1, 0, 0, 0, 2, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x08},
         24,
         -2,
         LKS_TARGET_VALUES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lks_dataset *dataset = NULL;
        const int64_t both[2] = {0, 1};
        float inputs[2];
        int32_t labels[2];
        float values[2];
        bool classes = cases[i].kind == LKS_TARGET_CLASSES;
        temp_write(temp_path("typed"), cases[i].bytes, cases[i].count);
        assert_ok(open_idx("typed", "typed", i % 2 == 0 ? PLENTY : 1, &dataset));
        assert_int_equal(lks_dataset_target_kind(dataset), cases[i].kind);
        assert_ok(lks_dataset_read(dataset, both, 2, inputs, classes ? (void *)labels : values));
        assert_true(inputs[0] == cases[i].first && inputs[1] == 3);
        assert_true(classes ? labels[0] == (int)cases[i].first && labels[1] == 3
                            : values[0] == -2 && values[1] == 3);
        lks_dataset_destroy(dataset);
    }
}

static void idx_labels_are_checked(void **state) {
    (void)state;
    uint8_t bytes[HEADER + IMAGES * PIXELS];
    make_images(bytes);
    temp_write(temp_path("images"), bytes, sizeof bytes);
    temp_write(temp_path("labels"), label_file, sizeof label_file);
    lks_dataset *dataset = NULL;
    assert_ok(open_idx("images", "labels", PLENTY, &dataset));
    assert_int_equal(lks_dataset_check_labels(dataset, 5, -100), LKS_EDATA);
    assert_error_has("labels: labels[0] is 5: expected a label in 0..4");
    lks_dataset_destroy(dataset);

    const uint8_t four[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 0, 0, 0};
    temp_write(temp_path("labels"), four, sizeof four);
    assert_int_equal(open_idx("images", "labels", PLENTY, &dataset), LKS_EDATA);
    assert_error_has("has 5 samples, but");
    assert_null(dataset);
}

static void idx_headers_that_make_no_sense(void **state) {
    (void)state;
    const struct {
        uint8_t bytes[28];
        size_t count;
        const char *says;
    } cases[] = {
        {{0}, 0, "empty"},
        {{1, 0, 8, 1, 0, 0, 0, 1, 0}, 9, "not an IDX file: it begins with 01 00 08 01"},
        {{0, 0, 0x0A, 1, 0, 0, 0, 1, 0}, 9, "not an IDX file"},
        {{0, 0, 8, 0}, 4, "not an IDX file"},
        {{0, 0, 8, 7}, 4, "not an IDX file"},
        {{0, 0, 8, 1, 0, 0, 0, 0}, 8, "is empty"},
        {{0, 0, 8, 1, 0, 0, 0, 1, 0, 0}, 10, "is too long"},
        {{0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 0}, 12, "shape [0]"},
        /* 2^32 - 1 in every dimension: sizes beyond 64 bits */
        {{0,   0,   8,   6,   255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
          255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
         28,
         "makes no sense"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lks_dataset *dataset = NULL;
        temp_write(temp_path("odd"), cases[i].bytes, cases[i].count);
        assert_int_equal(open_idx("odd", NULL, PLENTY, &dataset), LKS_EDATA);
        assert_error_has(cases[i].says);
        assert_error_has("/odd");
        assert_null(dataset);
    }
    lks_dataset *dataset = NULL;
    assert_int_equal(open_idx("absent", NULL, PLENTY, &dataset), LKS_EIO);
    assert_error_has("No such file");
    assert_int_equal(open_idx(".", NULL, PLENTY, &dataset), LKS_EIO);
    assert_error_has("directory");
}

static void idx_cut_anywhere_is_refused(void **state) {
    (void)state;
    uint8_t bytes[HEADER + IMAGES * PIXELS], packed[256];
    make_images(bytes);
    lks_dataset *dataset = NULL;
    for (size_t length = 0; length < sizeof bytes; length++) {
        temp_write(temp_path("cut"), bytes, length);
        assert_int_equal(open_idx("cut", NULL, length % 2 ? PLENTY : 7, &dataset), LKS_EDATA);
        assert_null(dataset);
    }
    assert_error_has("truncated");
    write_compressed(temp_path("packed"), bytes, sizeof bytes);
    size_t packed_bytes = read_whole(temp_path("packed"), packed, sizeof packed);
    assert_in_range(packed_bytes, 20, sizeof packed - 1);
    for (size_t length = 0; length < packed_bytes; length++) {
        temp_write(temp_path("cut"), packed, length);
        assert_int_equal(open_idx("cut", NULL, PLENTY, &dataset), LKS_EDATA);
        assert_null(dataset);
    }
    assert_error_has("truncated");
}

/* One bit flipped anywhere in a compressed file: found by its checksum, or the content is still
 * whole, because the bit means nothing (it fills up a byte, or stands in a header's field without
 * meaning for the content). */
static void idx_damaged_compressed_files(void **state) {
    (void)state;
    uint8_t bytes[HEADER + IMAGES * PIXELS], packed[256];
    make_images(bytes);
    temp_write(temp_path("labels"), label_file, sizeof label_file);
    write_compressed(temp_path("packed"), bytes, sizeof bytes);
    size_t count = read_whole(temp_path("packed"), packed, sizeof packed);
    int found = 0;
    for (size_t bit = 0; bit < 8 * count; bit++) {
        lks_dataset *dataset = NULL;
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        temp_write(temp_path("damaged"), packed, count);
        lks_status status = open_idx("damaged", "labels", PLENTY, &dataset);
        found += status == LKS_EDATA;
        if (status == LKS_OK)
            check_images(dataset);
        else
            assert_int_equal(status, LKS_EDATA);
        lks_dataset_destroy(dataset);
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(found > (int)(8 * (count - 10))); /* 10 bytes of header */
}

static void idx_longer_than_its_header_says(void **state) {
    (void)state;
    uint8_t bytes[HEADER + IMAGES * PIXELS + 1] = {0};
    make_images(bytes);
    write_compressed(temp_path("long"), bytes, sizeof bytes);
    lks_dataset *dataset = NULL;
    assert_int_equal(open_idx("long", NULL, PLENTY, &dataset), LKS_EDATA);
    assert_error_has("holds more than the 5 rows of 6 bytes");
}

/* ---- CIFAR-10 ---- */

enum { RECORD = 3073 };

/* `count` records; byte b of record r's image is r * 7 + b, its label r % 10. */
static void make_records(uint8_t *bytes, int first, int count) {
    for (int r = 0; r < count; r++) {
        bytes[r * RECORD] = (uint8_t)((first + r) % 10);
        for (int b = 0; b < RECORD - 1; b++)
            bytes[r * RECORD + 1 + b] = (uint8_t)((first + r) * 7 + b);
    }
}

static void write_three_batches(void) {
    static uint8_t bytes[20 * RECORD];
    const int counts[3] = {20, 1, 17};
    int first = 0;
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i + 1);
        make_records(bytes, first, counts[i]);
        temp_write(temp_path(name), bytes, (size_t)counts[i] * RECORD);
        first += counts[i];
    }
}

static void cifar10_of_several_files(void **state) {
    (void)state;
    write_three_batches();
    const int64_t budgets[] = {PLENTY, 1, 10000};
    for (int k = 0; k < 3; k++) {
        lks_dataset *dataset = NULL;
        static float inputs[38][RECORD - 1];
        int32_t labels[38];
        int64_t order[38];
        assert_ok(open_cifar10("data_batch_*.bin", budgets[k], &dataset));
        assert_int_equal(lks_dataset_count(dataset), 38);
        assert_true(
            lks_shape_equal(lks_dataset_input_shape(dataset), &(lks_shape){3, {3, 32, 32}}));
        lks_sampler_permutation(1, 1, 38, order);
        assert_ok(lks_dataset_read(dataset, order, 38, &inputs[0][0], labels));
        for (int i = 0; i < 38; i++) {
            assert_int_equal(labels[i], order[i] % 10);
            for (int b = 0; b < RECORD - 1; b++)
                assert_true(inputs[i][b] == (float)(uint8_t)(order[i] * 7 + b));
        }
        lks_dataset_destroy(dataset);
    }
}

static void cifar10_labels_name_their_file(void **state) {
    (void)state;
    write_three_batches();
    lks_dataset *dataset = NULL;
    assert_ok(open_cifar10("data_batch_[13].bin", PLENTY, &dataset));
    assert_int_equal(lks_dataset_count(dataset), 37);
    assert_ok(lks_dataset_check_labels(dataset, 10, -100));
    lks_dataset_destroy(dataset);

    uint8_t bytes[2 * RECORD] = {0};
    bytes[RECORD] = 77;
    temp_write(temp_path("data_batch_2.bin"), bytes, sizeof bytes);
    assert_ok(open_cifar10("data_batch_*.bin", PLENTY, &dataset));
    assert_int_equal(lks_dataset_check_labels(dataset, 10, -100), LKS_EDATA);
    assert_error_has("data_batch_2.bin: labels[1] is 77: expected a label in 0..9");
    lks_dataset_destroy(dataset);
}

/* Whole records are a smaller data set; anything else is refused. */
static void cifar10_cut_anywhere(void **state) {
    (void)state;
    static uint8_t bytes[2 * RECORD];
    make_records(bytes, 0, 2);
    for (size_t length = 0; length < 2 * RECORD; length += length < 10 ? 1 : 61) {
        lks_dataset *dataset = NULL;
        temp_write(temp_path("cut.bin"), bytes, length);
        assert_int_equal(open_cifar10("cut.bin", PLENTY, &dataset), LKS_EDATA);
        assert_error_has("cut.bin");
        assert_null(dataset);
    }
    lks_dataset *dataset = NULL;
    temp_write(temp_path("cut.bin"), bytes, RECORD);
    assert_ok(open_cifar10("cut.bin", PLENTY, &dataset));
    assert_int_equal(lks_dataset_count(dataset), 1);
    lks_dataset_destroy(dataset);

    assert_int_equal(open_cifar10("absent_*.bin", PLENTY, &dataset), LKS_EIO);
    assert_error_has("absent_*.bin: no such file");
    assert_int_equal(open_cifar10(".", PLENTY, &dataset), LKS_EIO);
    assert_error_has("not a file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_plain_and_compressed),
        cmocka_unit_test(idx_of_every_type),
        cmocka_unit_test(idx_labels_are_checked),
        cmocka_unit_test(idx_headers_that_make_no_sense),
        cmocka_unit_test(idx_cut_anywhere_is_refused),
        cmocka_unit_test(idx_damaged_compressed_files),
        cmocka_unit_test(idx_longer_than_its_header_says),
        cmocka_unit_test(cifar10_of_several_files),
        cmocka_unit_test(cifar10_labels_name_their_file),
        cmocka_unit_test(cifar10_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
