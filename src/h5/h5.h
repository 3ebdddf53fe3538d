/* HDF5 files: the only room that knows <hdf5.h>. One lock inside (Debian's parallel build is not
 * thread-safe), so that the loader's thread and the main thread may both call. Errors carry the
 * file, the object's path, and HDF5's own words; HDF5 prints nothing itself.
 */
#ifndef LKS_H5_H
#define LKS_H5_H

#include "base/base.h"

typedef struct lks_h5_file lks_h5_file;
typedef struct lks_h5_array lks_h5_array; /* an open data set */

/* ---- files ---- */

/* Opens for reading, without locking the file. LKS_EIO: missing, unreadable;
 * LKS_EDATA: not HDF5, truncated. */
lks_status lks_h5_open(const char *path, lks_h5_file **out);
/* Does the file begin as HDF5 files do? Nothing else of it is looked at. Local. */
bool lks_h5_has_signature(const char *path);
/* Creates, replacing. */
lks_status lks_h5_create(const char *path, lks_h5_file **out);
/* Creates a file in memory, in which arrays that are not written are holes that
 * take no room. No error of a disk ever meets HDF5 there, which does not survive one: after an
 * H5Fclose that failed HDF5 1.10 crashes at the end of the program. *out_descriptor, by which the
 * file is copied to where it is wanted, is the caller's to close, after the file. LKS_ENOMEM,
 * LKS_EIO. */
lks_status lks_h5_create_in_memory(int *out_descriptor, lks_h5_file **out);
/* Flushes and closes; all arrays are closed before. NULL is legal. LKS_EIO. */
lks_status lks_h5_close(lks_h5_file *file);
/* Writes what HDF5 still keeps in memory. LKS_EIO. */
lks_status lks_h5_flush(lks_h5_file *file);

/* ---- structure ---- */

lks_status lks_h5_create_group(lks_h5_file *file, const char *path); /* parents are made */
bool lks_h5_exists(lks_h5_file *file, const char *path);

typedef enum lks_h5_class { LKS_H5_INTEGER, LKS_H5_FLOAT, LKS_H5_OTHER } lks_h5_class;
typedef struct lks_h5_info {
    lks_h5_class number_class;
    size_t element_bytes;
    bool is_unsigned;
    lks_shape shape;    /* all dimensions, the first is the sample's */
    int64_t chunk_rows; /* rows of a chunk; 0: not chunked */
    char type_name[16]; /* "float32", "uint8", "int64" ... */
} lks_h5_info;

/* An array to write: float32, float64, int32, int64 or uint8. Contiguous. */
lks_status lks_h5_create_array(lks_h5_file *file, const char *path, lks_dtype dtype,
                               const lks_shape *shape, lks_h5_array **out);
lks_status lks_h5_open_array(lks_h5_file *file, const char *path, lks_h5_array **out);
void lks_h5_close_array(lks_h5_array *array);
const lks_h5_info *lks_h5_array_info(const lks_h5_array *array);
/* Byte offset in the file of an array's data, where they are one run of elements of a type that is
 * written here; -1 otherwise. */
int64_t lks_h5_array_file_offset(lks_h5_array *array);

/* ---- data ---- */

/* Elements [first, first + count) of the flattened array (row-major); converts from / to `dtype` in
 * memory. count 0 is legal. */
lks_status lks_h5_write(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                        const void *data);
lks_status lks_h5_read(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                       void *data);
/* Rows (first dimension) [first, first + count). */
lks_status lks_h5_read_rows(lks_h5_array *array, int64_t first, int64_t count, lks_dtype dtype,
                            void *data);

/* ---- attributes of a group or data set (path "/" is the root); small scalars and UTF-8 strings.
 * Writing replaces.
 * Text above 60 KiB is refused: LKS_EINVAL. Reading a missing one: LKS_EDATA. Strings read are
 * malloc'ed. ---- */
lks_status lks_h5_write_attr_i64(lks_h5_file *file, const char *path, const char *name,
                                 int64_t value);
lks_status lks_h5_write_attr_f64(lks_h5_file *file, const char *path, const char *name,
                                 const double *values, int count);
lks_status lks_h5_write_attr_text(lks_h5_file *file, const char *path, const char *name,
                                  const char *text);
lks_status lks_h5_read_attr_i64(lks_h5_file *file, const char *path, const char *name,
                                int64_t *out);
lks_status lks_h5_read_attr_f64(lks_h5_file *file, const char *path, const char *name, double *out,
                                int capacity, int *out_count);
lks_status lks_h5_read_attr_text(lks_h5_file *file, const char *path, const char *name, char **out);

/* Calls `visit` with the name of every attribute of the object `path`, in creation order where the
 * file has kept it. */
typedef lks_status (*lks_h5_visit_attr_fn)(void *data, const char *path, const char *name);
lks_status lks_h5_visit_attrs(lks_h5_file *file, const char *path, lks_h5_visit_attr_fn visit,
                              void *data);

/* ---- walking: calls `visit` for every object below `path`, in creation order, parents first ----
 */
typedef lks_status (*lks_h5_visit_fn)(void *data, const char *path, bool is_group,
                                      const lks_h5_info *info);
lks_status lks_h5_visit(lks_h5_file *file, const char *path, lks_h5_visit_fn visit, void *data);

/* "1.10.8" */
const char *lks_h5_version(void);
/* Is it a build with MPI? */
bool lks_h5_is_parallel(void);

#endif
