/* Saving. The order of the steps is what keeps a checkpoint whole: see lks_checkpoint_write at the
 * end. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/content.h"
#include "checkpoint/file.h"
#include "lockstep/version.h"

typedef struct save {
    lks_comm *comm;
    int rank, size;
    const char *path;
    const lks_checkpoint_content *given;
    lks_save_content content;
    char *temporary; /* its name; set once the file may exist */
    lks_h5_file *file;
    int64_t *hashes;  /* [content.block_count]: those of this rank's blocks, later of all */
    int64_t *tallies; /* [content.array_count]: elements that this rank's pieces cover */
    void *block;      /* [LKS_BLOCK_BYTES]: a block read back */
    char created[24]; /* UTC, ISO 8601 */
} save;

/* ---- before the file exists ---- */

static lks_status prepare(save *s) {
    lks_status status = lks_save_content_make(s->given, s->rank, &s->content);
    if (status) return status;
    s->hashes = calloc((size_t)s->content.block_count + 1, sizeof *s->hashes);
    s->tallies = calloc((size_t)s->content.array_count + 1, sizeof *s->tallies);
    s->block = malloc(LKS_BLOCK_BYTES);
    if (!s->hashes || !s->tallies || !s->block)
        return lks_fail(LKS_ENOMEM, "out of memory for %lld hashes",
                        (long long)s->content.block_count);
    for (int i = 0; i < s->content.array_count; i++) {
        const lks_checkpoint_array *array = s->content.arrays[i].array;
        for (int p = 0; p < array->piece_count; p++)
            s->tallies[i] += array->pieces[p].count;
    }
    return LKS_OK;
}

/* Do the pieces of all ranks add up to each array? Collective. */
static lks_status check_coverage(save *s) {
    int count = s->content.array_count;
    lks_status status = lks_comm_all_reduce(s->comm, s->tallies, count, LKS_I64, LKS_REDUCE_SUM);
    for (int i = 0; !status && i < count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        if (s->tallies[i] != entry->grid.count) {
            status = lks_fail(LKS_EINVAL,
                              "array %s: the pieces of all ranks have %lld elements, "
                              "expected %lld",
                              entry->array->path, (long long)s->tallies[i],
                              (long long)entry->grid.count);
        }
    }
    return lks_comm_agree(s->comm, status);
}

/* Rank 0 makes the temporary file; every rank learns its name and the time. Collective. */
static lks_status create_temporary(save *s) {
    struct {
        uint64_t token;
        char created[sizeof s->created];
    } shared = {0};
    lks_status status = LKS_OK;
    if (s->rank == 0) {
        time_t now = time(NULL);
        struct tm utc;
        gmtime_r(&now, &utc);
        strftime(shared.created, sizeof shared.created, "%Y-%m-%dT%H:%M:%SZ", &utc);
        status = lks_file_create_temporary(s->path, &shared.token);
        if (!status) {
            s->temporary = lks_file_temporary_name(s->path, shared.token);
            if (!s->temporary) status = lks_fail(LKS_ENOMEM, "out of memory");
        }
    }
    status = lks_comm_agree(s->comm, status);
    if (status) return status;
    status = lks_comm_broadcast(s->comm, &shared, sizeof shared, 0);
    if (!status && !s->temporary) {
        s->temporary = lks_file_temporary_name(s->path, shared.token);
        if (!s->temporary) status = lks_fail(LKS_ENOMEM, "out of memory");
    }
    memcpy(s->created, shared.created, sizeof s->created);
    return lks_comm_agree(s->comm, status);
}

/* ---- the layout: every call is collective and agrees by itself ---- */

