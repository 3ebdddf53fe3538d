/* What lks_checkpoint_write writes, checked and completed: the caller's arrays, then the texts that
 * are too long for an attribute. */
#ifndef LKS_CHECKPOINT_CONTENT_H
#define LKS_CHECKPOINT_CONTENT_H

#include "checkpoint/format.h"
#include "h5/h5.h"

/* One array of the file under way. */
typedef struct lks_save_array {
    const lks_checkpoint_array *array;
    lks_block_grid grid;
    int64_t first_block;  /* of its hashes among all arrays' */
    int64_t offset;       /* of its first byte in the file; -1 where it has none */
    lks_h5_array *hashes; /* rank 0's, open while the layout is */
} lks_save_array;

typedef struct lks_save_content {
    lks_save_array *arrays;
    int array_count;
    int64_t block_count; /* of all arrays */

    lks_checkpoint_array *texts; /* arrays made of long texts, with their pieces and paths */
    lks_piece *text_pieces;
    int text_count;
} lks_save_content;

/* Checks this rank's pieces and lays the arrays out. rank: whose pieces these are; long texts are
 * rank 0's to write. `content` is borrowed. Local. LKS_EINVAL, LKS_ENOMEM; end it with free in any
 * case. */
lks_status lks_save_content_make(const lks_checkpoint_content *content, int rank,
                                 lks_save_content *out);
void lks_save_content_free(lks_save_content *content);

/* Is this attribute's text kept as an array? */
bool lks_attr_is_long(const lks_checkpoint_attr *attr);

#endif
