/* What a format has to do to be exported to. A new one is one description and one line in the table
 * of export.c. */
#ifndef LKS_CHECKPOINT_EXPORT_H
#define LKS_CHECKPOINT_EXPORT_H

#include "checkpoint/exchange.h"

/* An array on its way out. */
typedef struct lks_export_array {
    char *path;       /* in the checkpoint */
    const char *name; /* in the file: the end of `path` */
    lks_dtype dtype;
    lks_shape shape;
    int64_t count, bytes;
    int64_t offset; /* of its first byte in the file; lay_out sets it */
} lks_export_array;

struct lks_weights_format {
    const char *name;
    const char *suffixes[3]; /* with the dot; NULL ends them */
    /* Writes all but the arrays' data to the empty file `descriptor`, reserves its final size, and
     * sets the arrays' offsets. path: for messages. LKS_ECHECKPOINT: an array's dtype has no place
     * in the format; LKS_EIO, LKS_ENOMEM. */
    lks_status (*lay_out)(lks_export_array *arrays, int array_count, const lks_weights_note *notes,
                          int note_count, int descriptor, const char *path);
};

extern const lks_weights_format lks_safetensors_format, lks_plain_hdf5_format;

#endif
