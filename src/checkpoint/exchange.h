/* Weights in the files of other programs: a checkpoint's arrays written in another format, and a
 * checkpoint made of what such a file holds. */
#ifndef LKS_CHECKPOINT_EXCHANGE_H
#define LKS_CHECKPOINT_EXCHANGE_H

#include "checkpoint/checkpoint.h"

/* ---- out ---- */

/* A format that is written. */
typedef struct lks_weights_format lks_weights_format;

/* The format called `name`, or where that is NULL the one that the end of `path` tells. LKS_EINVAL
 * says which there are. */
lks_status lks_weights_format_find(const char *name, const char *path,
                                   const lks_weights_format **out);
/* "safetensors" ... */
const char *lks_weights_format_name(const lks_weights_format *format);

/* A text that goes along with the arrays. */
typedef struct lks_weights_note {
    const char *name, *value;
} lks_weights_note;

/* What was written, or read. */
typedef struct lks_exchange_summary {
    int array_count;
    int64_t element_count, bytes;
    int from_float16, from_bfloat16, from_float64; /* arrays that an import converted */
} lks_exchange_summary;

/* Writes every array of the group `group` ("/model") to `path`, under its name in the group, a few
 * blocks at a time: never more than LKS_EXPORT_BUFFER_BYTES of data are in memory. Every block is
 * verified. The file gets its name when it is whole and on the disk; on failure what had that name
 * stays. Local. LKS_ECHECKPOINT: damaged, or no such arrays; LKS_EIO, LKS_ENOMEM. */
enum { LKS_EXPORT_BUFFER_BYTES = 16 << 20 };
lks_status lks_weights_export(lks_checkpoint *from, const char *group,
                              const lks_weights_note *notes, int note_count,
                              const lks_weights_format *format, const char *path,
                              lks_exchange_summary *out);

/* ---- in ---- */

/* Makes the checkpoint `path` of the safetensors file `from`: each tensor becomes an array of
 * `group`, as float32; those called `num_batches_tracked` stay int64. The group /import says where
 * they come from. Holds the weights in memory once. Collective; the same verdict on every rank.
 * LKS_EDATA: no safetensors file, or one with tensors that have no place in a checkpoint; LKS_EIO,
 * LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_weights_import(lks_comm *comm, const char *from, const char *group, const char *path,
                              lks_exchange_summary *out);

#endif
