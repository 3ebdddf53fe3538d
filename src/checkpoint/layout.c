#include "checkpoint/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/file.h"
#include "lockstep/version.h"

/* A text and its hash: texts stand in a part of the file that has no checksum of HDF5's. */
static lks_status write_text(lks_h5_file *file, const char *path, const char *name,
                             const char *text) {
    lks_status status = lks_h5_write_attr_text(file, path, name, text);
    if (status) return status;
    char *key = lks_integrity_attr(path, name);
    if (!key) return lks_fail(LKS_ENOMEM, "out of memory");
    status = lks_h5_write_attr_i64(file, LKS_INTEGRITY_GROUP, key, lks_hash(text, strlen(text)));
    free(key);
    return status;
}

static lks_status write_root(lks_h5_file *file, int size) {
    char created[24];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);

    lks_status status = lks_h5_create_group(file, LKS_INTEGRITY_GROUP);
    if (!status) status = lks_h5_write_attr_text(file, LKS_INTEGRITY_GROUP, "algorithm", "XXH3-64");
    if (!status)
        status = lks_h5_write_attr_i64(file, LKS_INTEGRITY_GROUP, "block_bytes", LKS_BLOCK_BYTES);
    if (!status) status = write_text(file, "/", LKS_ATTR_FORMAT, LKS_CHECKPOINT_FORMAT);
    if (!status)
        status = lks_h5_write_attr_i64(file, "/", LKS_ATTR_VERSION, LKS_CHECKPOINT_FORMAT_VERSION);
    if (!status) status = write_text(file, "/", "lockstep_version", LKS_VERSION);
    if (!status) status = write_text(file, "/", "created", created);
    if (!status) status = lks_h5_write_attr_i64(file, "/", "ranks_at_save", size);
    /* True already: what says so reaches the disk after all the data. */
    if (!status) status = lks_h5_write_attr_i64(file, "/", LKS_ATTR_COMPLETE, 1);
    return status;
}

static lks_status write_attr(lks_h5_file *file, const lks_checkpoint_attr *attr) {
    if (lks_attr_is_long(attr)) return LKS_OK; /* an array by now */
    lks_status status = LKS_OK;
    if (!lks_h5_exists(file, attr->path)) status = lks_h5_create_group(file, attr->path);
    if (status) return status;
    switch (attr->kind) {
    case LKS_ATTR_I64:
        return lks_h5_write_attr_i64(file, attr->path, attr->name, attr->i64);
    case LKS_ATTR_F64:
        return lks_h5_write_attr_f64(file, attr->path, attr->name, attr->f64, attr->count);
    case LKS_ATTR_TEXT:
        return write_text(file, attr->path, attr->name, attr->text);
    }
    return lks_fail(LKS_EINVAL, "attribute %s of %s: unknown kind %d", attr->name, attr->path,
                    (int)attr->kind);
}

static lks_status create_array(lks_h5_file *file, lks_save_array *entry) {
    const lks_checkpoint_array *array = entry->array;
    lks_h5_array *data;
    lks_status status = lks_h5_create_array(file, array->path, array->dtype, &array->shape, &data);
    if (status) return status;
    entry->offset = lks_h5_array_file_offset(data);
    lks_h5_close_array(data);
    if (entry->offset < 0 && entry->grid.count > 0)
        return lks_fail(LKS_EINTERNAL, "array %s has no place in the file", array->path);

    char *path = lks_integrity_path(array->path);
    if (!path) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_shape shape = {.rank = 1, .dim = {entry->grid.block_count}};
    status = lks_h5_create_array(file, path, LKS_I64, &shape, &entry->hashes);
    free(path);
    return status;
}

static lks_status measure(lks_file_layout *layout) {
    struct stat info;
    if (fstat(layout->memory, &info) != 0)
        return lks_fail(LKS_EIO, "cannot see the size of a file in memory: %s", strerror(errno));
    layout->bytes = info.st_size;
    return LKS_OK;
}

