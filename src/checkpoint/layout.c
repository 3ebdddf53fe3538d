#include "checkpoint/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/trailer.h"
#include "lockstep/version.h"

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
    if (!status) status = lks_h5_write_attr_text(file, "/", LKS_ATTR_FORMAT, LKS_CHECKPOINT_FORMAT);
    if (!status)
        status = lks_h5_write_attr_i64(file, "/", LKS_ATTR_VERSION, LKS_CHECKPOINT_FORMAT_VERSION);
    if (!status) status = lks_h5_write_attr_text(file, "/", "lockstep_version", LKS_VERSION);
    if (!status) status = lks_h5_write_attr_text(file, "/", "created", created);
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
        return lks_h5_write_attr_text(file, attr->path, attr->name, attr->text);
    }
    return lks_fail(LKS_EINVAL, "attribute %s of %s: unknown kind %d", attr->name, attr->path,
                    (int)attr->kind);
}

static lks_status create_array(lks_h5_file *file, lks_save_array *entry) {
    lks_h5_array *data;
    lks_status status = lks_h5_create_array(file, entry->path, entry->dtype, &entry->shape, &data);
    if (status) return status;
    entry->offset = lks_h5_array_file_offset(data);
    lks_h5_close_array(data);
    if (entry->offset < 0 && entry->grid.count > 0)
        return lks_fail(LKS_EINTERNAL, "array %s has no place in the file", entry->path);

    char *path = lks_integrity_path(entry->path);
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

lks_status lks_file_layout_open(const lks_checkpoint_content *given, int size,
                                lks_file_layout *out) {
    lks_status status = lks_h5_create_in_memory(&out->memory, &out->file);
    if (!status) status = write_root(out->file, size);
    for (int i = 0; !status && i < given->attr_count; i++)
        status = write_attr(out->file, &given->attrs[i]);
    return status;
}

lks_status lks_file_layout_arrays(lks_file_layout *layout, lks_save_content *content) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < content->array_count; i++)
        status = create_array(layout->file, &content->arrays[i]);
    if (!status) status = lks_h5_flush(layout->file);
    return status ? status : measure(layout);
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

static int compare_spans(const void *a, const void *b) {
    const lks_span *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Turns the spans of the data, which have a place for one more, into what is between them. */
static int invert_spans(lks_span *spans, int count, int64_t bytes) {
    qsort(spans, (size_t)count, sizeof *spans, compare_spans);
    int64_t begin = 0;
    for (int i = 0; i <= count; i++) {
        lks_span data = i < count ? spans[i] : (lks_span){bytes, bytes};
        spans[i] = (lks_span){begin, data.begin};
        begin = data.end;
    }
    return count + 1;
}

/* All but the data of the arrays, in ascending order; NULL when out of memory. */
static lks_span *find_structure(const lks_file_layout *layout, const lks_save_content *content,
                                int *out_count) {
    lks_span *spans = calloc((size_t)content->array_count + 1, sizeof *spans);
    if (!spans) return NULL;
    int count = 0;
    for (int i = 0; i < content->array_count; i++) {
        const lks_save_array *entry = &content->arrays[i];
        int64_t bytes = entry->grid.count * (int64_t)entry->grid.element_bytes;
        if (bytes > 0) spans[count++] = (lks_span){entry->offset, entry->offset + bytes};
    }
    *out_count = invert_spans(spans, count, layout->bytes);
    return spans;
}

lks_status lks_file_layout_copy(const lks_file_layout *layout, const lks_save_content *content,
                                int descriptor, const char *path) {
    int count;
    lks_span *spans = find_structure(layout, content, &count);
    if (!spans) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = LKS_OK;
    /* What was reserved may be more than what HDF5 needed in the end. */
    if (ftruncate(descriptor, layout->bytes) != 0)
        status = lks_fail(LKS_EIO, "cannot cut %s to its size: %s", path, strerror(errno));
    for (int i = 0; !status && i < count; i++)
        status = lks_file_copy(layout->memory, "a file in memory", descriptor, path, spans[i].begin,
                               spans[i].end);
    if (!status)
        status = lks_trailer_write(layout->memory, spans, count, descriptor, path, layout->bytes);
    free(spans);
    return status;
}

void lks_file_layout_free(lks_file_layout *layout, lks_save_content *content) {
    (void)close_layout(layout, content);
    if (layout->memory >= 0) close(layout->memory);
    *layout = (lks_file_layout)LKS_FILE_LAYOUT_NONE;
}
