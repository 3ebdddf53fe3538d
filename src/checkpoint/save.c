/* Saving: rank 0 lays the file out (layout.h), every rank writes its pieces where they belong, and
 * what makes an HDF5 file of it is written last. The order of the phases keeps a checkpoint whole.
 *
 * A phase is local work. It runs in the calling thread (lks_checkpoint_write) or in one of its own
 * (lks_save_start); all that needs the other ranks happens between two phases, in the caller's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/layout.h"
#include "checkpoint/pieces.h"

/* Bytes that a rank writes before all check what was written (of one rank twice as many): enough
 * for the disk to be at work all the time, few enough for the system to need little memory for
 * them, which a node that is full of training may not have, or gives slowly. */
enum { WINDOW = 32 << 20 };

typedef enum phase {
    PHASE_WRITE,   /* every rank: its pieces, a window of the file at a time */
    PHASE_CHECK,   /* every rank: the window's blocks that are not one rank's alone */
    PHASE_PUBLISH, /* rank 0: structure, trailer, name */
    PHASE_DONE
} phase;

struct lks_save {
    lks_comm *comm;
    int rank, size;
    char *path, *temporary; /* the name until the file is whole; set once it may exist */
    lks_save_content content;
    lks_file_layout layout; /* rank 0's */
    lks_pieces pieces;
    int64_t *numbers; /* [content.array_count]: what is said about each array to other ranks */

    phase phase;
    bool in_background;
    bool thread_runs; /* until it is joined */
    pthread_t thread;
    atomic_bool phase_ended;

    lks_status status;            /* of the phase on this rank; after the last one, the verdict */
    char detail[LKS_ERROR_BYTES]; /* lks_last_error of `status`, which is another thread's */
};

/* ---- before the file exists ---- */

static lks_status prepare(lks_save *s, const lks_checkpoint_content *content) {
    lks_status status = lks_save_content_make(content, s->rank, &s->content);
    if (status) return status;
    s->numbers = calloc((size_t)s->content.array_count + 1, sizeof *s->numbers);
    s->pieces.hashes = calloc((size_t)s->content.block_count + 1, sizeof *s->pieces.hashes);
    s->pieces.block = malloc(LKS_BLOCK_BYTES);
    if (s->numbers && s->pieces.hashes && s->pieces.block) return LKS_OK;
    return lks_fail(LKS_ENOMEM, "out of memory for %lld hashes", (long long)s->content.block_count);
}

/* Do the pieces of all ranks add up to each array? Collective. */
static lks_status check_coverage(lks_save *s) {
    int count = s->content.array_count;
    for (int i = 0; i < count; i++) {
        const lks_save_array *array = &s->content.arrays[i];
        for (int p = 0; p < array->piece_count; p++)
            s->numbers[i] += array->pieces[p].count;
    }
    lks_status status = lks_comm_all_reduce(s->comm, s->numbers, count, LKS_I64, LKS_REDUCE_SUM);
    for (int i = 0; !status && i < count; i++) {
        const lks_save_array *array = &s->content.arrays[i];
        if (s->numbers[i] != array->grid.count) {
            status = lks_fail(LKS_EINVAL,
                              "array %s: the pieces of all ranks have %lld elements, "
                              "expected %lld",
                              array->path, (long long)s->numbers[i], (long long)array->grid.count);
        }
    }
    return lks_comm_agree(s->comm, status);
}

/* ---- the file ---- */

/* Rank 0: the temporary file, with room on the disk, and the layout. */
static lks_status lay_out(lks_save *s, const lks_checkpoint_content *content, uint64_t *out_token) {
    lks_status status = lks_file_layout_make(content, s->size, &s->content, &s->layout);
    if (!status) status = lks_file_create_temporary(s->path, out_token);
    if (status) return status;
    s->temporary = lks_file_temporary_name(s->path, *out_token);
    if (!s->temporary) return lks_fail(LKS_ENOMEM, "out of memory");
    status = lks_file_open(s->temporary, true, &s->pieces.descriptor);
    return status ? status : lks_file_reserve(s->pieces.descriptor, s->temporary, s->layout.bytes);
}

/* Every rank learns the temporary file's name and where each array begins, and opens it.
 * Collective. */