static lks_status lay_out_array(save *s, lks_save_array *entry) {
    const lks_checkpoint_array *array = entry->array;
    lks_status status =
        lks_h5_create_array(s->file, array->path, array->dtype, &array->shape, &entry->data);
    if (status) return status;
    char *path = lks_integrity_path(array->path);
    status = lks_comm_agree(s->comm, path ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory"));
    if (!status) {
        lks_shape shape = {.rank = 1, .dim = {entry->grid.block_count}};
        status = lks_h5_create_array(s->file, path, LKS_I64, &shape, &entry->hashes);
    }
    free(path);
    return status;
}

/* A text and its hash: texts stand in a part of the file that has no checksum of HDF5's. */
static lks_status write_text(save *s, const char *path, const char *name, const char *text) {
    lks_status status = lks_h5_write_attr_text(s->file, path, name, text);
    if (status) return status;
    char *key = lks_integrity_attr(path, name);
    status = lks_comm_agree(s->comm, key ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory"));
    if (!status) {
        status =
            lks_h5_write_attr_i64(s->file, LKS_INTEGRITY_GROUP, key, lks_hash(text, strlen(text)));
    }
    free(key);
    return status;
}

static lks_status write_attr(save *s, const lks_checkpoint_attr *attr) {
    if (lks_attr_is_long(attr)) return LKS_OK; /* an array by now */
    lks_status status = LKS_OK;
    if (!lks_h5_exists(s->file, attr->path)) status = lks_h5_create_group(s->file, attr->path);
    if (status) return status;
    switch (attr->kind) {
    case LKS_ATTR_I64:
        return lks_h5_write_attr_i64(s->file, attr->path, attr->name, attr->i64);
    case LKS_ATTR_F64:
        return lks_h5_write_attr_f64(s->file, attr->path, attr->name, attr->f64, attr->count);
    case LKS_ATTR_TEXT:
        return write_text(s, attr->path, attr->name, attr->text);
    }
    return lks_comm_agree(s->comm, lks_fail(LKS_EINVAL, "attribute %s of %s: unknown kind %d",
                                            attr->name, attr->path, (int)attr->kind));
}

static lks_status write_root(save *s) {
    lks_status status = lks_h5_create_group(s->file, LKS_INTEGRITY_GROUP);
    if (!status)
        status = lks_h5_write_attr_text(s->file, LKS_INTEGRITY_GROUP, "algorithm", "XXH3-64");
    if (!status)
        status =
            lks_h5_write_attr_i64(s->file, LKS_INTEGRITY_GROUP, "block_bytes", LKS_BLOCK_BYTES);
    if (!status) status = write_text(s, "/", LKS_ATTR_FORMAT, LKS_CHECKPOINT_FORMAT);
    if (!status)
        status =
            lks_h5_write_attr_i64(s->file, "/", LKS_ATTR_VERSION, LKS_CHECKPOINT_FORMAT_VERSION);
    if (!status) status = write_text(s, "/", "lockstep_version", LKS_VERSION);
    if (!status) status = write_text(s, "/", "created", s->created);
    if (!status) status = lks_h5_write_attr_i64(s->file, "/", "ranks_at_save", s->size);
    return status;
}

static lks_status lay_out(save *s) {
    lks_status status = write_root(s);
    for (int i = 0; !status && i < s->content.array_count; i++)
        status = lay_out_array(s, &s->content.arrays[i]);
    for (int i = 0; !status && i < s->given->attr_count; i++)
        status = write_attr(s, &s->given->attrs[i]);
    return status;
}

/* Where the last array ends in the file. */
static int64_t end_of_arrays(const save *s) {
    int64_t end = 0;
    for (int i = 0; i < s->content.array_count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        int64_t data = lks_h5_array_file_offset(entry->data);
        int64_t hashes = lks_h5_array_file_offset(entry->hashes);
        data += entry->grid.count * (int64_t)entry->grid.element_bytes;
        hashes += entry->grid.block_count * (int64_t)sizeof(int64_t);
        if (data > end) end = data;
        if (hashes > end) end = hashes;
    }
    return end;
}

/* A full disk must be found before the data are under way: a file system that runs out in the
 * middle of a parallel write may not say so. Collective. */
static lks_status reserve(save *s) {
    int64_t end = end_of_arrays(s);
    lks_status status = s->rank == 0 && end > 0 ? lks_file_reserve(s->temporary, end) : LKS_OK;
    return lks_comm_agree(s->comm, status);
}

/* ---- the data: independent transfers, one agreement after them ---- */

static lks_status write_pieces(save *s) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < s->content.array_count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        const lks_checkpoint_array *array = entry->array;
        for (int p = 0; !status && p < array->piece_count; p++) {
            const lks_piece *piece = &array->pieces[p];
            status =
                lks_h5_write(entry->data, piece->first, piece->count, array->dtype, piece->data);
        }
    }
    return lks_comm_agree(s->comm, status);
}

