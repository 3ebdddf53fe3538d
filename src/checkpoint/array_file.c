#include "checkpoint/array_file.h"

#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/export.h"

struct lks_array_file {
    lks_comm *comm;
    char *path, *temporary; /* the name until the file is whole; set once it may exist */
    int descriptor;         /* -1: not open */
    int array_count;
    lks_export_array *arrays; /* [array_count]; their names are the caller's until create ends */
    int64_t *offsets;         /* [array_count] */
};

/* Where this rank stands before it hears of the others. */
static lks_status prepare(lks_array_file *file, const char *path,
                          const lks_array_file_entry *entries, int entry_count) {
    file->path = lks_strdup(path);
    file->arrays = calloc((size_t)entry_count + 1, sizeof *file->arrays);
    file->offsets = calloc((size_t)entry_count + 1, sizeof *file->offsets);
    file->array_count = entry_count;
    if (!file->path || !file->arrays || !file->offsets)
        return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    for (int i = 0; i < entry_count; i++) {
        lks_export_array *array = &file->arrays[i];
        *array = (lks_export_array){
            .name = entries[i].name, .dtype = entries[i].dtype, .shape = entries[i].shape};
        lks_status status = lks_shape_bytes(&array->shape, lks_dtype_bytes(array->dtype),
                                            &array->count, &array->bytes);
        if (status) return lks_fail_in(status, "%s: %s", path, array->name);
    }
    return LKS_OK;
}

static lks_status open_temporary(lks_array_file *file, uint64_t token) {
    file->temporary = lks_file_temporary_name(file->path, token);
    if (!file->temporary) return lks_fail(LKS_ENOMEM, "%s: out of memory", file->path);
    return lks_file_open(file->temporary, true, &file->descriptor);
}

/* Rank 0. */
static lks_status lay_out(lks_array_file *file, uint64_t *out_token) {
    lks_status status = lks_file_create_temporary(file->path, out_token);
    if (!status) status = open_temporary(file, *out_token);
    if (!status)
        status = lks_plain_hdf5_format.lay_out(file->arrays, file->array_count, NULL, 0,
                                               file->descriptor, file->temporary);
    for (int i = 0; i < file->array_count; i++)
        file->offsets[i] = file->arrays[i].offset;
    return status;
}

/* Every rank learns the temporary name and where each array begins. Collective. */
static lks_status create_together(lks_array_file *file) {
    uint64_t token = 0;
    bool first = lks_comm_rank(file->comm) == 0;
    lks_status status = lks_comm_agree(file->comm, first ? lay_out(file, &token) : LKS_OK);
    if (!status) status = lks_comm_broadcast(file->comm, &token, sizeof token, 0);
    if (!status)
        status = lks_comm_broadcast(file->comm, file->offsets,
                                    file->array_count * (int64_t)sizeof *file->offsets, 0);
    if (status) return status;
    return lks_comm_agree(file->comm, first ? LKS_OK : open_temporary(file, token));
}

static void free_file(lks_array_file *file) {
    if (file->descriptor >= 0) close(file->descriptor);
    free(file->path);
    free(file->temporary);
    free(file->arrays);
    free(file->offsets);
    free(file);
}

lks_status lks_array_file_create(lks_comm *comm, const char *path,
                                 const lks_array_file_entry *entries, int entry_count,
                                 lks_array_file **out) {
    *out = NULL;
    lks_array_file *file = calloc(1, sizeof *file);
    lks_status status =
        lks_comm_agree(comm, file ? LKS_OK : lks_fail(LKS_ENOMEM, "%s: out of memory", path));
    if (status) {
        free(file);
        return status;
    }
    file->comm = comm;
    file->descriptor = -1;
    status = lks_comm_agree(comm, prepare(file, path, entries, entry_count));
    if (!status) status = create_together(file);
    if (status) return lks_array_file_finish(file, status);
    *out = file;
    return LKS_OK;
}

lks_status lks_array_file_write(lks_array_file *file, int index, int64_t first, int64_t count,
                                const void *data) {
    const lks_export_array *array = &file->arrays[index];
    int64_t rows = array->shape.dim[0];
    if (first < 0 || count < 0 || first > rows || count > rows - first)
        return lks_fail(LKS_EINVAL, "%s has no %lld rows from %lld on, it has %lld", file->path,
                        (long long)count, (long long)first, (long long)rows);
    if (count == 0) return LKS_OK;
    int64_t row_bytes = array->bytes / rows;
    return lks_file_write_at(file->descriptor, file->temporary, data, (size_t)(count * row_bytes),
                             file->offsets[index] + first * row_bytes);
}

lks_status lks_array_file_finish(lks_array_file *file, lks_status status) {
    if (!file) return status;
    bool first = lks_comm_rank(file->comm) == 0;
    if (!status)
        status = lks_comm_agree(file->comm, lks_file_sync(file->descriptor, file->temporary));
    if (!status)
        status = lks_comm_agree(file->comm,
                                first ? lks_file_rename(file->temporary, file->path) : LKS_OK);
    if (status && first && file->temporary) unlink(file->temporary);
    free_file(file);
    return status;
}
