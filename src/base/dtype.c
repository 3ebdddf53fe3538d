#include "base/dtype.h"

#include <string.h>

static const struct {
    size_t bytes;
    const char *name;
} dtypes[] = {
    [LKS_F32] = {4, "float32"}, [LKS_F64] = {8, "float64"}, [LKS_BF16] = {2, "bfloat16"},
    [LKS_I32] = {4, "int32"},   [LKS_I64] = {8, "int64"},   [LKS_U8] = {1, "uint8"},
};

size_t lks_dtype_bytes(lks_dtype dtype) {
    return dtypes[dtype].bytes;
}

const char *lks_dtype_name(lks_dtype dtype) {
    return dtypes[dtype].name;
}

bool lks_dtype_by_name(const char *name, lks_dtype *out) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        *out = (lks_dtype)i;
        return true;
    }
    return false;
}
