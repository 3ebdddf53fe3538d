/* Reading the headers of safetensors files: sound ones, and those of an enemy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

/* Writes a file whose header is said to have `length` bytes, with `data_bytes` zeros behind it. */
static const char *write_file(uint64_t length, const char *header, size_t header_bytes,
                              size_t data_bytes) {
    size_t bytes = 8 + header_bytes + data_bytes;
    char *content = calloc(bytes, 1);
    assert_non_null(content);
    for (int i = 0; i < 8; i++)
        content[i] = (char)(unsigned char)(length >> (8 * i));
    memcpy(content + 8, header, header_bytes);
    const char *path = temp_path("file.safetensors");
    temp_write(path, content, bytes);
    free(content);
    return path;
}

static const char *with_header(const char *header, size_t data_bytes) {
    return write_file(strlen(header), header, strlen(header), data_bytes);
}

static void refused(const char *path, const char *message) {
    lks_safetensors file;
    lks_status status = lks_safetensors_open(path, &file);
    lks_safetensors_close(&file);
    assert_int_equal(status, LKS_EDATA);
    assert_error_has(message);
    assert_error_has(path);
}

static void sound_file(void **state) {
    (void)state;
    /* Not in the order of their places, one without bytes, one without dimensions. */
    const char *path =
        with_header("{\"__metadata__\":{\"format\":\"pt\",\"epoch\":\"3\"},"
                    "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[24,30]},"
                    "\"a.w\":{\"shape\":[2,3],\"dtype\":\"F32\",\"data_offsets\":[0,24]},"
                    "\"none\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[30,30]},"
                    "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[30,38]}}   ",
                    38);
    lks_safetensors file;
    assert_ok(lks_safetensors_open(path, &file));
    assert_int_equal(file.tensor_count, 4);
    const char *names[] = {"a.w", "b", "none", "n"};
    const int64_t counts[] = {6, 3, 0, 1}, bytes[] = {24, 6, 0, 8};
    int64_t at = file.tensors[0].offset;
    for (int i = 0; i < 4; i++) {
        assert_string_equal(file.tensors[i].name, names[i]);
        assert_int_equal(file.tensors[i].count, counts[i]);
        assert_int_equal(file.tensors[i].bytes, bytes[i]);
        assert_int_equal(file.tensors[i].offset, at);
        at += bytes[i];
    }
    assert_int_equal(file.tensors[0].shape.rank, 2);
    assert_int_equal(file.tensors[0].shape.dim[1], 3);
    assert_int_equal(file.tensors[3].shape.rank, 0);
    assert_string_equal(file.metadata, "{\"format\":\"pt\",\"epoch\":\"3\"}");
    lks_safetensors_close(&file);

    assert_ok(lks_safetensors_open(with_header("{}", 0), &file));
    assert_int_equal(file.tensor_count, 0);
    assert_null(file.metadata);
    lks_safetensors_close(&file);
}

static void no_safetensors_file(void **state) {
    (void)state;
    const char *path = temp_path("file.safetensors");
    temp_write(path, "", 0);
    refused(path, "only 0 bytes");
    temp_write(path, "1234567", 7);
    refused(path, "only 7 bytes");
    temp_write(path, "PK\3\4................", 20);
    refused(path, "torch.save");
    temp_write(path, "\211HDF\r\n\032\n............", 20);
    refused(path, "it is an HDF5 file");
    refused(write_file(0, "", 0, 16), "does not begin with a brace");
    refused(with_header(" {}", 0), "does not begin with a brace");

    lks_safetensors file;
    assert_int_equal(lks_safetensors_open(temp_path("no-such-file"), &file), LKS_EIO);
    assert_error_has("No such file");
    assert_int_equal(lks_safetensors_open(temp_folder, &file), LKS_EIO);
    assert_error_has("is a folder, expected a file");
    lks_safetensors_close(&file);
}

static void lengths_beyond_the_file(void **state) {
    (void)state;
    refused(write_file(3, "{}", 2, 0), "its header would need 3");
    refused(write_file(UINT64_MAX, "{}", 2, 0), "its header would need 18446744073709551615");
    refused(write_file(UINT64_MAX - 7, "{}", 2, 0), "cut off");
    refused(write_file((uint64_t)1 << 63, "{}", 2, 100), "cut off");
}