lks_status lks_file_layout_make(const lks_checkpoint_content *given, int size,
                                lks_save_content *content, lks_file_layout *out) {
    *out = (lks_file_layout)LKS_FILE_LAYOUT_NONE;
    lks_status status = lks_h5_create_in_memory(&out->memory, &out->file);
    if (!status) status = write_root(out->file, size);
    for (int i = 0; !status && i < given->attr_count; i++)
        status = write_attr(out->file, &given->attrs[i]);
    for (int i = 0; !status && i < content->array_count; i++)
        status = create_array(out->file, &content->arrays[i]);
    if (!status) status = lks_h5_flush(out->file);
    return status ? status : measure(out);
}

static lks_status close_layout(lks_file_layout *layout, lks_save_content *content) {
    for (int i = 0; i < content->array_count; i++) {
        if (content->arrays[i].hashes) lks_h5_close_array(content->arrays[i].hashes);
        content->arrays[i].hashes = NULL;
    }
    lks_status status = lks_h5_close(layout->file);
    layout->file = NULL;
    return status;
}

lks_status lks_file_layout_finish(lks_file_layout *layout, lks_save_content *content,
                                  const int64_t *hashes) {
    for (int i = 0; i < content->array_count; i++) {
        const lks_save_array *entry = &content->arrays[i];
        lks_status status = lks_h5_write(entry->hashes, 0, entry->grid.block_count, LKS_I64,
                                         hashes + entry->first_block);
        if (status) return status;
    }
    lks_status status = close_layout(layout, content);
    /* closing gives back what HDF5 had set aside for metadata that did not come */
    return status ? status : measure(layout);
}

/* ---- the way to the disk ---- */

typedef struct span {
    int64_t begin, end; /* bytes of the file */
} span;

static int compare_spans(const void *a, const void *b) {
    const span *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Where the data of the arrays stand, in ascending order; NULL when out of memory. */
static span *data_spans(const lks_save_content *content, int *out_count) {
    span *spans = calloc((size_t)content->array_count + 1, sizeof *spans);
    if (!spans) return NULL;
    int count = 0;
    for (int i = 0; i < content->array_count; i++) {
        const lks_save_array *entry = &content->arrays[i];
        int64_t bytes = entry->grid.count * (int64_t)entry->grid.element_bytes;
        if (bytes > 0) spans[count++] = (span){entry->offset, entry->offset + bytes};
    }
    qsort(spans, (size_t)count, sizeof *spans, compare_spans);
    *out_count = count;
    return spans;
}

static lks_status copy_span(const lks_file_layout *layout, span s, int descriptor,
                            const char *path) {
    char buffer[1 << 16];
    while (s.begin < s.end) {
        int64_t left = s.end - s.begin;
        size_t bytes = left < (int64_t)sizeof buffer ? (size_t)left : sizeof buffer;
        lks_status status =
            lks_file_read_at(layout->memory, "a file in memory", buffer, bytes, s.begin);
        if (!status) status = lks_file_write_at(descriptor, path, buffer, bytes, s.begin);
        if (status) return status;
        s.begin += (int64_t)bytes;
    }
    return LKS_OK;
}

lks_status lks_file_layout_copy(const lks_file_layout *layout, const lks_save_content *content,
                                int descriptor, const char *path) {
    int count;
    span *data = data_spans(content, &count);
    if (!data) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = LKS_OK;
    int64_t begin = 0;
    for (int i = 0; !status && i <= count; i++) {
        int64_t end = i < count ? data[i].begin : layout->bytes;
        status = copy_span(layout, (span){begin, end}, descriptor, path);
        if (i < count) begin = data[i].end;
    }
    free(data);
    if (!status && ftruncate(descriptor, layout->bytes) != 0)
        status = lks_fail(LKS_EIO, "cannot cut %s to its size: %s", path, strerror(errno));
    return status;
}

void lks_file_layout_free(lks_file_layout *layout, lks_save_content *content) {
    (void)close_layout(layout, content);
    if (layout->memory >= 0) close(layout->memory);
    *layout = (lks_file_layout)LKS_FILE_LAYOUT_NONE;
}
