/* Restoring arrays: blocks are read with plain pread where HDF5 says that they lie, and verified.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/reader.h"

/* ---- an array in the file ---- */

/* Type, shape and place. */
static lks_status inspect(lks_h5_array *data, lks_stored_array *out) {
    const lks_h5_info *info = lks_h5_array_info(data);
    if (!lks_dtype_by_name(info->type_name, &out->dtype))
        return lks_fail(LKS_ECHECKPOINT, "%s: %s is %s, which checkpoints do not hold",
                        out->checkpoint->path, out->path, info->type_name);
    int64_t count;
    lks_status status = lks_shape_count(&info->shape, &count);
    if (status) return lks_fail_in(LKS_ECHECKPOINT, "%s: %s", out->checkpoint->path, out->path);
    out->shape = info->shape;
    out->grid = lks_block_grid_make(count, out->dtype);
    out->offset = lks_h5_array_file_offset(data);
    if (out->offset < 0 && count > 0)
        return lks_fail(LKS_ECHECKPOINT, "%s: %s is not stored as one run of %s",
                        out->checkpoint->path, out->path, info->type_name);
    return LKS_OK;
}

static lks_status read_hashes(lks_stored_array *array, const char *path) {
    const lks_checkpoint *checkpoint = array->checkpoint;
    lks_h5_array *stored;
    lks_status status = lks_checkpoint_status(lks_h5_open_array(checkpoint->file, path, &stored));
    if (status) return status;
    const lks_h5_info *info = lks_h5_array_info(stored);
    lks_shape expected = {.rank = 1, .dim = {array->grid.block_count}};
    if (!lks_shape_equal(&info->shape, &expected) || strcmp(info->type_name, "int64") != 0) {
        char found[LKS_SHAPE_TEXT_BYTES];
        status = lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected int64 [%lld]",
                          checkpoint->path, path, info->type_name,
                          lks_shape_text(&info->shape, found), (long long)array->grid.block_count);
    }
    if (!status) {
        array->hashes = calloc((size_t)array->grid.block_count + 1, sizeof *array->hashes);
        if (!array->hashes) status = lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    }
    if (!status)
        status = lks_checkpoint_status(
            lks_h5_read(stored, 0, array->grid.block_count, LKS_I64, array->hashes));
    lks_h5_close_array(stored);
    return status;
}

lks_status lks_stored_array_open(const lks_checkpoint *checkpoint, const char *path,
                                 lks_stored_array *out) {
    *out = (lks_stored_array){.checkpoint = checkpoint, .path = path};
    lks_h5_array *data;
    lks_status status = lks_checkpoint_status(lks_h5_open_array(checkpoint->file, path, &data));
    if (status) return status;
    status = inspect(data, out);
    lks_h5_close_array(data);
    if (status) return status;
    char *hashes = lks_integrity_path(path);
    if (!hashes) return lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    status = read_hashes(out, hashes);
    free(hashes);
    return status;
}

void lks_stored_array_close(lks_stored_array *array) {
    free(array->hashes);
    array->hashes = NULL;
}

lks_status lks_stored_array_read(const lks_stored_array *array, int64_t block, void *data,
                                 bool *out_intact) {
    int64_t begin, end;
    lks_block_range(&array->grid, block, &begin, &end);
    size_t bytes = (size_t)(end - begin) * array->grid.element_bytes;
    int64_t place = array->offset + begin * (int64_t)array->grid.element_bytes;
    lks_status status = lks_file_read_at(array->checkpoint->descriptor, array->checkpoint->path,
                                         data, bytes, place);
    *out_intact = !status && lks_hash(data, bytes) == array->hashes[block];
    return status;
}

/* ---- reading pieces ---- */

static lks_status check_wanted(const lks_stored_array *array, const lks_checkpoint_array *wanted) {
    if (lks_shape_equal(&array->shape, &wanted->shape) && array->dtype == wanted->dtype)
        return LKS_OK;
    char found[LKS_SHAPE_TEXT_BYTES], expected[LKS_SHAPE_TEXT_BYTES];
    return lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected %s %s", array->checkpoint->path,
                    array->path, lks_dtype_name(array->dtype), lks_shape_text(&array->shape, found),
                    lks_dtype_name(wanted->dtype), lks_shape_text(&wanted->shape, expected));
}

static lks_status read_block(const lks_stored_array *array, int64_t block, void *data) {
    bool intact;
    lks_status status = lks_stored_array_read(array, block, data, &intact);
    if (status || intact) return status;
    int64_t begin, end;
    lks_block_range(&array->grid, block, &begin, &end);
    return lks_fail(LKS_ECHECKPOINT,
                    "%s is damaged: %s, block %lld of %lld (elements %lld to %lld) does not match "
                    "its stored hash",
                    array->checkpoint->path, array->path, (long long)block,
                    (long long)array->grid.block_count, (long long)begin, (long long)end - 1);
}

