/* Arrays: creating, opening, and moving their elements. */
#include <stdlib.h>
#include <string.h>

#include "h5/internal.h"

/* More at once gains nothing. */
static const int64_t MAX_TRANSFER_BYTES = (int64_t)1 << 30;

/* The type in files: little-endian everywhere. */
static hid_t file_type(lks_dtype dtype) {
    switch (dtype) {
    case LKS_F32:
        return H5T_IEEE_F32LE;
    case LKS_F64:
        return H5T_IEEE_F64LE;
    case LKS_I32:
        return H5T_STD_I32LE;
    case LKS_I64:
        return H5T_STD_I64LE;
    case LKS_U8:
        return H5T_STD_U8LE;
    case LKS_BF16:
        break;
    }
    return H5I_INVALID_HID;
}

static hid_t memory_type(lks_dtype dtype) {
    switch (dtype) {
    case LKS_F32:
        return H5T_NATIVE_FLOAT;
    case LKS_F64:
        return H5T_NATIVE_DOUBLE;
    case LKS_I32:
        return H5T_NATIVE_INT32;
    case LKS_I64:
        return H5T_NATIVE_INT64;
    case LKS_U8:
        return H5T_NATIVE_UINT8;
    case LKS_BF16:
        break;
    }
    return H5I_INVALID_HID;
}

static void free_array(lks_h5_array *array) {
    if (array == NULL) return;
    if (array->id >= 0) H5Dclose(array->id);
    free(array->path);
    free(array);
}

static lks_h5_array *new_array(lks_h5_file *file, const char *path) {
    lks_h5_array *array = calloc(1, sizeof *array);
    if (array == NULL) return NULL;
    array->file = file;
    array->id = H5I_INVALID_HID;
    array->path = lks_strdup(path + strspn(path, "/"));
    if (array->path == NULL) {
        free(array);
        return NULL;
    }
    return array;
}

/* Everything that follows from the open data set. */
static lks_status complete_array(lks_h5_array *array) {
    lks_status status = lks_h5_inspect(array->file, array->path, array->id, &array->info);
    if (status != LKS_OK) return status;
    const lks_shape *shape = &array->info.shape;
    status = lks_shape_count(shape, &array->count);
    if (status != LKS_OK) return lks_fail_in(LKS_EDATA, "%s: %s", array->file->path, array->path);
    array->stride[shape->rank] = 1;
    for (int i = shape->rank - 1; i >= 0; i--)
        array->stride[i] = array->stride[i + 1] * shape->dim[i];
    array->row_count = shape->rank > 0 ? array->stride[1] : 1;
    return LKS_OK;
}

