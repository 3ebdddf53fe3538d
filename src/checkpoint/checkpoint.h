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

/* How the ranks' data reaches the file. */
typedef enum lks_transfer {
    /* Every rank writes its own ranges with plain pwrite, which cannot hang or lie. */
    LKS_TRANSFER_INDEPENDENT,
    /* Through MPI-IO's collective writes, for file systems whose aggregators need it. Because these
     * may lose data without an error, every rank reads back what it wrote. */
    LKS_TRANSFER_COLLECTIVE,
} lks_transfer;

/* Writes `path` atomically: temporary file beside it, preallocated, every rank writes its pieces,
 * flush and fsync on every rank, agreement, rename, directory fsync. On failure the old file at
 * `path` stays and the temporary one is gone. Collective; the same verdict on every rank, naming
 * the culprit. LKS_EINVAL: pieces that do not cover their array; LKS_EIO, LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content, lks_transfer transfer);

/* ---- saving in the background: lks_checkpoint_write in phases that a thread of every rank works
 * off with plain pwrite, and no MPI in it. Between two phases the ranks exchange a few numbers,
 * which lks_save_advance starts, and takes up the next time:
 *
 *     lks_save_create(comm, &save);
 *     lks_save_start(save, path, &content, NULL, LKS_OK);
 *     while (training) {
 *         ...   // all-reduces lks_save_ready(save) and lks_save_has_failed(save) along the way
 *         if (all ranks are ready) lks_save_advance(save, none has failed, &done);
 *     }
 *     lks_save_finish(save);
 *     lks_save_destroy(save);
 *
 * So no rank waits for another one because of a save, unless it fails or must end. ---- */
typedef struct lks_save lks_save;

/* What else rank 0 does to files, in its thread, once the file has its name. */
typedef struct lks_published {
    lks_status (*function)(void *data); /* its failure is the save's */
    void *data;
} lks_published;

/* *out can save one time after the other. Local. LKS_ENOMEM, also with *out NULL. */
lks_status lks_save_create(lks_comm *comm, lks_save **out);
void lks_save_destroy(lks_save *save); /* abandons it; NULL is legal */
/* Begins to save. `content` and all it points to are copied, but for the pieces' data, which stays
 * the caller's: it may still come into being until lks_save_advance is called for the first time,
 * and must not change then until the save is done. path: borrowed until then. published: may be
 * NULL. Local. What fails here, or has failed before with the status `before` and its detail, is
 * told by lks_save_advance on all ranks; with `before`, content may be NULL. */
void lks_save_start(lks_save *save, const char *path, const lks_checkpoint_content *content,
                    const lks_published *published, lks_status before);
/* Before the first lks_save_advance: the data did not come into being, for the reason `status` with
 * its detail. Local. */
void lks_save_fail(lks_save *save, lks_status status);
/* From lks_save_start until it is finished or abandoned. */
bool lks_save_is_open(const lks_save *save);
/* Would lks_save_advance go on without waiting for this rank's thread, and has what it did failed?
 * Local, no waiting. */
bool lks_save_ready(const lks_save *save);
bool lks_save_has_failed(const lks_save *save);
/* Seconds that this rank's own phases took, from the start on. Local, between two phases. */
double lks_save_worked(const lks_save *save);
/* Ends the present phase, waiting for it where it still runs, and starts what comes next.
 * all_succeeded: all ranks know that each is ready and none has failed; else they agree here.
 * *done: the file has its name, or the save has failed; the status is the verdict then, and LKS_OK
 * before. Collective. Errors as of lks_checkpoint_write. */
lks_status lks_save_advance(lks_save *save, bool all_succeeded, bool *done);
/* Goes through the phases that are left and ends the save. The verdict, the same on every rank.
 * Collective; LKS_OK where none was started. */
lks_status lks_save_finish(lks_save *save);
/* For when the peers cannot be reached any more: stops the thread (which may wait for the disk),
 * removes the temporary file if this is rank 0, and ends the save. Local; NULL is legal. */
void lks_save_abandon(lks_save *save);

typedef struct lks_checkpoint lks_checkpoint;

/* Opens for reading; local (each rank opens its own handle; agree afterwards). Refuses files that
 * are no checkpoint, newer versions, incomplete ones: LKS_ECHECKPOINT; LKS_EIO. */
lks_status lks_checkpoint_open(const char *path, lks_checkpoint **out);
/* Does the file end as a checkpoint does? Then it is one, or was one before it was damaged; one
 * that was cut off is not recognised. LKS_EIO: it cannot be read. */
lks_status lks_checkpoint_recognise(const char *path, bool *out);
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
/* As lks_checkpoint_read for each array, and faster: the disk hears of the next before it is
 * needed. They should be in the order of the file; those of which no piece is wanted are not looked
 * at. */
lks_status lks_checkpoint_read_all(lks_checkpoint *checkpoint, const lks_checkpoint_array *arrays,
                                   int count);
/* Calls visit for every array in the order of creation. */
typedef lks_status (*lks_checkpoint_visit_fn)(void *data, const char *path, lks_dtype dtype,
                                              const lks_shape *shape);
lks_status lks_checkpoint_visit(lks_checkpoint *checkpoint, lks_checkpoint_visit_fn visit,
                                void *data);

/* What lks_checkpoint_verify tells while it reads; each may be NULL. */
typedef struct lks_verify_report {
    void *data; /* the functions' first argument */
    /* The array `path` is next. */
    void (*array)(void *data, const char *path);
    /* Bytes of arrays verified so far, and of all arrays; after every block. */
    void (*progress)(void *data, int64_t done_bytes, int64_t total_bytes);
    /* A block that does not match its hash: elements [first, end) of the array `path`. */
    void (*damage)(void *data, const char *path, int64_t block, int64_t block_count, int64_t first,
                   int64_t end);
} lks_verify_report;

/* Verifies all of a file: that it is a checkpoint, its structure, and every block of every array;
 * damage in one block does not keep the others from being verified. report may be NULL. Local.
 * LKS_ECHECKPOINT: what is damaged; LKS_EIO, LKS_ENOMEM. */
lks_status lks_checkpoint_verify(const char *path, const lks_verify_report *report);

/* XXH3-64 as the files keep it: the same 64 bits, as a signed integer. */
int64_t lks_hash(const void *data, size_t bytes);

#endif
