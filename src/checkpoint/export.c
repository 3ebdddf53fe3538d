/* Exporting: the format lays the file out, then the arrays' data go where they belong. */
#include "checkpoint/export.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/format.h"

static const lks_weights_format *const formats[] = {&lks_safetensors_format,
                                                    &lks_plain_hdf5_format};
enum { FORMAT_COUNT = sizeof formats / sizeof *formats };

/* ---- formats ---- */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

static bool has_suffix_of(const char *path, const lks_weights_format *format) {
    for (int i = 0; format->suffixes[i]; i++)
        if (ends_with(path, format->suffixes[i])) return true;
    return false;
}

static lks_status refuse_name(const char *name) {
    const char *names[FORMAT_COUNT];
    for (int i = 0; i < FORMAT_COUNT; i++)
        names[i] = formats[i]->name;
    (void)lks_fail_unknown("format", name, names, FORMAT_COUNT);
    return LKS_EINVAL;
}

static lks_status refuse_suffix(const char *path) {
    lks_strbuf known = {0};
    for (int i = 0; i < FORMAT_COUNT; i++)
        for (int s = 0; formats[i]->suffixes[s]; s++)
            lks_strbuf_add(&known, "%s%s", known.length ? ", " : "", formats[i]->suffixes[s]);
    lks_status status = lks_fail(LKS_EINVAL, "%s: its end tells no format, expected one of %s",
                                 path, known.failed ? "those that are known" : known.text);
    lks_strbuf_free(&known);
    return status;
}

lks_status lks_weights_format_find(const char *name, const char *path,
                                   const lks_weights_format **out) {
    for (int i = 0; i < FORMAT_COUNT; i++) {
        *out = formats[i];
        if (name ? strcmp(name, (*out)->name) == 0 : has_suffix_of(path, *out)) return LKS_OK;
    }
    return name ? refuse_name(name) : refuse_suffix(path);
}

const char *lks_weights_format_name(const lks_weights_format *format) {
    return format->name;
}

/* ---- which arrays ---- */

typedef struct export_list {
    const char *group; /* "/model" */
    lks_export_array *arrays;
    int count, capacity;
} export_list;

static void free_list(export_list *list) {
    for (int i = 0; i < list->count; i++)
        free(list->arrays[i].path);
    free(list->arrays);
}

static lks_status append(export_list *list, lks_export_array array) {
    if (list->count == list->capacity) {
        int capacity = list->capacity ? 2 * list->capacity : 64;
        lks_export_array *grown = realloc(list->arrays, (size_t)capacity * sizeof *grown);
        if (!grown) return lks_fail(LKS_ENOMEM, "out of memory");
        list->arrays = grown;
        list->capacity = capacity;
    }
    array.path = lks_strdup(array.path);
    if (!array.path) return lks_fail(LKS_ENOMEM, "out of memory");
    array.name = array.path + strlen(list->group) + 1;
    list->arrays[list->count++] = array;
    return LKS_OK;
}

static lks_status list_array(void *data, const char *path, lks_dtype dtype,
                             const lks_shape *shape) {
    export_list *list = data;
    size_t length = strlen(list->group);
    if (strncmp(path, list->group, length) != 0 || path[length] != '/') return LKS_OK;
    lks_export_array array = {.path = (char *)path, .dtype = dtype, .shape = *shape};
    lks_status status = lks_shape_bytes(shape, lks_dtype_bytes(dtype), &array.count, &array.bytes);
    return status ? lks_fail_in(status, "%s", path) : append(list, array);
}

/* ---- writing ---- */

/* Whole blocks at a time, because a block is read as a whole to be verified. */
static lks_status copy_array(lks_checkpoint *from, const lks_export_array *array, int descriptor,
                             const char *path, void *buffer) {
    size_t bytes = lks_dtype_bytes(array->dtype);
    int64_t most = LKS_EXPORT_BUFFER_BYTES / (int64_t)bytes;
    lks_status status = LKS_OK;
    for (int64_t first = 0; !status && first < array->count; first += most) {
        int64_t left = array->count - first;
        lks_piece piece = {.first = first, .count = left < most ? left : most, .data = buffer};
        lks_checkpoint_array wanted = {.path = array->path,
                                       .dtype = array->dtype,
                                       .shape = array->shape,
                                       .pieces = &piece,
                                       .piece_count = 1};
        status = lks_checkpoint_read(from, &wanted);
        if (!status)
            status = lks_file_write_at(descriptor, path, buffer, (size_t)piece.count * bytes,
                                       array->offset + first * (int64_t)bytes);
    }
    return status;
}

_Static_assert(LKS_EXPORT_BUFFER_BYTES % LKS_BLOCK_BYTES == 0, "whole blocks fit");

static lks_status copy_arrays(lks_checkpoint *from, const export_list *list, int descriptor,
                              const char *path) {
    void *buffer = malloc(LKS_EXPORT_BUFFER_BYTES);
    if (!buffer) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < list->count; i++)
        status = copy_array(from, &list->arrays[i], descriptor, path, buffer);
    free(buffer);
    return status;
}

/* The file under its temporary name, which becomes `path` at the end. */
static lks_status write_file(lks_checkpoint *from, export_list *list, const lks_weights_note *notes,
                             int note_count, const lks_weights_format *format,
                             const char *temporary, const char *path) {
    int descriptor = -1;
    lks_status status = lks_file_open(temporary, true, &descriptor);
    if (!status)
        status =
            format->lay_out(list->arrays, list->count, notes, note_count, descriptor, temporary);
    if (!status) status = copy_arrays(from, list, descriptor, temporary);
    if (!status) status = lks_file_sync(descriptor, temporary);
    if (descriptor >= 0) close(descriptor);
    if (!status) status = lks_file_rename(temporary, path);
    if (status) unlink(temporary);
    return status;
}

lks_status lks_weights_export(lks_checkpoint *from, const char *group,
                              const lks_weights_note *notes, int note_count,
                              const lks_weights_format *format, const char *path,
                              lks_exchange_summary *out) {
    *out = (lks_exchange_summary){0};
    export_list list = {.group = group};
    char *temporary = NULL;
    uint64_t token;
    lks_status status = lks_checkpoint_visit(from, list_array, &list);
    if (!status && list.count == 0)
        status = lks_fail(LKS_ECHECKPOINT, "there are no arrays in %s", group);
    if (!status) status = lks_file_create_temporary(path, &token);
    if (!status) {
        temporary = lks_file_temporary_name(path, token);
        status = temporary ? write_file(from, &list, notes, note_count, format, temporary, path)
                           : lks_fail(LKS_ENOMEM, "out of memory");
    }
    out->array_count = list.count;
    for (int i = 0; i < list.count; i++) {
        out->element_count += list.arrays[i].count;
        out->bytes += list.arrays[i].bytes;
    }
    free(temporary);
    free_list(&list);
    return status;
}