static lks_status create_locked(lks_h5_array *array, hid_t type, const lks_shape *shape) {
    hsize_t dims[LKS_MAX_DIMS];
    for (int i = 0; i < shape->rank; i++)
        dims[i] = (hsize_t)shape->dim[i];
    hid_t space =
        shape->rank > 0 ? H5Screate_simple(shape->rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    lks_status status = lks_h5_make_groups(array->file, array->path, false);
    if (status != LKS_OK) goto done;
    /* Early: the place in the file is known at once. Never: every element is written anyway. */
    if (space < 0 || creation < 0 || H5Pset_layout(creation, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) < 0 ||
        H5Pset_obj_track_times(creation, false) < 0 ||
        (array->id = H5Dcreate2(array->file->id, array->path, type, space, H5P_DEFAULT, creation,
                                H5P_DEFAULT)) < 0) {
        status =
            lks_h5_fail(LKS_EIO, "%s: cannot create the array %s", array->file->path, array->path);
        goto done;
    }
    status = complete_array(array);
done:
    if (creation >= 0) H5Pclose(creation);
    if (space >= 0) H5Sclose(space);
    return status;
}

lks_status lks_h5_create_array(lks_h5_file *file, const char *path, lks_dtype dtype,
                               const lks_shape *shape, lks_h5_array **out) {
    *out = NULL;
    lks_h5_array *array = new_array(file, path);
    if (array == NULL) return lks_fail(LKS_ENOMEM, "%s: %s: out of memory", file->path, path);
    lks_h5_guard guard = lks_h5_enter();
    hid_t type = file_type(dtype);
    lks_status status = type >= 0 ? create_locked(array, type, shape)
                                  : lks_fail(LKS_EINVAL, "%s: %s: arrays of %s cannot be stored",
                                             file->path, path, lks_dtype_name(dtype));
    lks_h5_leave(guard);
    if (status != LKS_OK) {
        lks_h5_close_array(array);
        return status;
    }
    *out = array;
    return LKS_OK;
}

static lks_status open_locked(lks_h5_file *file, const char *path, lks_h5_array **out) {
    if (!lks_h5_path_exists(file->id, path)) return lks_h5_fail_missing(file, path);
    lks_h5_array *array = new_array(file, path);
    if (array == NULL) return lks_fail(LKS_ENOMEM, "%s: %s: out of memory", file->path, path);
    lks_status status = LKS_OK;
    array->id = H5Dopen2(file->id, path, H5P_DEFAULT);
    if (array->id < 0)
        status = lks_h5_fail(LKS_EDATA, "%s: %s is not an array that can be opened", file->path,
                             array->path);
    else
        status = complete_array(array);
    if (status != LKS_OK) {
        free_array(array);
        return status;
    }
    *out = array;
    return LKS_OK;
}

lks_status lks_h5_open_array(lks_h5_file *file, const char *path, lks_h5_array **out) {
    *out = NULL;
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = open_locked(file, path, out);
    lks_h5_leave(guard);
    return status;
}

void lks_h5_close_array(lks_h5_array *array) {
    lks_h5_guard guard = lks_h5_enter();
    free_array(array);
    lks_h5_leave(guard);
}

const lks_h5_info *lks_h5_array_info(const lks_h5_array *array) {
    return &array->info;
}

/* Are the elements in the file as lks_h5_create_array would store them? */
static bool is_plain(const lks_h5_array *array) {
    lks_dtype dtype;
    if (!lks_dtype_by_name(array->info.type_name, &dtype)) return false;
    hid_t stored = H5Dget_type(array->id);
    bool plain = stored >= 0 && H5Tequal(stored, file_type(dtype)) > 0;
    if (stored >= 0) H5Tclose(stored);
    return plain;
}

int64_t lks_h5_array_file_offset(lks_h5_array *array) {
    lks_h5_guard guard = lks_h5_enter();
    haddr_t offset = is_plain(array) ? H5Dget_offset(array->id) : HADDR_UNDEF;
    lks_h5_leave(guard);
    return offset == HADDR_UNDEF ? -1 : (int64_t)offset;
}

/* ---- moving elements ---- */

/* One of the two pointers is NULL. */
typedef struct transfer {
    hid_t type; /* in memory */
    size_t bytes;
    const char *from;
    char *to;
} transfer;

/* The largest box that starts at flat element `first`, is contiguous in the flattened array, has at
 * most `count` elements and at most MAX_TRANSFER_BYTES. A flat range is at most 2 * rank - 1 such
 * boxes. Returns its number of elements. */
static int64_t next_box(const lks_h5_array *array, int64_t first, int64_t count,
                        size_t element_bytes, hsize_t *start, hsize_t *extent) {
    const lks_shape *shape = &array->info.shape;
    int64_t limit = MAX_TRANSFER_BYTES / (int64_t)element_bytes;
    if (count > limit) count = limit;
    int along = 0; /* the dimension along which the box has more than one slice */
    while (first % array->stride[along + 1] != 0 || array->stride[along + 1] > count)
        along++;
    int64_t slices = count / array->stride[along + 1];
    for (int i = 0; i < shape->rank; i++) {
        start[i] = (hsize_t)(first / array->stride[i + 1] % shape->dim[i]);
        extent[i] = i < along ? 1 : (hsize_t)shape->dim[i];
    }
    int64_t room = shape->dim[along] - (int64_t)start[along];
    if (slices > room) slices = room;
    extent[along] = (hsize_t)slices;
    return slices * array->stride[along + 1];
}

static lks_status move_box(const lks_h5_array *array, const transfer *move, hid_t memory_space,
                           hid_t space, int64_t done) {
    const char *file = array->file->path;
    size_t offset = (size_t)done * move->bytes;
    if (move->to != NULL) {
        if (H5Dread(array->id, move->type, memory_space, space, H5P_DEFAULT, move->to + offset) < 0)
            return lks_h5_fail(LKS_EIO, "%s: %s: reading failed", file, array->path);
    } else if (H5Dwrite(array->id, move->type, memory_space, space, H5P_DEFAULT,
                        move->from + offset) < 0) {
        return lks_h5_fail(LKS_EIO, "%s: %s: writing failed", file, array->path);
    }
    return LKS_OK;
}

/* One box, given where it starts in `space` and how far it extends. */
static lks_status move_selected(const lks_h5_array *array, const transfer *move, hid_t space,
                                const hsize_t *start, const hsize_t *extent, int64_t done) {
    /* As many dimensions as the file's: for others HDF5 goes through chunks element by element. */
    hid_t memory_space = H5Screate_simple(array->info.shape.rank, extent, NULL);
    if (memory_space < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) < 0) {
        lks_status status = lks_h5_fail(LKS_EIO, "%s: %s: selecting elements failed",
                                        array->file->path, array->path);
        if (memory_space >= 0) H5Sclose(memory_space);
        return status;
    }
    lks_status status = move_box(array, move, memory_space, space, done);
    H5Sclose(memory_space);
    return status;
}

