/* Element types of arrays. */
#ifndef LKS_BASE_DTYPE_H
#define LKS_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum lks_dtype { LKS_F32, LKS_F64, LKS_BF16, LKS_I32, LKS_I64, LKS_U8 } lks_dtype;

/* Bytes of one element. */
size_t lks_dtype_bytes(lks_dtype dtype);

/* "float32", "int64" ...: numpy's names. */
const char *lks_dtype_name(lks_dtype dtype);
/* The type of that name; false and *out untouched where there is none. */
bool lks_dtype_by_name(const char *name, lks_dtype *out);

#endif
