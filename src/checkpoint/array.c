/* An array in the file: HDF5 says where it lies, plain pread reads its blocks. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/reader.h"

/* Type, shape and place. */
static lks_status inspect(lks_h5_array *data, lks_stored_array *out) {
    const lks_h5_info *info = lks_h5_array_info(data);
    if (!lks_dtype_by_name(info->type_name, &out->dtype))
        return lks_fail(LKS_ECHECKPOINT, "%s: %s is %s, which checkpoints do not hold",
                        out->checkpoint->path, out->path, info->type_name);
    int64_t count;
    lks_status status = lks_shape_count(&info->shape, &count);
    if (status) return lks_fail_in(LKS_ECHECKPOINT, "%s: %s", out->checkpoint->path, out->path);
    out->shape = info->shape;
    out->grid = lks_block_grid_make(count, out->dtype);
    out->offset = lks_h5_array_file_offset(data);
    if (out->offset < 0 && count > 0)
        return lks_fail(LKS_ECHECKPOINT, "%s: %s is not stored as one run of %s",
                        out->checkpoint->path, out->path, info->type_name);
    return LKS_OK;
}

static lks_status read_hashes(lks_stored_array *array, const char *path) {
    const lks_checkpoint *checkpoint = array->checkpoint;
    lks_h5_array *stored;
    lks_status status = lks_checkpoint_status(lks_h5_open_array(checkpoint->file, path, &stored));
    if (status) return status;
    const lks_h5_info *info = lks_h5_array_info(stored);
    lks_shape expected = {.rank = 1, .dim = {array->grid.block_count}};
    if (!lks_shape_equal(&info->shape, &expected) || strcmp(info->type_name, "int64") != 0) {
        char found[LKS_SHAPE_TEXT_BYTES];
        status = lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected int64 [%lld]",
                          checkpoint->path, path, info->type_name,
                          lks_shape_text(&info->shape, found), (long long)array->grid.block_count);
    }
    if (!status) {
        array->hashes = calloc((size_t)array->grid.block_count + 1, sizeof *array->hashes);
        if (!array->hashes) status = lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    }
    if (!status)
        status = lks_checkpoint_status(
            lks_h5_read(stored, 0, array->grid.block_count, LKS_I64, array->hashes));
    lks_h5_close_array(stored);
    return status;
}

lks_status lks_stored_array_open(const lks_checkpoint *checkpoint, const char *path,
                                 lks_stored_array *out) {
    *out = (lks_stored_array){.checkpoint = checkpoint, .path = path};
    lks_h5_array *data;
    lks_status status = lks_checkpoint_status(lks_h5_open_array(checkpoint->file, path, &data));
    if (status) return status;
    status = inspect(data, out);
    lks_h5_close_array(data);
    if (status) return status;
    char *hashes = lks_integrity_path(path);
    if (!hashes) return lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    status = read_hashes(out, hashes);
    free(hashes);
    return status;
}

void lks_stored_array_close(lks_stored_array *array) {
    free(array->hashes);
    array->hashes = NULL;
}

static lks_span block_in_file(const lks_stored_array *array, int64_t block) {
    int64_t begin, end, bytes = (int64_t)array->grid.element_bytes;
    lks_block_range(&array->grid, block, &begin, &end);
    return (lks_span){array->offset + begin * bytes, array->offset + end * bytes};
}

void lks_stored_array_expect(const lks_stored_array *array, int64_t block) {
    lks_file_expect(array->checkpoint->descriptor, block_in_file(array, block));
}

lks_status lks_stored_array_read(const lks_stored_array *array, int64_t block, void *data,
                                 bool *out_intact) {
    lks_span place = block_in_file(array, block);
    size_t bytes = (size_t)(place.end - place.begin);
    lks_status status = lks_file_read_at(array->checkpoint->descriptor, array->checkpoint->path,
                                         data, bytes, place.begin);
    *out_intact = !status && lks_hash(data, bytes) == array->hashes[block];
    return status;
}
