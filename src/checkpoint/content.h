/* What a save writes, checked and copied: the caller's arrays, then the texts that are too long for
 * an attribute. */
#ifndef LKS_CHECKPOINT_CONTENT_H
#define LKS_CHECKPOINT_CONTENT_H

#include "checkpoint/format.h"
#include "h5/h5.h"

/* One array of the file under way. */
typedef struct lks_save_array {
    char *path;
    lks_dtype dtype;
    lks_shape shape;
    lks_piece *pieces; /* this rank's; the data is the caller's */
    int piece_count;
    char *text; /* what the one piece of a long text holds; NULL: not a text */

    lks_block_grid grid;
    int64_t first_block;  /* of its hashes among all arrays' */
    int64_t offset;       /* of its first byte in the file; -1 where it has none */
    lks_h5_array *hashes; /* rank 0's, open while the layout is */
} lks_save_array;

typedef struct lks_save_content {
    lks_save_array *arrays;
    int array_count;
    int64_t block_count; /* of all arrays */
} lks_save_content;

/* Checks and copies this rank's arrays. rank: whose they are; long texts are rank 0's to write.
 * Local. LKS_EINVAL, LKS_ENOMEM; end it with free in any case. */
lks_status lks_save_content_make(const lks_checkpoint_content *content, int rank,
                                 lks_save_content *out);
void lks_save_content_free(lks_save_content *content);

/* Is this attribute's text kept as an array? */
bool lks_attr_is_long(const lks_checkpoint_attr *attr);

#endif
