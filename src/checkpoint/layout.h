/* The HDF5 side of saving: the file without the data of its arrays. Rank 0's alone; local.
 *
 * HDF5 works on a file in memory, in which the arrays are holes, and the disk sees plain writes,
 * whose errors are exact. HDF5 itself does not survive an error of the disk: in its parallel mode
 * it leaves the other ranks waiting for ever when writing metadata fails on one. */
#ifndef LKS_CHECKPOINT_LAYOUT_H
#define LKS_CHECKPOINT_LAYOUT_H

#include "checkpoint/content.h"

typedef struct lks_file_layout {
    int memory; /* descriptor of the file in memory; -1: none */
    lks_h5_file *file;
    int64_t bytes; /* of the whole file */
} lks_file_layout;
#define LKS_FILE_LAYOUT_NONE \
    { .memory = -1 }

/* Begins the file, with the attributes. size: of the communicator. out: none so far. LKS_EIO,
 * LKS_ENOMEM, LKS_EINVAL; end it with free in any case. */
lks_status lks_file_layout_open(const lks_checkpoint_content *given, int size,
                                lks_file_layout *out);
/* Lays out the arrays; sets each array's offset and the layout's bytes. Errors as above. */
lks_status lks_file_layout_arrays(lks_file_layout *layout, lks_save_content *content);
/* Adds the hashes of all blocks and sets the final size. Afterwards nothing changes any more. */
lks_status lks_file_layout_finish(lks_file_layout *layout, lks_save_content *content,
                                  const int64_t *hashes);
/* Writes everything but the data of the arrays to `descriptor`, and the trailer. path: for
 * messages. LKS_EIO, LKS_ENOMEM. */
lks_status lks_file_layout_copy(const lks_file_layout *layout, const lks_save_content *content,
                                int descriptor, const char *path);
void lks_file_layout_free(lks_file_layout *layout, lks_save_content *content);

#endif