static lks_status create_file(lks_save *s, const lks_checkpoint_content *content) {
    uint64_t token = 0;
    lks_status status = s->rank == 0 ? lay_out(s, content, &token) : LKS_OK;
    status = lks_comm_agree(s->comm, status);
    if (status) return status;

    int count = s->content.array_count;
    for (int i = 0; i < count; i++)
        s->numbers[i] = s->content.arrays[i].offset;
    status = lks_comm_broadcast(s->comm, &token, sizeof token, 0);
    if (!status)
        status = lks_comm_broadcast(s->comm, s->numbers, count * (int64_t)sizeof *s->numbers, 0);
    for (int i = 0; i < count; i++)
        s->content.arrays[i].offset = s->numbers[i];
    if (!status && s->rank != 0) {
        s->temporary = lks_file_temporary_name(s->path, token);
        status = s->temporary ? lks_file_open(s->temporary, true, &s->pieces.descriptor)
                              : lks_fail(LKS_ENOMEM, "out of memory");
    }
    s->pieces.path = s->temporary;
    return lks_comm_agree(s->comm, status);
}

/* ---- the end: rank 0 alone ---- */

static lks_status count_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)path, (void)dtype, (void)shape;
    ++*(int *)data;
    return LKS_OK;
}

/* Are all objects there, as a reader will find them? */
static lks_status check_layout(const lks_save *s) {
    lks_checkpoint *checkpoint;
    lks_status status = lks_checkpoint_open(s->temporary, &checkpoint);
    if (status) return lks_fail_in(LKS_EIO, "reading back failed");
    int count = 0;
    status = lks_checkpoint_visit(checkpoint, count_array, &count);
    lks_checkpoint_close(checkpoint);
    if (status) return lks_fail_in(LKS_EIO, "reading back failed");
    if (count == s->content.array_count) return LKS_OK;
    return lks_fail(LKS_EIO, "reading back failed: %d arrays were found, expected %d", count,
                    s->content.array_count);
}

/* The temporary file becomes the checkpoint. */
static lks_status publish(lks_save *s) {
    lks_status status = lks_file_layout_finish(&s->layout, &s->content, s->pieces.hashes);
    if (!status)
        status = lks_file_layout_copy(&s->layout, &s->content, s->pieces.descriptor, s->temporary);
    if (!status) status = check_layout(s);
    if (!status) status = lks_file_sync(s->pieces.descriptor, s->temporary);
    return status ? status : lks_file_rename(s->temporary, s->path);
}

/* ---- phases ---- */

/* Between two windows all ranks meet, which a save in the background does only between steps: it
 * has one. */
static int64_t window_bytes(const lks_save *s) {
    if (s->in_background || s->pieces.written_elsewhere) return INT64_MAX;
    return (int64_t)WINDOW * (s->size > 1 ? s->size : 2);
}

static lks_status work_phase(lks_save *s) {
    switch (s->phase) {
    case PHASE_WRITE:
        return lks_pieces_write(&s->pieces);
    case PHASE_CHECK:
        return lks_pieces_check(&s->pieces);
    case PHASE_PUBLISH:
        return s->rank == 0 ? publish(s) : LKS_OK;
    case PHASE_DONE:
        break;
    }
    return LKS_OK;
}

static void *run_phase(void *data) {
    lks_save *s = data;
    s->status = work_phase(s);
    if (s->status) snprintf(s->detail, sizeof s->detail, "%s", lks_last_error());
    atomic_store(&s->phase_ended, true);
    return NULL;
}

/* Without a thread the phase takes the caller's time instead. */
static void start_phase(lks_save *s, phase phase) {
    s->phase = phase;
    atomic_store(&s->phase_ended, false);
    s->thread_runs = s->in_background && !lks_thread_start(run_phase, s, &s->thread);
    if (!s->thread_runs) run_phase(s);
}

/* From the first window on. */
static void start_first_window(lks_save *s, phase phase) {
    (void)lks_pieces_next_window(&s->pieces, window_bytes(s));
    start_phase(s, phase);
}

static void wait_for_phase(lks_save *s) {
    if (s->thread_runs) pthread_join(s->thread, NULL);
    s->thread_runs = false;
}

/* The verdict of all ranks on the phase that has ended. Collective. */
static lks_status agree_phase(lks_save *s) {
    wait_for_phase(s);
    if (s->status) (void)lks_fail(s->status, "%s", s->detail);
    return lks_comm_agree(s->comm, s->status);
}

static void free_save(lks_save *s) {
    if (s->pieces.descriptor >= 0) close(s->pieces.descriptor);
    lks_file_layout_free(&s->layout, &s->content);
    lks_save_content_free(&s->content);
    free(s->pieces.hashes);
    free(s->pieces.block);
    free(s->numbers);
    free(s->temporary);
    free(s->path);
    free(s);
}

