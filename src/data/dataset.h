/* Shared by the files of src/data alone: columns, formats, and what a data set is made of. */
#ifndef LKS_DATA_DATASET_H
#define LKS_DATA_DATASET_H

#include "data/data.h"

/* ---- sources: where the rows of one column come from ---- */

/* What a format knows about one column. Rows are read in the types that lks_column asks for. */
typedef struct lks_source_ops {
    /* Rows [first, first + count), row-major: as uint8 where the column's dtype is LKS_U8, float32
     * where it is LKS_F32, and int64 for labels. LKS_EIO, LKS_EDATA. */
    lks_status (*read)(void *source, int64_t first, int64_t count, lks_dtype dtype, void *rows);
    /* The file that row *index is in, and its index there; NULL: the column's file, same index. */
    const char *(*locate)(void *source, int64_t *index);
    void (*close)(void *source);
} lks_source_ops;

/* ---- columns: the inputs or the targets of a data set ---- */

typedef struct lks_block_cache lks_block_cache;

typedef struct lks_column {
    char *file; /* for messages */
    char *name; /* within the file, for messages: "train/inputs" */
    int64_t count;
    lks_shape shape; /* of a row; rank 0: one number */
    int64_t width;   /* elements of a row */
    lks_dtype dtype; /* LKS_U8 or LKS_F32; LKS_I32 once read as labels */
    bool is_integer;
    bool is_stream;     /* can only be read once, from the first row to the last */
    int64_t block_rows; /* rows that are best read together; 0: any number */

    const lks_source_ops *ops; /* NULL: the rows are in memory */
    void *source;
    const void *memory; /* all rows, NULL in block mode */
    bool owns_memory;
    lks_block_cache *blocks;
} lks_column;

/* Reads all rows into memory, as `dtype`, which becomes the column's (LKS_I32 for labels).
 * LKS_EDATA for a value that is not finite or no int32. */
lks_status lks_column_load(lks_column *column, lks_dtype dtype);
/* Prepares reading in blocks that together take at most `budget_bytes`, but at least one row. */
lks_status lks_column_open_blocks(lks_column *column, int64_t budget_bytes);
void lks_column_close(lks_column *column);
/* Bytes of one row, and of all of them; INT64_MAX where that overflows. */
int64_t lks_column_row_bytes(const lks_column *column);
int64_t lks_column_bytes(const lks_column *column);

/* Calls `visit` with every wanted row, in an order that reads each block once. position: the place
 * in `indices`. The row is in the column's dtype and valid during the call. */
typedef void (*lks_row_fn)(void *data, int64_t position, int64_t index, const void *row);
lks_status lks_column_visit(lks_column *column, const int64_t *indices, int64_t n, lks_row_fn visit,
                            void *data);

/* LKS_EDATA: "FILE: NAME[index, ...] is VALUE: expected EXPECTED". element: within the row, -1 for
 * none. */
lks_status lks_column_refuse(const lks_column *column, int64_t index, int64_t element,
                             const char *value, const char *expected);
/* LKS_EDATA at the first of `count` rows' float32 elements that is not finite. */
lks_status lks_column_check_finite(const lks_column *column, int64_t first, int64_t count,
                                   const float *rows);

/* ---- blocks ---- */

lks_status lks_block_cache_create(int64_t count, int64_t row_bytes, int64_t block_rows,
                                  int64_t budget_bytes, lks_block_cache **out);
void lks_block_cache_destroy(lks_block_cache *cache);
/* Bytes of its blocks, once all of them are in use. */
int64_t lks_block_cache_bytes(const lks_block_cache *cache);
/* As lks_column_visit, in the order of the rows. Any thread: two loaders may read one data set. */
lks_status lks_block_cache_visit(lks_block_cache *cache, lks_column *column, const int64_t *indices,
                                 int64_t n, lks_row_fn visit, void *data);

/* ---- data sets ---- */

struct lks_dataset {
    char *description;
    lks_column inputs;
    lks_column targets; /* not used where target_kind is NONE */
    lks_target_kind target_kind;
    lks_shape target_shape; /* of VALUES: at least rank 1 */
};

/* ---- formats ---- */

/* open: describes the columns and opens their sources, which the data set closes, after a failure,
 * too. targets->ops stays NULL for a data set without targets. */
typedef struct lks_format {
    const lks_option_table *options;
    lks_status (*open)(const void *options, lks_column *inputs, lks_column *targets);
} lks_format;

extern const lks_format lks_format_hdf5, lks_format_idx, lks_format_cifar10;

/* NULL for an unknown type. */
const lks_format *lks_format_find(const char *type);
/* LKS_ECONFIG with the known types. */
lks_status lks_format_unknown(const char *type);

#endif
