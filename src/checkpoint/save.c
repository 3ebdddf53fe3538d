/* Saving: rank 0 lays the file out (layout.h), every rank writes its pieces where they belong, and
 * what makes an HDF5 file of it is written last. The order of the phases keeps a checkpoint whole.
 *
 * A phase is local work. It runs in the calling thread (lks_checkpoint_write) or in one of its own
 * (lks_save_start); all that needs the other ranks happens between two phases, in the caller's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "checkpoint/layout.h"
#include "checkpoint/pieces.h"

/* Bytes that a rank writes before all check what was written (of one rank twice as many): enough
 * for the disk to be at work all the time, few enough for the system to need little memory for
 * them, which a node that is full of training may not have, or gives slowly. */
enum { WINDOW = 32 << 20 };

typedef enum phase {
    PHASE_PREPARE, /* rank 0: the temporary file, with room on the disk, and the layout */
    PHASE_WRITE,   /* every rank: its pieces, a window of the file at a time */
    PHASE_CHECK,   /* every rank: the window's blocks that are not one rank's alone */
    PHASE_PUBLISH, /* rank 0: structure, trailer, name, and what its user does then */
    PHASE_DONE
} phase;

struct lks_save {
    lks_comm *comm;
    int rank, size;
    bool is_open; /* from its start to its end */
    const char *path;
    char *temporary; /* the name until the file is whole; set once it may exist */
    uint64_t token;  /* in that name */
    lks_save_content content;
    lks_file_layout layout; /* rank 0's */
    lks_pieces pieces;
    lks_published published; /* function NULL: none */
    lks_transfer transfer;

    /* What the ranks exchange: of each array how many elements the pieces have, then where it
     * begins, then the token, [2 * content.array_count + 1]; later the hashes. */
    int64_t *numbers;
    lks_request *exchange; /* between two phases, while it is under way */

    phase phase;
    bool in_background;
    bool thread_runs; /* until it is joined */
    pthread_t thread;
    atomic_bool phase_ended;
    double worked; /* seconds, in phases */

    lks_status status;            /* of the phase on this rank; after the last one, the verdict */
    char detail[LKS_ERROR_BYTES]; /* lks_last_error of `status`, which is another thread's */
};

/* ---- before the file exists ---- */

static lks_status list_content(lks_save *s, const lks_checkpoint_content *content) {
    lks_status status = lks_save_content_make(content, s->rank, &s->content);
    if (status) return status;
    s->numbers = calloc(2 * (size_t)s->content.array_count + 1, sizeof *s->numbers);
    s->pieces.hashes = calloc((size_t)s->content.block_count + 1, sizeof *s->pieces.hashes);
    s->pieces.block = malloc(LKS_BLOCK_BYTES);
    if (s->numbers && s->pieces.hashes && s->pieces.block) return LKS_OK;
    return lks_fail(LKS_ENOMEM, "out of memory for %lld hashes", (long long)s->content.block_count);
}

static lks_status name_temporary(lks_save *s) {
    s->temporary = lks_file_temporary_name(s->path, s->token);
    s->pieces.path = s->temporary;
    return s->temporary ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory");
}

/* Every rank, before it writes; some have it open. */
static lks_status open_temporary(lks_save *s) {
    lks_status status = s->temporary ? LKS_OK : name_temporary(s);
    if (status || s->pieces.descriptor >= 0) return status;
    return lks_file_open(s->temporary, true, &s->pieces.descriptor);
}

/* Rank 0. The attributes are in the layout already. */
static lks_status create_file(lks_save *s) {
    lks_status status = lks_file_layout_arrays(&s->layout, &s->content);
    if (!status) status = lks_file_create_temporary(s->path, &s->token);
    if (!status) status = open_temporary(s);
    return status ? status : lks_file_reserve(s->pieces.descriptor, s->temporary, s->layout.bytes);
}

/* Rank 0's numbers and the others' zeros: the sum is the number. */
static lks_status share_layout(lks_save *s) {
    int count = s->content.array_count;
    for (int i = 0; i < count; i++) {
        const lks_save_array *array = &s->content.arrays[i];
        for (int p = 0; p < array->piece_count; p++)
            s->numbers[i] += array->pieces[p].count;
        s->numbers[count + i] = s->rank == 0 ? array->offset : 0;
    }
    s->numbers[2 * count] = s->rank == 0 ? (int64_t)s->token : 0;
    return lks_comm_all_reduce_start(s->comm, s->numbers, 2 * (int64_t)count + 1, LKS_I64,
                                     LKS_REDUCE_SUM, &s->exchange);
}

