/* A plain HDF5 file of a few arrays, of which every rank writes the rows that it has. */
#ifndef LKS_CHECKPOINT_ARRAY_FILE_H
#define LKS_CHECKPOINT_ARRAY_FILE_H

#include "base/base.h"
#include "comm/comm.h"

typedef struct lks_array_file lks_array_file;

typedef struct lks_array_file_entry {
    const char *name; /* at the root of the file */
    lks_dtype dtype;
    lks_shape shape; /* rank 1 or more; the first dimension is the row */
} lks_array_file_entry;

/* Lays the file out under a temporary name beside `path`, with room on the disk for all of it; its
 * folder is made where it is missing. Collective; the same verdict on every rank. LKS_EIO,
 * LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_array_file_create(lks_comm *comm, const char *path,
                                 const lks_array_file_entry *entries, int entry_count,
                                 lks_array_file **out);

/* Writes rows [first, first + count) of array `index`. data: [count, the other dimensions], of its
 * dtype. Local. LKS_EIO, LKS_EINVAL. */
lks_status lks_array_file_write(lks_array_file *file, int index, int64_t first, int64_t count,
                                const void *data);

/* Makes the file durable and gives it its name, replacing what had it, or removes it where
 * `status`, which is agreed, is no LKS_OK. Frees `file`; NULL is legal. Collective; returns
 * `status` or, after LKS_OK, the verdict of all ranks. LKS_EIO, LKS_ECOMM. */
lks_status lks_array_file_finish(lks_array_file *file, lks_status status);

#endif
