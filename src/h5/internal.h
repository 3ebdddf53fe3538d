/* Shared by the files of src/h5 alone. */
#ifndef LKS_H5_INTERNAL_H
#define LKS_H5_INTERNAL_H

#include <hdf5.h>

#include "h5/h5.h"

struct lks_h5_file {
    char *path;
    hid_t id;
};

struct lks_h5_array {
    lks_h5_file *file;
    char *path;
    hid_t id;
    lks_h5_info info;
    int64_t count;                    /* elements */
    int64_t row_count;                /* elements of one row */
    int64_t stride[LKS_MAX_DIMS + 1]; /* elements between neighbours of a dimension; [rank] is 1 */
};

/* What lks_h5_enter changed and lks_h5_leave puts back: HDF5's printing of errors belongs to the
 * program that embeds this library. */
typedef struct lks_h5_guard {
    H5E_auto2_t print;
    void *print_data;
} lks_h5_guard;

/* Every HDF5 call stands between these two: they hold the lock. Nothing between them may call an
 * interface function of this room. */
lks_h5_guard lks_h5_enter(void);
void lks_h5_leave(lks_h5_guard guard);

/* lks_fail with HDF5's own words for the HDF5 call that failed last. Call it before any other HDF5
 * call. */
lks_status lks_h5_fail(lks_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- inside the lock ---- */

/* Is there an object at `path`? Every part of the path is looked up. */
bool lks_h5_path_exists(hid_t file, const char *path);
/* Makes the groups of `path`, its last part included when `last`. */
lks_status lks_h5_make_groups(lks_h5_file *file, const char *path, bool last);
/* LKS_EDATA: "FILE has no PATH; it holds: ..." */
lks_status lks_h5_fail_missing(lks_h5_file *file, const char *path);
/* Shape, type and chunks of an open data set. LKS_EDATA for more than LKS_MAX_DIMS dimensions. */
lks_status lks_h5_inspect(lks_h5_file *file, const char *path, hid_t dataset, lks_h5_info *out);

#endif
