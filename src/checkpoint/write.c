/* Saving: rank 0 lays the file out (layout.h), every rank writes its pieces where they belong with
 * plain pwrite, and what makes an HDF5 file of it is written last. The order of the steps keeps a
 * checkpoint whole; see lks_checkpoint_write at the end. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/file.h"
#include "checkpoint/layout.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are little-endian in the file and are written as they are in memory");

typedef struct save {
    lks_comm *comm;
    int rank, size;
    const char *path;
    const lks_checkpoint_content *given;
    lks_save_content content;
    lks_file_layout layout; /* rank 0's */
    char *temporary;        /* name of the file until it is whole; set once it may exist */
    int descriptor;         /* of that file, on every rank; -1: not open */
    int64_t *hashes;        /* [content.block_count]: those of this rank's blocks, later of all */
    int64_t *numbers; /* [content.array_count]: what is said about each array to other ranks */
    void *block;      /* [LKS_BLOCK_BYTES]: a block read back */
} save;

/* ---- before the file exists ---- */

static lks_status prepare(save *s) {
    lks_status status = lks_save_content_make(s->given, s->rank, &s->content);
    if (status) return status;
    s->hashes = calloc((size_t)s->content.block_count + 1, sizeof *s->hashes);
    s->numbers = calloc((size_t)s->content.array_count + 1, sizeof *s->numbers);
    s->block = malloc(LKS_BLOCK_BYTES);
    if (s->hashes && s->numbers && s->block) return LKS_OK;
    return lks_fail(LKS_ENOMEM, "out of memory for %lld hashes", (long long)s->content.block_count);
}

/* Do the pieces of all ranks add up to each array? Collective. */
static lks_status check_coverage(save *s) {
    int count = s->content.array_count;
    for (int i = 0; i < count; i++) {
        const lks_checkpoint_array *array = s->content.arrays[i].array;
        for (int p = 0; p < array->piece_count; p++)
            s->numbers[i] += array->pieces[p].count;
    }
    lks_status status = lks_comm_all_reduce(s->comm, s->numbers, count, LKS_I64, LKS_REDUCE_SUM);
    for (int i = 0; !status && i < count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        if (s->numbers[i] != entry->grid.count) {
            status = lks_fail(LKS_EINVAL,
                              "array %s: the pieces of all ranks have %lld elements, "
                              "expected %lld",
                              entry->array->path, (long long)s->numbers[i],
                              (long long)entry->grid.count);
        }
    }
    return lks_comm_agree(s->comm, status);
}

/* ---- the file ---- */

/* Rank 0: the temporary file, with room on the disk, and the layout. */
static lks_status lay_out(save *s, uint64_t *out_token) {
    lks_status status = lks_file_layout_make(s->given, s->size, &s->content, &s->layout);
    if (!status) status = lks_file_create_temporary(s->path, out_token);
    if (status) return status;
    s->temporary = lks_file_temporary_name(s->path, *out_token);
    if (!s->temporary) return lks_fail(LKS_ENOMEM, "out of memory");
    status = lks_file_open(s->temporary, &s->descriptor);
    return status ? status : lks_file_reserve(s->descriptor, s->temporary, s->layout.bytes);
}

/* Every rank learns the temporary file's name and where each array begins, and opens it.
 * Collective. */
static lks_status create_file(save *s) {
    uint64_t token = 0;
    lks_status status = s->rank == 0 ? lay_out(s, &token) : LKS_OK;
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
        status = s->temporary ? lks_file_open(s->temporary, &s->descriptor)
                              : lks_fail(LKS_ENOMEM, "out of memory");
    }
    return lks_comm_agree(s->comm, status);
}

/* ---- the data ---- */

static int64_t place_of(const lks_save_array *entry, int64_t element) {
    return entry->offset + element * (int64_t)entry->grid.element_bytes;
}

/* Collective. Afterwards every rank sees every byte, and all of them are on the disk. */
static lks_status write_pieces(save *s) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < s->content.array_count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        for (int p = 0; !status && p < entry->array->piece_count; p++) {
            const lks_piece *piece = &entry->array->pieces[p];
            if (piece->count == 0) continue;
            status = lks_file_write_at(s->descriptor, s->temporary, piece->data,
                                       (size_t)piece->count * entry->grid.element_bytes,
                                       place_of(entry, piece->first));
            if (status) status = lks_fail_in(status, "array %s", entry->array->path);
        }
    }
    if (!status) status = lks_file_sync(s->descriptor, s->temporary);
    return lks_comm_agree(s->comm, status);
}

/* A block that this piece holds only in part is read back whole: the others' bytes are needed for
 * its hash, and this rank's own must be found as they were written. */
