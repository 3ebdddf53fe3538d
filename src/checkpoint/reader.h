/* An open checkpoint and an array in it, for the files of src/checkpoint that read. Local. */
#ifndef LKS_CHECKPOINT_READER_H
#define LKS_CHECKPOINT_READER_H

#include "checkpoint/format.h"
#include "h5/h5.h"

struct lks_checkpoint {
    char *path;
    lks_h5_file *file; /* structure and attributes; the arrays' data is read without HDF5 */
    int descriptor;
    char *blocks; /* [2 * LKS_BLOCK_BYTES]: for those that are wanted in part, or only verified */
};

/* An array in the file, with the hashes of its blocks. */
typedef struct lks_stored_array {
    const lks_checkpoint *checkpoint;
    const char *path; /* the caller's */
    lks_dtype dtype;
    lks_shape shape;
    lks_block_grid grid;
    int64_t offset;  /* of its first byte in the file */
    int64_t *hashes; /* [grid.block_count] */
} lks_stored_array;

/* LKS_ECHECKPOINT: missing, or of a kind that checkpoints do not hold. End it with close in any
 * case. */
lks_status lks_stored_array_open(const lks_checkpoint *checkpoint, const char *path,
                                 lks_stored_array *out);
void lks_stored_array_close(lks_stored_array *array);

/* The block is read soon: a hint to the disk. */
void lks_stored_array_expect(const lks_stored_array *array, int64_t block);
/* Reads a whole block to `data`; *out_intact: it matches its hash. LKS_EIO. */
lks_status lks_stored_array_read(const lks_stored_array *array, int64_t block, void *data,
                                 bool *out_intact);

/* What the file holds wrongly makes it a bad checkpoint; failing to read at all does not. */
lks_status lks_checkpoint_status(lks_status h5_status);

#endif
