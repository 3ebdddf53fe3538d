#include "base/dtype.h"

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
