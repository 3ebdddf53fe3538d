/* Names, numbers and integrity rules of the file format (docs/checkpoint-format.md), known to
 * src/checkpoint alone. */
#ifndef LKS_CHECKPOINT_FORMAT_H
#define LKS_CHECKPOINT_FORMAT_H

#include "checkpoint/checkpoint.h"

/* The root's attributes. */
#define LKS_CHECKPOINT_FORMAT "lockstep-checkpoint"
#define LKS_ATTR_FORMAT       "format"
#define LKS_ATTR_VERSION      "format_version"
#define LKS_ATTR_COMPLETE     "complete"

/* /integrity/<path of an array>: the hashes of its blocks. */
#define LKS_INTEGRITY_GROUP "/integrity"

enum {
    LKS_BLOCK_BYTES = 4 << 20,   /* of every block but an array's last */
    LKS_ATTR_TEXT_MAX = 48 << 10 /* longer texts become uint8 arrays */
};

/* An array of `count` elements is cut into blocks of block_elements; the last one may be short. */
typedef struct lks_block_grid {
    int64_t count, block_elements, block_count;
    size_t element_bytes;
} lks_block_grid;

lks_block_grid lks_block_grid_make(int64_t count, lks_dtype dtype);
/* Elements [*begin, *end) of a block. */
void lks_block_range(const lks_block_grid *grid, int64_t block, int64_t *begin, int64_t *end);

/* LKS_EINVAL where piece `index` does not lie in the array's `count` elements. */
lks_status lks_check_piece(const lks_checkpoint_array *array, int64_t count, int index);

/* "/integrity" + the array's path; the caller frees it; NULL when out of memory. */
char *lks_integrity_path(const char *array_path);
/* "/config" + "/" + "text", with one slash between; as above. */
char *lks_join_path(const char *group, const char *name);

#endif