/* Do the pieces of all ranks add up to each array? Every rank finds the same. */
static lks_status take_layout(lks_save *s) {
    int count = s->content.array_count;
    s->token = (uint64_t)s->numbers[2 * count];
    for (int i = 0; i < count; i++) {
        lks_save_array *array = &s->content.arrays[i];
        if (s->numbers[i] != array->grid.count)
            return lks_fail(LKS_EINVAL,
                            "array %s: the pieces of all ranks have %lld elements, "
                            "expected %lld",
                            array->path, (long long)s->numbers[i], (long long)array->grid.count);
        array->offset = s->numbers[count + i];
    }
    return LKS_OK;
}

static lks_status write_pieces(lks_save *s) {
    lks_status status = open_temporary(s);
    return status ? status : lks_pieces_write(&s->pieces);
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
    if (!status) status = lks_file_rename(s->temporary, s->path);
    if (status || !s->published.function) return status;
    return s->published.function(s->published.data);
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
    case PHASE_PREPARE:
        return s->rank == 0 ? create_file(s) : LKS_OK;
    case PHASE_WRITE:
        return write_pieces(s);
    case PHASE_CHECK:
        return lks_pieces_check(&s->pieces);
    case PHASE_PUBLISH:
        return s->rank == 0 ? publish(s) : LKS_OK;
    case PHASE_DONE:
        break;
    }
    return LKS_OK;
}

static void end_phase(lks_save *s, lks_status status) {
    s->status = status;
    if (status) snprintf(s->detail, sizeof s->detail, "%s", lks_last_error());
    atomic_store(&s->phase_ended, true);
}

static void *run_phase(void *data) {
    lks_save *s = data;
    double began = lks_clock_seconds();
    lks_status status = work_phase(s);
    s->worked += lks_clock_seconds() - began;
    end_phase(s, status);
    return NULL;
}

/* Without a thread the phase takes the caller's time instead. */
static void start_phase(lks_save *s, phase phase) {
    s->phase = phase;
    atomic_store(&s->phase_ended, false);
    s->thread_runs = s->in_background && !lks_thread_start(run_phase, s, &s->thread);
    if (!s->thread_runs) run_phase(s);
}

static void wait_for_phase(lks_save *s) {
    if (s->thread_runs) pthread_join(s->thread, NULL);
    s->thread_runs = false;
}

/* The verdict of all ranks on the phase that has ended. Collective. */
static lks_status agree_phase(lks_save *s) {
    if (s->status) (void)lks_fail(s->status, "%s", s->detail);
    return lks_comm_agree(s->comm, s->status);
}

static lks_status end_exchange(lks_save *s) {
    lks_request *exchange = s->exchange;
    s->exchange = NULL;
    return lks_comm_wait(s->comm, exchange);
}

