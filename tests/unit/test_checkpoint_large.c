/* Arrays with more elements than 32 bits can count. The file is sparse: only pieces that lie far
 * out are written and read, the rest is a hole. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/layout.h"
#include "checkpoint/pieces.h"
#include "unit/status_check.h"

enum { BLOCK = 1 << 20 }; /* elements of float32 in 4 MiB */
/* 2^33 + 1 elements: 8192 whole blocks and one of a single element. */
static const lks_shape shape = {2, {3, 2863311531}};
static const int64_t last_blocks = (int64_t)8191 * BLOCK, middle = (int64_t)1 << 31;

static float value_of(int64_t element) {
    return (float)(element % 8191) + 0.5f;
}

static lks_checkpoint_array describe(const lks_piece *pieces, int count) {
    return (lks_checkpoint_array){"/model/huge", LKS_F32, shape, pieces, count};
}

/* Two whole blocks at the end; a few elements on both sides of element 2^31. */
static void save(int descriptor, const char *path) {
    float *ends = malloc((BLOCK + 1) * sizeof *ends), around[20];
    assert_non_null(ends);
    for (int i = 0; i <= BLOCK; i++)
        ends[i] = value_of(last_blocks + i);
    for (int i = 0; i < 20; i++)
        around[i] = value_of(middle - 10 + i);
    const lks_piece given[] = {{middle - 10, 20, around}, {last_blocks, BLOCK + 1, ends}};
    const lks_checkpoint_array array = describe(given, 2);
    const lks_checkpoint_content whole = {.arrays = &array, .array_count = 1};

    lks_save_content content;
    lks_file_layout layout = LKS_FILE_LAYOUT_NONE;
    assert_ok(lks_save_content_make(&whole, 0, &content));
    assert_ok(lks_file_layout_open(&whole, 1, &layout));
    assert_ok(lks_file_layout_arrays(&layout, &content));
    assert_true(layout.bytes > (int64_t)1 << 35);
    lks_pieces pieces = {.content = &content, .descriptor = descriptor, .path = path};
    pieces.hashes = calloc((size_t)content.block_count, sizeof *pieces.hashes);
    pieces.block = malloc(LKS_BLOCK_BYTES);
    assert_int_equal(content.block_count, 8193);
    assert_true(pieces.hashes && pieces.block);
    assert_true(lks_pieces_next_window(&pieces, INT64_MAX));
    assert_ok(lks_pieces_write(&pieces));
    /* Half of a block's elements are "another rank's", and not there yet. */
    assert_int_equal(ftruncate(descriptor, layout.bytes), 0);
    assert_ok(lks_pieces_check(&pieces));
    assert_false(lks_pieces_next_window(&pieces, INT64_MAX));
    assert_ok(lks_file_layout_finish(&layout, &content, pieces.hashes));
    assert_ok(lks_file_layout_copy(&layout, &content, descriptor, path));
    lks_file_layout_free(&layout, &content);
    lks_save_content_free(&content);
    free(pieces.hashes);
    free(pieces.block);
    free(ends);
}

static void check(const char *path) {
    float *ends = calloc(BLOCK + 1, sizeof *ends), right[10] = {0}, left[10];
    lks_piece wanted[] = {{middle, 10, right}, {last_blocks, BLOCK + 1, ends}};
    lks_checkpoint_array array = describe(wanted, 2);
    lks_checkpoint *checkpoint;
    assert_ok(lks_checkpoint_open(path, &checkpoint));
    assert_ok(lks_checkpoint_read(checkpoint, &array));
    for (int i = 0; i < 10; i++)
        assert_true(right[i] == value_of(middle + i));
    for (int i = 0; i <= BLOCK; i++)
        assert_true(ends[i] == value_of(last_blocks + i));
    /* Nobody hashed the block before 2^31. */
    wanted[0] = (lks_piece){middle - 10, 10, left};
    assert_int_equal(lks_checkpoint_read(checkpoint, &array), LKS_ECHECKPOINT);
    assert_error_has("block 2047 of 8193 (elements 2146435072 to 2147483647)");
    lks_checkpoint_close(checkpoint);
    free(ends);
}

static void elements_beyond_32_bits_come_back(void **state) {
    (void)state;
    char path[] = "/tmp/lockstep-test-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    save(descriptor, path);
    check(path);
    close(descriptor);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_beyond_32_bits_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
