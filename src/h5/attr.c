/* Attributes: small values beside groups and arrays. */
#include <stdlib.h>
#include <string.h>

#include "h5/internal.h"

enum { MAX_TEXT_BYTES = 60 << 10 };

/* Where an attribute is, for messages and calls. */
typedef struct attr_place {
    lks_h5_file *file;
    const char *path;
    const char *name;
} attr_place;

static lks_status fail_attr(const attr_place *place, lks_status status, const char *what) {
    return lks_h5_fail(status, "%s: attribute %s of %s: %s", place->file->path, place->name,
                       place->path, what);
}

/* ---- writing ---- */

/* Replaces the attribute. space and type are closed by the caller. */
static lks_status write_locked(const attr_place *place, hid_t type, hid_t space,
                               const void *value) {
    hid_t file = place->file->id;
    if (!lks_h5_path_exists(file, place->path))
        return lks_h5_fail_missing(place->file, place->path);
    if (H5Aexists_by_name(file, place->path, place->name, H5P_DEFAULT) > 0 &&
        H5Adelete_by_name(file, place->path, place->name, H5P_DEFAULT) < 0)
        return fail_attr(place, LKS_EIO, "cannot be replaced");
    hid_t attribute = H5Acreate_by_name(file, place->path, place->name, type, space, H5P_DEFAULT,
                                        H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) return fail_attr(place, LKS_EIO, "cannot be created");
    lks_status status = LKS_OK;
    if (value != NULL && H5Awrite(attribute, type, value) < 0)
        status = fail_attr(place, LKS_EIO, "writing failed");
    H5Aclose(attribute);
    return status;
}

/* count < 0: a scalar. */
static lks_status write_value(const attr_place *place, hid_t type, int count, const void *value) {
    hsize_t dims = count < 0 ? 1 : (hsize_t)count;
    hid_t space = count < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &dims, NULL);
    if (space < 0) return fail_attr(place, LKS_ENOMEM, "no memory");
    lks_status status = write_locked(place, type, space, count == 0 ? NULL : value);
    H5Sclose(space);
    return status;
}

lks_status lks_h5_write_attr_i64(lks_h5_file *file, const char *path, const char *name,
                                 int64_t value) {
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = write_value(&(attr_place){file, path, name}, H5T_NATIVE_INT64, -1, &value);
    lks_h5_leave(guard);
    return status;
}

lks_status lks_h5_write_attr_f64(lks_h5_file *file, const char *path, const char *name,
                                 const double *values, int count) {
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = write_value(&(attr_place){file, path, name}, H5T_NATIVE_DOUBLE,
                                    count == 1 ? -1 : count, values);
    lks_h5_leave(guard);
    return status;
}

/* A variable-length UTF-8 string, which h5py reads as str. */
static hid_t text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        type = H5I_INVALID_HID;
    }
    return type;
}

lks_status lks_h5_write_attr_text(lks_h5_file *file, const char *path, const char *name,
                                  const char *text) {
    attr_place place = {file, path, name};
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = LKS_OK;
    hid_t type = H5I_INVALID_HID;
    if (strlen(text) > MAX_TEXT_BYTES)
        status = lks_fail(LKS_EINVAL,
                          "%s: attribute %s of %s: %zu bytes of text are too long for an "
                          "attribute (at most %d); store them as a uint8 array",
                          file->path, name, path, strlen(text), MAX_TEXT_BYTES);
    else if ((type = text_type()) < 0)
        status = fail_attr(&place, LKS_ENOMEM, "no memory");
    else
        status = write_value(&place, type, -1, &text);
    if (type >= 0) H5Tclose(type);
    lks_h5_leave(guard);
    return status;
}

/* ---- reading ---- */

static lks_status open_attr(const attr_place *place, hid_t *out) {
    hid_t file = place->file->id;
    if (!lks_h5_path_exists(file, place->path))
        return lks_h5_fail_missing(place->file, place->path);
    if (H5Aexists_by_name(file, place->path, place->name, H5P_DEFAULT) <= 0)
        return lks_fail(LKS_EDATA, "%s: %s has no attribute %s", place->file->path, place->path,
                        place->name);
    *out = H5Aopen_by_name(file, place->path, place->name, H5P_DEFAULT, H5P_DEFAULT);
    return *out < 0 ? fail_attr(place, LKS_EDATA, "cannot be opened") : LKS_OK;
}