/* A block that this piece holds only in part is read back whole: the others' bytes are needed for
 * its hash, and this rank's own must be found as they were written. */
static lks_status read_back(save *s, const lks_save_array *entry, const lks_piece *piece,
                            int64_t begin, int64_t end) {
    const lks_checkpoint_array *array = entry->array;
    size_t bytes = entry->grid.element_bytes;
    lks_status status = lks_h5_read(entry->data, begin, end - begin, array->dtype, s->block);
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
                    array->path, (long long)own_begin, (long long)own_end - 1);
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

static lks_status write_hashes(save *s) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && s->rank == 0 && i < s->content.array_count; i++) {
        const lks_save_array *entry = &s->content.arrays[i];
        status = lks_h5_write(entry->hashes, 0, entry->grid.block_count, LKS_I64,
                              s->hashes + entry->first_block);
    }
    return lks_comm_agree(s->comm, status);
}

/* ---- the end ---- */

static void close_arrays(save *s) {
    for (int i = 0; i < s->content.array_count; i++) {
        lks_save_array *entry = &s->content.arrays[i];
        if (entry->data) lks_h5_close_array(entry->data);
        if (entry->hashes) lks_h5_close_array(entry->hashes);
        entry->data = entry->hashes = NULL;
    }
}

/* Collective. The first error wins. */
static lks_status close_file(save *s, lks_status status) {
    close_arrays(s);
    lks_status closed = LKS_OK;
    if (s->file) {
        char detail[LKS_ERROR_BYTES];
        snprintf(detail, sizeof detail, "%s", lks_last_error());
        closed = lks_h5_close(s->file);
        s->file = NULL;
        if (status) (void)lks_fail(status, "%s", detail);
    }
    return status ? status : closed;
}

static lks_status publish(save *s) {
    lks_status status = s->rank == 0 ? lks_file_publish(s->temporary, s->path) : LKS_OK;
    return lks_comm_agree(s->comm, status);
}

static lks_status write_file(save *s) {
    lks_status status = lks_h5_create_parallel(s->temporary, s->comm, &s->file);
    if (!status) status = lay_out(s);
    if (!status) status = reserve(s);
    if (!status) status = write_pieces(s);
    /* Only after a flush does a rank see what another host's ranks wrote. */
    if (!status) status = lks_h5_flush(s->file);
    if (!status) status = hash_blocks(s);
    if (!status) status = write_hashes(s);
    if (!status) status = lks_h5_write_attr_i64(s->file, "/", LKS_ATTR_COMPLETE, 1);
    if (!status) status = lks_h5_flush(s->file);
    return close_file(s, status);
}

lks_status lks_checkpoint_write(lks_comm *comm, const char *path,
                                const lks_checkpoint_content *content) {
    save s = {
        .comm = comm,
        .rank = lks_comm_rank(comm),
        .size = lks_comm_size(comm),
        .path = path,
        .given = content,
    };
    lks_status status = lks_comm_agree(comm, prepare(&s));
    if (!status) status = check_coverage(&s);
    if (!status) status = create_temporary(&s);
    if (!status) status = write_file(&s);
    if (!status) status = publish(&s);

    if (status && s.temporary && s.rank == 0) unlink(s.temporary);
    free(s.temporary);
    free(s.block);
    free(s.tallies);
    free(s.hashes);
    lks_save_content_free(&s.content);
    return status ? lks_fail_in(status, "checkpoint %s was not saved", path) : LKS_OK;
}