static lks_status move_range(const lks_h5_array *array, const transfer *move, int64_t first,
                             int64_t count) {
    if (array->info.shape.rank == 0) return move_box(array, move, H5S_ALL, H5S_ALL, 0);
    hid_t space = H5Dget_space(array->id);
    if (space < 0) return lks_h5_fail(LKS_EIO, "%s: %s: no shape", array->file->path, array->path);
    size_t element_bytes =
        move->bytes > array->info.element_bytes ? move->bytes : array->info.element_bytes;
    lks_status status = LKS_OK;
    for (int64_t done = 0; done < count && status == LKS_OK;) {
        hsize_t start[LKS_MAX_DIMS], extent[LKS_MAX_DIMS];
        int64_t box = next_box(array, first + done, count - done, element_bytes, start, extent);
        status = move_selected(array, move, space, start, extent, done);
        done += box;
    }
    H5Sclose(space);
    return status;
}

static lks_status transfer_range(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                                 transfer move) {
    const char *file = array->file->path;
    if (first < 0 || count < 0 || first > array->count || count > array->count - first)
        return lks_fail(LKS_EINVAL, "%s: %s has no %lld elements from %lld on, it has %lld", file,
                        array->path, (long long)count, (long long)first, (long long)array->count);
    if (count == 0) return LKS_OK;
    if (array->info.number_class == LKS_H5_OTHER)
        return lks_fail(LKS_EDATA, "%s: %s holds %s, expected numbers", file, array->path,
                        array->info.type_name);

    lks_h5_guard guard = lks_h5_enter();
    lks_status status = LKS_OK;
    move.type = memory_type(dtype);
    move.bytes = lks_dtype_bytes(dtype);
    if (move.type < 0)
        status = lks_fail(LKS_EINVAL, "%s: %s: no transfer as %s", file, array->path,
                          lks_dtype_name(dtype));
    else
        status = move_range(array, &move, first, count);
    lks_h5_leave(guard);
    return status;
}

lks_status lks_h5_write(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                        const void *data) {
    return transfer_range(array, first, count, dtype, (transfer){.from = data});
}

lks_status lks_h5_read(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                       void *data) {
    return transfer_range(array, first, count, dtype, (transfer){.to = data});
}

/* Rows to elements. */
static lks_status check_rows(const lks_h5_array *array, int64_t first, int64_t count) {
    int64_t rows = array->info.shape.rank > 0 ? array->info.shape.dim[0] : 1;
    if (first >= 0 && count >= 0 && first <= rows && count <= rows - first) return LKS_OK;
    return lks_fail(LKS_EINVAL, "%s: %s has no %lld rows from %lld on, it has %lld",
                    array->file->path, array->path, (long long)count, (long long)first,
                    (long long)rows);
}

lks_status lks_h5_read_rows(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                            void *data) {
    lks_status status = check_rows(array, first, count);
    if (status != LKS_OK) return status;
    return lks_h5_read(array, first * array->row_count, count * array->row_count, dtype, data);
}