/* Reads numbers of the attribute's class; *out_count may exceed neither INT_MAX nor capacity. */
static lks_status read_numbers(const attr_place *place, hid_t type, int capacity, void *values,
                               int *out_count) {
    hid_t attribute = H5I_INVALID_HID, space = H5I_INVALID_HID, stored = H5I_INVALID_HID;
    lks_status status = open_attr(place, &attribute);
    if (status != LKS_OK) return status;
    space = H5Aget_space(attribute);
    stored = H5Aget_type(attribute);
    if (space < 0 || stored < 0) {
        status = fail_attr(place, LKS_EDATA, "has no type or shape");
        goto done;
    }
    H5T_class_t number_class = H5Tget_class(stored);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    if (number_class != H5T_INTEGER && number_class != H5T_FLOAT)
        status = lks_fail(LKS_EDATA, "%s: attribute %s of %s is not a number", place->file->path,
                          place->name, place->path);
    else if (count > capacity)
        status = lks_fail(LKS_EDATA, "%s: attribute %s of %s has %lld values, expected at most %d",
                          place->file->path, place->name, place->path, (long long)count, capacity);
    else if (count > 0 && H5Aread(attribute, type, values) < 0)
        status = fail_attr(place, LKS_EIO, "reading failed");
    *out_count = status == LKS_OK ? (int)count : 0;
done:
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attribute);
    return status;
}

lks_status lks_h5_read_attr_i64(lks_h5_file *file, const char *path, const char *name,
                                int64_t *out) {
    int count = 0;
    lks_h5_guard guard = lks_h5_enter();
    lks_status status =
        read_numbers(&(attr_place){file, path, name}, H5T_NATIVE_INT64, 1, out, &count);
    lks_h5_leave(guard);
    if (status == LKS_OK && count != 1)
        return lks_fail(LKS_EDATA, "%s: attribute %s of %s is empty, expected one integer",
                        file->path, name, path);
    return status;
}

lks_status lks_h5_read_attr_f64(lks_h5_file *file, const char *path, const char *name, double *out,
                                int capacity, int *out_count) {
    lks_h5_guard guard = lks_h5_enter();
    lks_status status =
        read_numbers(&(attr_place){file, path, name}, H5T_NATIVE_DOUBLE, capacity, out, out_count);
    lks_h5_leave(guard);
    return status;
}

static lks_status read_variable_text(const attr_place *place, hid_t attribute, char **out) {
    hid_t type = text_type();
    if (type < 0) return fail_attr(place, LKS_ENOMEM, "no memory");
    char *text = NULL; /* HDF5's allocation */
    lks_status status = LKS_OK;
    if (H5Aread(attribute, type, &text) < 0)
        status = fail_attr(place, LKS_EIO, "reading failed");
    else if ((*out = lks_strdup(text != NULL ? text : "")) == NULL)
        status = lks_fail(LKS_ENOMEM, "%s: attribute %s of %s: out of memory", place->file->path,
                          place->name, place->path);
    H5free_memory(text);
    H5Tclose(type);
    return status;
}

static lks_status read_fixed_text(const attr_place *place, hid_t attribute, hid_t stored,
                                  char **out) {
    size_t bytes = H5Tget_size(stored);
    char *text = calloc(1, bytes + 1);
    if (text == NULL)
        return lks_fail(LKS_ENOMEM, "%s: attribute %s of %s: out of memory", place->file->path,
                        place->name, place->path);
    if (H5Aread(attribute, stored, text) < 0) {
        lks_status status = fail_attr(place, LKS_EIO, "reading failed");
        free(text);
        return status;
    }
    *out = text;
    return LKS_OK;
}

static lks_status read_text(const attr_place *place, char **out) {
    hid_t attribute = H5I_INVALID_HID;
    lks_status status = open_attr(place, &attribute);
    if (status != LKS_OK) return status;
    hid_t stored = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    if (stored < 0 || space < 0)
        status = fail_attr(place, LKS_EDATA, "has no type or shape");
    else if (H5Tget_class(stored) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1)
        status = lks_fail(LKS_EDATA, "%s: attribute %s of %s is not a text", place->file->path,
                          place->name, place->path);
    else if (H5Tis_variable_str(stored) > 0)
        status = read_variable_text(place, attribute, out);
    else
        status = read_fixed_text(place, attribute, stored, out);
    if (space >= 0) H5Sclose(space);
    if (stored >= 0) H5Tclose(stored);
    H5Aclose(attribute);
    return status;
}

lks_status lks_h5_read_attr_text(lks_h5_file *file, const char *path, const char *name,
                                 char **out) {
    *out = NULL;
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = read_text(&(attr_place){file, path, name}, out);
    lks_h5_leave(guard);
    return status;
}
