/* The safetensors format: eight bytes with the length of the header (little-endian), the header
 * (JSON: each tensor's dtype, shape and place, and texts under "__metadata__"), then the tensors'
 * bytes, row-major and little-endian, one after the other without a gap. Local.
 *
 * Source: https://github.com/huggingface/safetensors, "Format". */
#ifndef LKS_CHECKPOINT_SAFETENSORS_H
#define LKS_CHECKPOINT_SAFETENSORS_H

#include "base/base.h"

/* The dtypes that are read. */
typedef enum lks_tensor_type {
    LKS_TENSOR_F16,
    LKS_TENSOR_BF16,
    LKS_TENSOR_F32,
    LKS_TENSOR_F64,
    LKS_TENSOR_I64,
    LKS_TENSOR_TYPE_COUNT
} lks_tensor_type;

/* Bytes of one element. */
size_t lks_tensor_type_bytes(lks_tensor_type type);

typedef struct lks_tensor {
    char *name;
    lks_tensor_type type;
    lks_shape shape;
    int64_t count;         /* elements */
    int64_t offset, bytes; /* where in the file */
} lks_tensor;

typedef struct lks_safetensors {
    int descriptor;
    lks_tensor *tensors; /* in the order of their places */
    int tensor_count;
    char *metadata; /* "__metadata__" as JSON; NULL where there is none */
} lks_safetensors;
#define LKS_SAFETENSORS_NONE \
    { .descriptor = -1 }

/* Reads and checks the header, whatever the file's origin: afterwards every tensor lies in the
 * file, has as many bytes as its shape and dtype say, and shares none with another. Another dtype
 * than the above is refused too. LKS_EDATA names what is wrong; LKS_EIO, LKS_ENOMEM. End it with
 * close in any case. */
lks_status lks_safetensors_open(const char *path, lks_safetensors *out);
void lks_safetensors_close(lks_safetensors *file);

#endif
