/* Restoring pieces of arrays: every block that holds some of one is read, verified, and handed to
 * the pieces. Two threads do so, since one core alone neither copies nor hashes as fast as memory
 * would allow, and the disk is told of the blocks that come next, since it is idle otherwise while
 * a block is hashed. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/reader.h"

enum {
    READERS = 2,
    AHEAD = 8,          /* blocks that the disk knows of */
    WORTH_A_THREAD = 4, /* blocks */
};

/* A block, and the pieces that have a part in it. */
typedef struct job {
    const lks_stored_array *array;
    int64_t block;
    const lks_piece *pieces;
    int piece_count;
} job;

typedef struct queue {
    lks_stored_array *arrays; /* [array_count] */
    int array_count;
    job *jobs; /* [count] */
    int64_t count;
    atomic_llong next;
} queue;

typedef struct reader {
    queue *queue;
    void *block; /* [LKS_BLOCK_BYTES]: one that is wanted in part */
    lks_status status;
    int64_t failed;               /* which job */
    char detail[LKS_ERROR_BYTES]; /* lks_last_error of the thread */
} reader;

/* ---- what is to be read ---- */

static lks_status check_wanted(const lks_stored_array *array, const lks_checkpoint_array *wanted) {
    lks_status status = LKS_OK;
    if (!lks_shape_equal(&array->shape, &wanted->shape) || array->dtype != wanted->dtype) {
        char found[LKS_SHAPE_TEXT_BYTES], expected[LKS_SHAPE_TEXT_BYTES];
        status = lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected %s %s",
                          array->checkpoint->path, array->path, lks_dtype_name(array->dtype),
                          lks_shape_text(&array->shape, found), lks_dtype_name(wanted->dtype),
                          lks_shape_text(&wanted->shape, expected));
    }
    for (int p = 0; !status && p < wanted->piece_count; p++)
        status = lks_check_piece(wanted, array->grid.count, p);
    return status;
}

static lks_status open_arrays(lks_checkpoint *checkpoint, const lks_checkpoint_array *wanted,
                              int count, queue *q) {
    q->arrays = calloc((size_t)count + 1, sizeof *q->arrays);
    if (!q->arrays) return lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < count; i++) {
        if (wanted[i].piece_count == 0) continue;
        status = lks_stored_array_open(checkpoint, wanted[i].path, &q->arrays[i]);
        q->array_count = i + 1;
        if (!status) status = check_wanted(&q->arrays[i], &wanted[i]);
    }
    return status;
}

/* The blocks of a piece that is not empty. */
static void blocks_of(const lks_stored_array *array, const lks_piece *piece, int64_t *first,
                      int64_t *last) {
    *first = piece->first / array->grid.block_elements;
    *last = (piece->first + piece->count - 1) / array->grid.block_elements;
}

/* Of neighbouring pieces that share a block the second joins the first's job. */
static void add_piece(queue *q, const lks_stored_array *array, const lks_piece *piece) {
    int64_t first, last;
    if (piece->count == 0) return;
    blocks_of(array, piece, &first, &last);
    job *previous = q->count > 0 ? &q->jobs[q->count - 1] : NULL;
    if (previous && previous->array == array && previous->block == first) {
        previous->piece_count = (int)(piece - previous->pieces) + 1;
        first++;
    }
    for (int64_t b = first; b <= last; b++)
        q->jobs[q->count++] = (job){array, b, piece, 1};
}

static lks_status list_jobs(const lks_checkpoint_array *wanted, queue *q) {
    size_t room = 1; /* of nothing calloc may give NULL */
    for (int i = 0; i < q->array_count; i++) {
        for (int p = 0; p < wanted[i].piece_count; p++) {
            int64_t first, last;
            if (wanted[i].pieces[p].count == 0) continue;
            blocks_of(&q->arrays[i], &wanted[i].pieces[p], &first, &last);
            room += (size_t)(last - first + 1);
        }
    }
    q->jobs = calloc(room, sizeof *q->jobs);
    if (!q->jobs) return lks_fail(LKS_ENOMEM, "out of memory for %zu blocks to read", room);
    for (int i = 0; i < q->array_count; i++)
        for (int p = 0; p < wanted[i].piece_count; p++)
            add_piece(q, &q->arrays[i], &wanted[i].pieces[p]);
    return LKS_OK;
}