/* Collective: the temporary file is gone when any rank returns. */
static lks_status give_up(lks_save *s, lks_status status) {
    s->phase = PHASE_DONE;
    s->status = lks_fail_in(status, "checkpoint %s was not saved", s->path);
    snprintf(s->detail, sizeof s->detail, "%s", lks_last_error());
    if (s->rank == 0 && s->temporary) unlink(s->temporary);
    (void)lks_comm_barrier(s->comm);
    return lks_fail(s->status, "%s", s->detail);
}

/* ---- the interface ---- */

static lks_status open_save(lks_comm *comm, const char *path, lks_save **out) {
    lks_save *s = calloc(1, sizeof *s);
    *out = s;
    if (s) s->path = lks_strdup(path);
    if (!s || !s->path) return lks_fail(LKS_ENOMEM, "checkpoint %s: out of memory", path);
    s->comm = comm;
    s->rank = lks_comm_rank(comm);
    s->size = lks_comm_size(comm);
    s->layout = (lks_file_layout)LKS_FILE_LAYOUT_NONE;
    s->pieces.content = &s->content;
    s->pieces.descriptor = -1;
    return LKS_OK;
}

/* Everything before the first phase. Collective. */
static lks_status begin(lks_comm *comm, const char *path, const lks_checkpoint_content *content,
                        lks_save **out) {
    lks_save *s;
    lks_status status = lks_comm_agree(comm, open_save(comm, path, &s));
    if (status) {
        if (s) free(s->path);
        free(s);
        return status;
    }
    status = lks_comm_agree(comm, prepare(s, content));
    if (!status) status = check_coverage(s);
    if (!status) status = create_file(s, content);
    if (status) {
        status = give_up(s, status);
        free_save(s);
        return status;
    }
    *out = s;
    return LKS_OK;
}

lks_status lks_save_start(lks_comm *comm, const char *path, const lks_checkpoint_content *content,
                          lks_save **out) {
    *out = NULL;
    lks_status status = begin(comm, path, content, out);
    if (status) return status;
    (*out)->in_background = true;
    start_first_window(*out, PHASE_WRITE);
    return LKS_OK;
}

bool lks_save_ready(const lks_save *save) {
    return save->phase == PHASE_DONE || atomic_load(&save->phase_ended);
}

lks_status lks_save_advance(lks_save *s, bool *done) {
    *done = true;
    if (s->phase == PHASE_DONE) return s->status ? lks_fail(s->status, "%s", s->detail) : LKS_OK;
    lks_status status = agree_phase(s);
    phase next = (phase)(s->phase + 1);
    if (s->phase == PHASE_CHECK && lks_pieces_next_window(&s->pieces, window_bytes(s)))
        next = PHASE_WRITE;
    /* One rank's number and the others' zeros: the sum is the number. */
    if (!status && next == PHASE_PUBLISH)
        status = lks_comm_all_reduce(s->comm, s->pieces.hashes, s->content.block_count, LKS_I64,
                                     LKS_REDUCE_SUM);
    if (status) return give_up(s, status);
    if (next == PHASE_DONE)
        s->phase = PHASE_DONE;
    else
        start_phase(s, next);
    *done = s->phase == PHASE_DONE;
    return LKS_OK;
}

lks_status lks_save_finish(lks_save *save) {
    if (!save) return LKS_OK;
    lks_status status = LKS_OK;
    for (bool done = false; !done;)
        status = lks_save_advance(save, &done);
    free_save(save);
    return status;
}

void lks_save_abandon(lks_save *save) {
    if (!save) return;
    atomic_store(&save->pieces.stop, true);
    wait_for_phase(save);
    if (save->rank == 0 && save->phase != PHASE_DONE) unlink(save->temporary);
    free_save(save);
}

/* The first phase by MPI-IO. Collective. */
static lks_status write_together(lks_save *s) {
    lks_file_part *parts = NULL;
    int64_t count = 0;
    lks_status status = lks_comm_agree(s->comm, lks_pieces_list(&s->pieces, &parts, &count));
    if (!status) status = lks_comm_write_file(s->comm, s->temporary, parts, count);
    free(parts);
    s->pieces.written_elsewhere = true;
    return status;
}

lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content, lks_transfer transfer) {
    lks_save *save = NULL;
    lks_status status = begin(comm, path, content, &save);
    if (status) return status;
    if (transfer == LKS_TRANSFER_INDEPENDENT) {
        start_first_window(save, PHASE_WRITE);
    } else {
        status = write_together(save);
        if (status) (void)give_up(save, status);
        if (!status) start_first_window(save, PHASE_CHECK);
    }
    return lks_save_finish(save);
}