static void headers_that_are_no_sound_json(void **state) {
    (void)state;
    static const char *const headers[] = {
        "{",
        "{]",
        "{} x",
        "{\"a\":}",
        "{'a':1}",
        "{\"a\":1e999}",
        "{\"a\":99999999999999999999}", /* more than 64 bits */
        "{\"a\\u0000b\":{}}",           /* a name that C would cut */
        "{\"\xff\xfe\":{}}",            /* no UTF-8 */
        "{\"\xed\xa0\x80\":{}}",        /* half a surrogate pair */
        "{\"\xc0\xaf\":{}}",            /* overlong */
        "{\"\x1b[31m\":{}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        refused(with_header(headers[i], 0), "is no valid JSON");
    refused(write_file(5, "{\"a\0\"", 5, 0), "is no valid JSON");
}

static void json_deeper_than_any_header(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *header = malloc(2 * DEPTH + 16);
    assert_non_null(header);
    size_t length = (size_t)sprintf(header, "{\"a\":");
    memset(header + length, '[', DEPTH);
    memset(header + length + DEPTH, ']', DEPTH);
    length += 2 * DEPTH;
    header[length++] = '}';
    const char *path = write_file(length, header, length, 0);
    free(header);
    refused(path, "is no valid JSON");
}

static void names(void **state) {
    (void)state;
    const char *twice = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                        "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    refused(with_header(twice, 8), "duplicate object key");
    refused(with_header("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4),
            "is empty or holds control characters");
    refused(with_header("{\"a\\u001b[2J\":{\"dtype\":\"F32\",\"shape\":[1],"
                        "\"data_offsets\":[0,4]}}",
                        4),
            "is empty or holds control characters");
}

/* One tensor called `t` with these values, as JSON, over 16 bytes of data. */
static void tensor_refused(const char *dtype, const char *shape, const char *offsets,
                           const char *message) {
    char header[512];
    snprintf(header, sizeof header, "{\"t\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}",
             dtype, shape, offsets);
    refused(with_header(header, 16), message);
    assert_error_has("tensor t");
}

static void dtypes(void **state) {
    (void)state;
    static const char *const others[] = {"\"I32\"", "\"U8\"", "\"BOOL\"", "\"F8_E4M3\"", "\"f32\""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        tensor_refused(others[i], "[4]", "[0,16]", "expected F32, F16, BF16, F64 or I64");
    tensor_refused("\"\\u001b[2J\"", "[4]", "[0,16]", "has the dtype ?");
    tensor_refused("4", "[4]", "[0,16]", "its dtype is missing");
    refused(with_header("{\"t\":[]}", 0), "its dtype is missing");
    refused(with_header("{\"t\":null}", 0), "its dtype is missing");
}

static void shapes(void **state) {
    (void)state;
    tensor_refused("\"F32\"", "[-4]", "[0,16]", "its shape is no list");
    tensor_refused("\"F32\"", "[4.0]", "[0,16]", "its shape is no list");
    tensor_refused("\"F32\"", "[\"4\"]", "[0,16]", "its shape is no list");
    tensor_refused("\"F32\"", "4", "[0,16]", "its shape is no list");
    tensor_refused("\"F32\"", "[1,1,1,1,1,1,4]", "[0,16]", "its shape is no list of at most 6");
    tensor_refused("\"F32\"", "[4294967296,4294967296]", "[0,16]", "can be counted");
    /* 2^62 elements can be counted, and 2^64 bytes would come back to 0. */
    tensor_refused("\"F32\"", "[4611686018427387904]", "[0,0]", "can be counted");
    tensor_refused("\"F64\"", "[1152921504606846976]", "[0,16]", "can be counted");
    tensor_refused("\"F32\"", "[3]", "[0,16]", "F32 [3] needs 12 bytes");
    tensor_refused("\"F16\"", "[4]", "[0,16]", "F16 [4] needs 8 bytes");
}

static void places(void **state) {
    (void)state;
    tensor_refused("\"F32\"", "[4]", "[16,0]", "do not lie in the file's 16 bytes");
    tensor_refused("\"F32\"", "[4]", "[-16,0]", "are not two integers");
    tensor_refused("\"F32\"", "[4]", "[4,20]", "do not lie in the file's 16 bytes");
    tensor_refused("\"F32\"", "[4]", "[9223372036854775804,9223372036854775807]", "do not lie");
    tensor_refused("\"F32\"", "[4]", "[0]", "are not two integers");
    tensor_refused("\"F32\"", "[4]", "[0,16,16]", "are not two integers");
    tensor_refused("\"F32\"", "[4]", "null", "are not two integers");
    const char *ab = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%d,%d]},"
                     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%d,%d]}}";
    char header[256];
    snprintf(header, sizeof header, ab, 0, 8, 4, 12);
    refused(with_header(header, 12), "the tensors a and b overlap");
    snprintf(header, sizeof header, ab, 0, 8, 0, 8);
    refused(with_header(header, 8), "overlap");
    snprintf(header, sizeof header, ab, 0, 8, 12, 20);
    refused(with_header(header, 20), "a gap of 4 bytes before tensor b");
    snprintf(header, sizeof header, ab, 8, 16, 0, 8);
    refused(with_header(header, 20), "its last 4 bytes belong to no tensor");
}

static void metadata(void **state) {
    (void)state;
    static const char *const headers[] = {
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"epoch\":3}}",
        "{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        refused(with_header(headers[i], 0), "no map from texts to texts");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_file),
        cmocka_unit_test(no_safetensors_file),
        cmocka_unit_test(lengths_beyond_the_file),
        cmocka_unit_test(headers_that_are_no_sound_json),
        cmocka_unit_test(json_deeper_than_any_header),
        cmocka_unit_test(names),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(shapes),
        cmocka_unit_test(places),
        cmocka_unit_test(metadata),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