/* Ends the use; what is left can be started again. */
static void close_save(lks_save *s) {
    if (s->pieces.descriptor >= 0) close(s->pieces.descriptor);
    lks_file_layout_free(&s->layout, &s->content);
    lks_save_content_free(&s->content);
    free(s->pieces.hashes);
    free(s->pieces.block);
    free(s->numbers);
    free(s->temporary);
    s->pieces = (lks_pieces){.content = &s->content, .descriptor = -1};
    s->numbers = NULL;
    s->temporary = NULL;
    s->is_open = false;
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

/* The first phase that writes, by MPI-IO. Collective. */
static lks_status write_together(lks_save *s) {
    lks_file_part *parts = NULL;
    int64_t count = 0;
    lks_status status = open_temporary(s);
    if (!status) status = lks_pieces_list(&s->pieces, &parts, &count);
    status = lks_comm_agree(s->comm, status);
    if (!status) status = lks_comm_write_file(s->comm, s->temporary, parts, count);
    free(parts);
    s->pieces.written_elsewhere = true;
    return status;
}

/* Starts what the ranks exchange behind the phase that has ended; nothing behind most of them. */
static lks_status start_exchange(lks_save *s) {
    if (s->phase == PHASE_PREPARE) return share_layout(s);
    if (s->phase != PHASE_CHECK || s->pieces.end_block < s->content.block_count) return LKS_OK;
    return lks_comm_all_reduce_start(s->comm, s->pieces.hashes, s->content.block_count, LKS_I64,
                                     LKS_REDUCE_SUM, &s->exchange);
}

/* Behind a phase, and what was exchanged behind it. */
static lks_status start_next(lks_save *s) {
    lks_status status = LKS_OK;
    switch (s->phase) {
    case PHASE_PREPARE:
        status = take_layout(s);
        if (!status && s->transfer == LKS_TRANSFER_COLLECTIVE) status = write_together(s);
        if (status) return status;
        (void)lks_pieces_next_window(&s->pieces, window_bytes(s));
        start_phase(s, s->pieces.written_elsewhere ? PHASE_CHECK : PHASE_WRITE);
        break;
    case PHASE_WRITE:
        start_phase(s, PHASE_CHECK);
        break;
    case PHASE_CHECK:
        start_phase(s, lks_pieces_next_window(&s->pieces, window_bytes(s)) ? PHASE_WRITE
                                                                           : PHASE_PUBLISH);
        break;
    default:
        s->phase = PHASE_DONE;
    }
    return LKS_OK;
}

/* ---- the interface ---- */

lks_status lks_save_create(lks_comm *comm, lks_save **out) {
    lks_save *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return lks_fail(LKS_ENOMEM, "a save: out of memory");
    s->comm = comm;
    s->rank = lks_comm_rank(comm);
    s->size = lks_comm_size(comm);
    s->phase = PHASE_DONE;
    s->layout = (lks_file_layout)LKS_FILE_LAYOUT_NONE;
    s->pieces = (lks_pieces){.content = &s->content, .descriptor = -1};
    return LKS_OK;
}

void lks_save_destroy(lks_save *save) {
    lks_save_abandon(save);
    free(save);
}

static void start(lks_save *s, const char *path, const lks_checkpoint_content *content,
                  lks_status before) {
    s->is_open = true;
    s->worked = 0;
    s->path = path;
    s->phase = PHASE_PREPARE;
    lks_status status = before ? before : list_content(s, content);
    if (!status && s->rank == 0) status = lks_file_layout_open(content, s->size, &s->layout);
    if (status)
        end_phase(s, status);
    else
        start_phase(s, PHASE_PREPARE);
}

void lks_save_start(lks_save *save, const char *path, const lks_checkpoint_content *content,
                    const lks_published *published, lks_status before) {
    save->in_background = true;
    save->transfer = LKS_TRANSFER_INDEPENDENT;
    save->published = published ? *published : (lks_published){0};
    start(save, path, content, before);
}

void lks_save_fail(lks_save *save, lks_status status) {
    wait_for_phase(save);
    end_phase(save, status);
}

bool lks_save_is_open(const lks_save *save) {
    return save->is_open;
}

bool lks_save_ready(const lks_save *save) {
    return save->phase == PHASE_DONE || atomic_load(&save->phase_ended);
}

bool lks_save_has_failed(const lks_save *save) {
    return lks_save_ready(save) && save->status;
}

double lks_save_worked(const lks_save *save) {
    return save->worked;
}

lks_status lks_save_advance(lks_save *s, bool all_succeeded, bool *done) {
    *done = true;
    if (s->phase == PHASE_DONE) return s->status ? lks_fail(s->status, "%s", s->detail) : LKS_OK;
    lks_status status = LKS_OK;
    if (s->exchange) {
        status = end_exchange(s);
        if (!status) status = start_next(s);
    } else {
        wait_for_phase(s);
        if (!all_succeeded) status = agree_phase(s);
        if (!status) status = start_exchange(s);
        if (!status && !s->exchange) status = start_next(s);
    }
    if (status) return give_up(s, status);
    *done = s->phase == PHASE_DONE;
    return LKS_OK;
}

lks_status lks_save_finish(lks_save *save) {
    lks_status status = LKS_OK;
    for (bool done = !save->is_open; !done;)
        status = lks_save_advance(save, false, &done);
    close_save(save);
    return status;
}

void lks_save_abandon(lks_save *save) {
    if (!save || !save->is_open) return;
    atomic_store(&save->pieces.stop, true);
    wait_for_phase(save);
    if (save->exchange) (void)end_exchange(save);
    if (save->rank == 0 && save->phase != PHASE_DONE && save->temporary) unlink(save->temporary);
    save->phase = PHASE_DONE;
    close_save(save);
}

lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content, lks_transfer transfer) {
    lks_save *save;
    lks_status status = lks_comm_agree(comm, lks_save_create(comm, &save));
    if (!status) {
        save->transfer = transfer;
        start(save, path, content, LKS_OK);
        status = lks_save_finish(save);
    }
    free(save);
    return status;
}