/* ---- reading ---- */

static lks_status read_block(const job *j, void *data) {
    const lks_stored_array *array = j->array;
    bool intact;
    lks_status status = lks_stored_array_read(array, j->block, data, &intact);
    if (status || intact) return status;
    int64_t begin, end;
    lks_block_range(&array->grid, j->block, &begin, &end);
    return lks_fail(LKS_ECHECKPOINT,
                    "%s is damaged: %s, block %lld of %lld (elements %lld to %lld) does not match "
                    "its stored hash",
                    array->checkpoint->path, array->path, (long long)j->block,
                    (long long)array->grid.block_count, (long long)begin, (long long)end - 1);
}

/* A block that lies wholly in a piece goes straight to where it is wanted. */
static lks_status work_off(const job *j, char *buffer) {
    const size_t bytes = j->array->grid.element_bytes;
    int64_t begin, end;
    lks_block_range(&j->array->grid, j->block, &begin, &end);
    const lks_piece *piece = j->pieces;
    if (j->piece_count == 1 && piece->first <= begin && end <= piece->first + piece->count)
        return read_block(j, (char *)piece->data + (size_t)(begin - piece->first) * bytes);

    lks_status status = read_block(j, buffer);
    for (int p = 0; !status && p < j->piece_count; p++) {
        piece = &j->pieces[p];
        int64_t from = piece->first > begin ? piece->first : begin;
        int64_t to = piece->first + piece->count < end ? piece->first + piece->count : end;
        if (from < to)
            memcpy((char *)piece->data + (size_t)(from - piece->first) * bytes,
                   buffer + (size_t)(from - begin) * bytes, (size_t)(to - from) * bytes);
    }
    return status;
}

static void expect_job(const queue *q, int64_t i) {
    if (i < q->count) lks_stored_array_expect(q->jobs[i].array, q->jobs[i].block);
}

static void *run_reader(void *data) {
    reader *r = data;
    queue *q = r->queue;
    int64_t i;
    while (!r->status && (i = atomic_fetch_add(&q->next, 1)) < q->count) {
        expect_job(q, i + AHEAD);
        r->status = work_off(&q->jobs[i], r->block);
        r->failed = i;
    }
    if (r->status) {
        atomic_store(&q->next, q->count); /* the other one stops, too */
        snprintf(r->detail, sizeof r->detail, "%s", lks_last_error());
    }
    return NULL;
}

static lks_status run_queue(queue *q, char *blocks) {
    reader readers[READERS] = {{.queue = q, .block = blocks},
                               {.queue = q, .block = blocks + LKS_BLOCK_BYTES}};
    for (int64_t i = 0; i < AHEAD; i++)
        expect_job(q, i);
    pthread_t thread;
    bool helped = q->count >= WORTH_A_THREAD && !lks_thread_start(run_reader, &readers[1], &thread);
    run_reader(&readers[0]);
    if (helped) pthread_join(thread, NULL);
    /* Jobs are begun in ascending order: the first that fails is the first that is damaged. */
    const reader *failed = &readers[0];
    if (readers[1].status && (!failed->status || readers[1].failed < failed->failed))
        failed = &readers[1];
    return failed->status ? lks_fail(failed->status, "%s", failed->detail) : LKS_OK;
}

lks_status lks_checkpoint_read_all(lks_checkpoint *checkpoint, const lks_checkpoint_array *wanted,
                                   int count) {
    queue q = {0};
    lks_status status = open_arrays(checkpoint, wanted, count, &q);
    if (!status) status = list_jobs(wanted, &q);
    if (!status) status = run_queue(&q, checkpoint->blocks);
    for (int i = 0; i < q.array_count; i++)
        lks_stored_array_close(&q.arrays[i]);
    free(q.arrays);
    free(q.jobs);
    return status;
}

lks_status lks_checkpoint_read(lks_checkpoint *checkpoint, const lks_checkpoint_array *wanted) {
    return lks_checkpoint_read_all(checkpoint, wanted, 1);
}