/* Whole blocks [first, end) of an array, read to where they are wanted by two threads: one core
 * alone neither copies nor hashes as fast as memory would allow. */
typedef struct block_queue {
    const lks_stored_array *array;
    char *data; /* where block `first` goes */
    int64_t first, end;
    atomic_llong next;
} block_queue;

typedef struct reader {
    block_queue *queue;
    lks_status status;
    int64_t failed_block;
    char detail[LKS_ERROR_BYTES]; /* lks_last_error of the thread */
} reader;

static void *read_blocks(void *data) {
    reader *r = data;
    block_queue *queue = r->queue;
    size_t block_bytes =
        (size_t)queue->array->grid.block_elements * queue->array->grid.element_bytes;
    int64_t b;
    while (!r->status && (b = atomic_fetch_add(&queue->next, 1)) < queue->end) {
        r->status =
            read_block(queue->array, b, queue->data + (size_t)(b - queue->first) * block_bytes);
        r->failed_block = b;
    }
    if (r->status) {
        atomic_store(&queue->next, queue->end); /* the other one stops, too */
        snprintf(r->detail, sizeof r->detail, "%s", lks_last_error());
    }
    return NULL;
}

static lks_status read_queue(block_queue *queue) {
    enum { WORTH_A_THREAD = 4 };
    reader readers[2] = {{.queue = queue}, {.queue = queue}};
    pthread_t thread;
    bool helped = queue->end - queue->first >= WORTH_A_THREAD &&
                  !lks_thread_start(read_blocks, &readers[1], &thread);
    read_blocks(&readers[0]);
    if (helped) pthread_join(thread, NULL);
    /* Blocks are begun in ascending order: the first that fails is the first that is damaged. */
    const reader *failed = &readers[0];
    if (readers[1].status && (!failed->status || readers[1].failed_block < failed->failed_block))
        failed = &readers[1];
    return failed->status ? lks_fail(failed->status, "%s", failed->detail) : LKS_OK;
}

/* Elements [from, to), which are part of one block. *cached: which block stands in the checkpoint's
 * own; -1: none. */
static lks_status read_part(const lks_stored_array *array, int64_t from, int64_t to, void *target,
                            int64_t *cached) {
    const lks_block_grid *grid = &array->grid;
    int64_t block = from / grid->block_elements;
    lks_status status = LKS_OK;
    if (*cached != block) status = read_block(array, block, array->checkpoint->block);
    *cached = status ? -1 : block;
    if (status) return status;
    const char *own = array->checkpoint->block;
    memcpy(target, own + (size_t)(from - block * grid->block_elements) * grid->element_bytes,
           (size_t)(to - from) * grid->element_bytes);
    return LKS_OK;
}

/* Blocks that lie wholly in the piece go straight to where they are wanted. */
static lks_status read_piece(const lks_stored_array *array, const lks_piece *piece,
                             int64_t *cached) {
    if (piece->count == 0) return LKS_OK;
    const lks_block_grid *grid = &array->grid;
    int64_t elements = grid->block_elements, begin = piece->first, end = begin + piece->count;
    /* The whole blocks; the array's last one may be short. */
    int64_t first = begin / elements + (begin % elements != 0);
    int64_t behind = end == grid->count ? grid->block_count : end / elements;
    char *data = piece->data;
    if (first > behind) return read_part(array, begin, end, data, cached);

    int64_t whole_begin = first * elements < end ? first * elements : end;
    int64_t whole_end = behind * elements < end ? behind * elements : end;
    char *whole = data + (size_t)(whole_begin - begin) * grid->element_bytes;
    char *tail = data + (size_t)(whole_end - begin) * grid->element_bytes;
    lks_status status = LKS_OK;
    if (begin < whole_begin) status = read_part(array, begin, whole_begin, data, cached);
    block_queue queue = {array, whole, .first = first, .end = behind, .next = first};
    if (!status) status = read_queue(&queue);
    if (!status && whole_end < end) status = read_part(array, whole_end, end, tail, cached);
    return status;
}

lks_status lks_checkpoint_read(lks_checkpoint *checkpoint, const lks_checkpoint_array *wanted) {
    lks_stored_array array;
    lks_status status = lks_stored_array_open(checkpoint, wanted->path, &array);
    if (!status) status = check_wanted(&array, wanted);
    int64_t cached = -1;
    for (int p = 0; !status && p < wanted->piece_count; p++) {
        status = lks_check_piece(wanted, array.grid.count, p);
        if (!status) status = read_piece(&array, &wanted->pieces[p], &cached);
    }
    lks_stored_array_close(&array);
    return status;
}