static lks_status read_back(save *s, const lks_save_array *entry, const lks_piece *piece,
                            int64_t begin, int64_t end) {
    size_t bytes = entry->grid.element_bytes;
    lks_status status = lks_file_read_at(s->descriptor, s->temporary, s->block,
                                         (size_t)(end - begin) * bytes, place_of(entry, begin));
    if (status) return status;
    int64_t own_begin = piece->first > begin ? piece->first : begin;
    int64_t piece_end = piece->first + piece->count;
    int64_t own_end = piece_end < end ? piece_end : end;
    const char *written = (const char *)piece->data + (size_t)(own_begin - piece->first) * bytes;
    const char *found = (const char *)s->block + (size_t)(own_begin - begin) * bytes;
    if (memcmp(written, found, (size_t)(own_end - own_begin) * bytes) == 0) return LKS_OK;
    return lks_fail(LKS_EIO,
                    "array %s: elements %lld to %lld read back differently than they were "
                    "written: the file system lost data",
                    entry->array->path, (long long)own_begin, (long long)own_end - 1);
}

/* The hashes of the blocks whose first element is in this piece. */
static lks_status hash_piece(save *s, const lks_save_array *entry, const lks_piece *piece) {
    if (piece->count == 0) return LKS_OK;
    const lks_block_grid *grid = &entry->grid;
    int64_t piece_end = piece->first + piece->count;
    int64_t last = (piece_end - 1) / grid->block_elements;
    for (int64_t b = piece->first / grid->block_elements; b <= last; b++) {
        int64_t begin, end;
        lks_block_range(grid, b, &begin, &end);
        const char *data = s->block;
        if (piece->first <= begin && piece_end >= end) {
            data = (const char *)piece->data + (size_t)(begin - piece->first) * grid->element_bytes;
        } else {
            lks_status status = read_back(s, entry, piece, begin, end);
            if (status) return status;
        }
        if (piece->first <= begin) {
            s->hashes[entry->first_block + b] =
                lks_hash(data, (size_t)(end - begin) * grid->element_bytes);
        }
    }
    return LKS_OK;
}

/* Each block's hash comes from the one rank that has its first element. Collective. */
static lks_status hash_blocks(save *s) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < s->content.array_count; i++) {
        const lks_checkpoint_array *array = s->content.arrays[i].array;
        for (int p = 0; !status && p < array->piece_count; p++)
            status = hash_piece(s, &s->content.arrays[i], &array->pieces[p]);
    }
    status = lks_comm_agree(s->comm, status);
    if (status) return status;
    /* One rank's number and the others' zeros: the sum is the number. */
    return lks_comm_all_reduce(s->comm, s->hashes, s->content.block_count, LKS_I64, LKS_REDUCE_SUM);
}

/* ---- the end: rank 0 alone ---- */

static lks_status count_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)path, (void)dtype, (void)shape;
    ++*(int *)data;
    return LKS_OK;
}

/* Are all objects there, as a reader will find them? */
static lks_status check_layout(const save *s) {
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
static lks_status publish(save *s) {
    lks_status status = lks_file_layout_finish(&s->layout, &s->content, s->hashes);
    if (!status)
        status = lks_file_layout_copy(&s->layout, &s->content, s->descriptor, s->temporary);
    if (!status) status = check_layout(s);
    if (!status) status = lks_file_sync(s->descriptor, s->temporary);
    return status ? status : lks_file_rename(s->temporary, s->path);
}

lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content) {
    save s = {
        .comm = comm,
        .rank = lks_comm_rank(comm),
        .size = lks_comm_size(comm),
        .path = path,
        .given = content,
        .layout = LKS_FILE_LAYOUT_NONE,
        .descriptor = -1,
    };
    lks_status status = lks_comm_agree(comm, prepare(&s));
    if (!status) status = check_coverage(&s);
    if (!status) status = create_file(&s);
    if (!status) status = write_pieces(&s);
    if (!status) status = hash_blocks(&s);
    if (!status) status = lks_comm_agree(comm, s.rank == 0 ? publish(&s) : LKS_OK);

    if (status) {
        if (s.rank == 0 && s.temporary) unlink(s.temporary);
        (void)lks_comm_barrier(comm); /* it is gone when any rank returns */
    }
    if (s.descriptor >= 0) close(s.descriptor);
    free(s.temporary);
    free(s.block);
    free(s.numbers);
    free(s.hashes);
    lks_file_layout_free(&s.layout, &s.content);
    lks_save_content_free(&s.content);
    return status ? lks_fail_in(status, "checkpoint %s was not saved", path) : LKS_OK;
}
