#include "checkpoint/format.h"

#include <string.h>
#include <xxhash.h>
/* The fastest way that the processor has, found out at run time, where the library offers that. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

lks_block_grid lks_block_grid_make(int64_t count, lks_dtype dtype) {
    size_t bytes = lks_dtype_bytes(dtype);
    int64_t elements = LKS_BLOCK_BYTES / (int64_t)bytes;
    return (lks_block_grid){
        .count = count,
        .block_elements = elements,
        .block_count = count / elements + (count % elements != 0),
        .element_bytes = bytes,
    };
}

void lks_block_range(const lks_block_grid *grid, int64_t block, int64_t *begin, int64_t *end) {
    *begin = block * grid->block_elements;
    int64_t left = grid->count - *begin;
    *end = *begin + (left < grid->block_elements ? left : grid->block_elements);
}

int64_t lks_hash(const void *data, size_t bytes) {
    uint64_t hash = XXH3_64bits(data, bytes);
    int64_t kept;
    memcpy(&kept, &hash, sizeof kept);
    return kept;
}

char *lks_integrity_path(const char *array_path) {
    return lks_join_path(LKS_INTEGRITY_GROUP, array_path + strspn(array_path, "/"));
}

char *lks_join_path(const char *group, const char *name) {
    size_t length = strlen(group);
    while (length > 0 && group[length - 1] == '/')
        length--;
    return lks_strdup_printf("%.*s/%s", (int)length, group, name);
}

lks_status lks_check_piece(const lks_checkpoint_array *array, int64_t count, int index) {
    const lks_piece *piece = &array->pieces[index];
    bool inside = piece->first >= 0 && piece->count >= 0 && piece->first <= count &&
                  piece->count <= count - piece->first;
    if (inside && (piece->data || piece->count == 0)) return LKS_OK;
    return lks_fail(LKS_EINVAL, "array %s: piece %d (%lld elements from %lld) does not lie in %lld",
                    array->path, index, (long long)piece->count, (long long)piece->first,
                    (long long)count);
}
