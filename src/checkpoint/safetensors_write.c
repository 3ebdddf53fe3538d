#include <inttypes.h>
#include <stdlib.h>

#include "checkpoint/export.h"

/* The data begin at a multiple of this, and the widest elements stand first, so that every element
 * lies where a program that maps the file may use it. */
enum { ALIGNMENT = 8 };

/* Gives each array its place in the data; returns their bytes. */
static int64_t place_arrays(lks_export_array *arrays, int count) {
    int64_t at = 0;
    for (size_t width = ALIGNMENT; width > 0; width /= 2)
        for (int i = 0; i < count; i++) {
            if (lks_dtype_bytes(arrays[i].dtype) != width) continue;
            arrays[i].offset = at;
            at += arrays[i].bytes;
        }
    return at;
}

static void print_notes(const lks_weights_note *notes, int count, lks_strbuf *out) {
    lks_strbuf_add(out, "\"__metadata__\":{\"format\":\"pt\"");
    for (int i = 0; i < count; i++) {
        lks_strbuf_add(out, ",");
        lks_strbuf_add_json(out, notes[i].name);
        lks_strbuf_add(out, ":");
        lks_strbuf_add_json(out, notes[i].value);
    }
    lks_strbuf_add(out, "}");
}

static lks_status print_array(const lks_export_array *array, lks_strbuf *out) {
    char shape[LKS_SHAPE_TEXT_BYTES];
    const char *dtype = array->dtype == LKS_F32 ? "F32" : array->dtype == LKS_I64 ? "I64" : NULL;
    if (!dtype)
        return lks_fail(LKS_ECHECKPOINT, "%s is %s, expected float32 or int64", array->path,
                        lks_dtype_name(array->dtype));
    lks_strbuf_add(out, ",");
    lks_strbuf_add_json(out, array->name);
    lks_strbuf_add(
        out, ":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", dtype,
        lks_shape_text(&array->shape, shape), array->offset, array->offset + array->bytes);
    return LKS_OK;
}

/* The length of the header, and the header, padded with blanks. */
static lks_status print_header(const lks_export_array *arrays, int array_count,
                               const lks_weights_note *notes, int note_count, lks_strbuf *out) {
    static const char length[8];
    lks_status status = LKS_OK;
    lks_strbuf_add_bytes(out, length, sizeof length); /* known at the end */
    lks_strbuf_add(out, "{");
    print_notes(notes, note_count, out);
    for (int i = 0; !status && i < array_count; i++)
        status = print_array(&arrays[i], out);
    lks_strbuf_add(out, "}");
    while (!out->failed && out->length % ALIGNMENT != 0)
        lks_strbuf_add(out, " ");
    uint64_t header_bytes = out->length - sizeof length;
    for (size_t i = 0; !out->failed && i < sizeof length; i++)
        out->text[i] = (char)(unsigned char)(header_bytes >> (8 * i));
    if (!status && out->failed) status = lks_fail(LKS_ENOMEM, "out of memory");
    return status;
}

static lks_status lay_out(lks_export_array *arrays, int array_count, const lks_weights_note *notes,
                          int note_count, int descriptor, const char *path) {
    lks_strbuf header = {0};
    int64_t data_bytes = place_arrays(arrays, array_count);
    lks_status status = print_header(arrays, array_count, notes, note_count, &header);
    int64_t data_begin = (int64_t)header.length;
    for (int i = 0; i < array_count; i++)
        arrays[i].offset += data_begin;
    if (!status) status = lks_file_reserve(descriptor, path, data_begin + data_bytes);
    if (!status) status = lks_file_write_at(descriptor, path, header.text, header.length, 0);
    lks_strbuf_free(&header);
    return status;
}

const lks_weights_format lks_safetensors_format = {
    .name = "safetensors",
    .suffixes = {".safetensors"},
    .lay_out = lay_out,
};
