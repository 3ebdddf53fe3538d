/* Checkpoints: whole logical arrays and small attributes in one HDF5 file, written by all ranks,
 * never half. This room knows what a checkpoint is; what stands in one is src/train's business.
 */
#ifndef LKS_CHECKPOINT_H
#define LKS_CHECKPOINT_H

#include "base/base.h"
#include "comm/comm.h"

enum { LKS_CHECKPOINT_FORMAT_VERSION = 1 };

/* A piece of an array that lies in this rank's host memory: elements [first, first + count) of the
 * flattened array. */
typedef struct lks_piece {
    int64_t first, count;
    void *data;
} lks_piece;

/* An array, the same on every rank but for the pieces. When saving, the pieces of all ranks cover
 * it exactly once; when restoring, each rank names the pieces that it wants (ranks may want the
 * same ones). */
typedef struct lks_checkpoint_array {
    const char *path; /* "/model/conv1.weight" */
    lks_dtype dtype;  /* in the file and in memory */
    lks_shape shape;
    const lks_piece *pieces;
    int piece_count;
} lks_checkpoint_array;

typedef enum lks_attr_kind { LKS_ATTR_I64, LKS_ATTR_F64, LKS_ATTR_TEXT } lks_attr_kind;

/* A small attribute of the group `path`. F64: `count` numbers. */
typedef struct lks_checkpoint_attr {
    const char *path, *name;
    lks_attr_kind kind;
    int64_t i64;
    const double *f64;
    int count;
    const char *text; /* of any length: long ones become a uint8 data set */
} lks_checkpoint_attr;

typedef struct lks_checkpoint_content {
    const lks_checkpoint_array *arrays;
    int array_count;
    const lks_checkpoint_attr *attrs;
    int attr_count;
} lks_checkpoint_content;

/* Writes `path` atomically: temporary file beside it, preallocated, every rank writes its pieces,
 * flush and fsync on every rank, agreement, rename, directory fsync. On failure the old file at
 * `path` stays and the temporary one is gone. Collective; the same verdict on every rank, naming
 * the culprit. LKS_EIO, LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content);

typedef struct lks_checkpoint lks_checkpoint;

/* Opens for reading; local (each rank opens its own handle; agree afterwards). Refuses files that
 * are no checkpoint, newer versions, incomplete ones: LKS_ECHECKPOINT; LKS_EIO. */
lks_status lks_checkpoint_open(const char *path, lks_checkpoint **out);
void lks_checkpoint_close(lks_checkpoint *checkpoint);

/* Missing or of another kind: LKS_ECHECKPOINT. */
lks_status lks_checkpoint_get_i64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  int64_t *out);
lks_status lks_checkpoint_get_f64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  double *out, int capacity, int *out_count);
lks_status lks_checkpoint_get_text(lks_checkpoint *checkpoint, const char *path, const char *name,
                                   char **out);
/* The shape of an array; LKS_ECHECKPOINT where there is none. */
lks_status lks_checkpoint_shape(lks_checkpoint *checkpoint, const char *path, lks_shape *out);
/* Reads the pieces; shape and dtype must be the file's: LKS_ECHECKPOINT names both. Every block
 * that is touched is verified against its stored hash. */
lks_status lks_checkpoint_read(lks_checkpoint *checkpoint, const lks_checkpoint_array *array);
/* Calls visit for every array in the order of creation. */
typedef lks_status (*lks_checkpoint_visit_fn)(void *data, const char *path, lks_dtype dtype,
                                              const lks_shape *shape);
lks_status lks_checkpoint_visit(lks_checkpoint *checkpoint, lks_checkpoint_visit_fn visit,
                                void *data);

#endif
