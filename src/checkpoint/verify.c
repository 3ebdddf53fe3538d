/* Verifying a whole checkpoint without restoring it. */
#include "checkpoint/reader.h"

typedef struct verification {
    lks_checkpoint *checkpoint;
    const lks_verify_report *report;
    int64_t done_bytes, total_bytes;
    int64_t damaged_blocks, damaged_arrays;
} verification;

static lks_status count_bytes(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    verification *v = data;
    int64_t count, bytes;
    lks_status status = lks_shape_bytes(shape, lks_dtype_bytes(dtype), &count, &bytes);
    if (status) return lks_fail_in(LKS_ECHECKPOINT, "%s: %s", v->checkpoint->path, path);
    v->total_bytes += bytes;
    return LKS_OK;
}

static lks_status verify_block(verification *v, const lks_stored_array *array, int64_t block) {
    bool intact;
    int64_t begin, end;
    lks_status status = lks_stored_array_read(array, block, v->checkpoint->blocks, &intact);
    if (status) return status;
    lks_block_range(&array->grid, block, &begin, &end);
    v->done_bytes += (end - begin) * (int64_t)array->grid.element_bytes;
    v->damaged_blocks += !intact;
    if (!intact && v->report->damage)
        v->report->damage(v->report->data, array->path, block, array->grid.block_count, begin, end);
    if (v->report->progress) v->report->progress(v->report->data, v->done_bytes, v->total_bytes);
    return LKS_OK;
}

static lks_status verify_array(void *data, const char *path, lks_dtype dtype,
                               const lks_shape *shape) {
    (void)dtype, (void)shape;
    verification *v = data;
    lks_stored_array array;
    int64_t damaged_before = v->damaged_blocks;
    if (v->report->array) v->report->array(v->report->data, path);
    lks_status status = lks_stored_array_open(v->checkpoint, path, &array);
    for (int64_t b = 0; !status && b < array.grid.block_count; b++)
        status = verify_block(v, &array, b);
    lks_stored_array_close(&array);
    v->damaged_arrays += v->damaged_blocks > damaged_before;
    return status;
}

lks_status lks_checkpoint_verify(const char *path, const lks_verify_report *report) {
    static const lks_verify_report silent = {0};
    verification v = {.report = report ? report : &silent};
    lks_status status = lks_checkpoint_open(path, &v.checkpoint);
    if (status) return status;
    status = lks_checkpoint_visit(v.checkpoint, count_bytes, &v);
    if (!status) status = lks_checkpoint_visit(v.checkpoint, verify_array, &v);
    lks_checkpoint_close(v.checkpoint);
    if (status || v.damaged_blocks == 0) return status;
    bool one_block = v.damaged_blocks == 1, one_array = v.damaged_arrays == 1;
    return lks_fail(LKS_ECHECKPOINT, "%s is damaged: %lld block%s in %lld array%s %s", path,
                    (long long)v.damaged_blocks, one_block ? "" : "s", (long long)v.damaged_arrays,
                    one_array ? "" : "s",
                    one_block ? "does not match its stored hash"
                              : "do not match their stored hashes");
}
