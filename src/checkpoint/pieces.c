#include "checkpoint/pieces.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are little-endian in the file and are written as they are in memory");

/* What a piece has of one block. */
typedef struct part {
    const lks_save_array *array;
    int64_t block, begin, end;  /* the block, and its elements */
    int64_t own_begin, own_end; /* those of them that are the piece's */
    const char *data;           /* from own_begin on */
} part;

typedef lks_status (*part_fn)(lks_pieces *pieces, const part *part);

static size_t bytes_between(const part *part, int64_t begin, int64_t end) {
    return (size_t)(end - begin) * part->array->grid.element_bytes;
}

static int64_t place_of(const part *part, int64_t element) {
    return part->array->offset + element * (int64_t)part->array->grid.element_bytes;
}

static bool is_whole(const part *part) {
    return part->own_begin == part->begin && part->own_end == part->end;
}

/* The blocks of the window that the piece has elements of: [*begin, *end). */
static void blocks_in_window(const lks_pieces *pieces, const lks_save_array *array,
                             const lks_piece *piece, int64_t *begin, int64_t *end) {
    int64_t block = array->grid.block_elements;
    *begin = piece->first / block;
    *end = piece->count > 0 ? (piece->first + piece->count - 1) / block + 1 : *begin;
    int64_t first = pieces->first_block - array->first_block;
    int64_t behind = pieces->end_block - array->first_block;
    if (*begin < first) *begin = first;
    if (*end > behind) *end = behind;
}

static lks_status each_part_of_piece(lks_pieces *pieces, const lks_save_array *array,
                                     const lks_piece *piece, part_fn handle) {
    const lks_block_grid *grid = &array->grid;
    int64_t piece_end = piece->first + piece->count, b, end;
    blocks_in_window(pieces, array, piece, &b, &end);
    for (; b < end; b++) {
        if (atomic_load(&pieces->stop))
            return lks_fail(LKS_ESTOPPED, "%s is not written to its end", pieces->path);
        part part = {.array = array, .block = b};
        lks_block_range(grid, b, &part.begin, &part.end);
        part.own_begin = piece->first > part.begin ? piece->first : part.begin;
        part.own_end = piece_end < part.end ? piece_end : part.end;
        part.data = (const char *)piece->data +
                    (size_t)(part.own_begin - piece->first) * grid->element_bytes;
        lks_status status = handle(pieces, &part);
        if (status) return lks_fail_in(status, "array %s", array->path);
    }
    return LKS_OK;
}

static lks_status each_part(lks_pieces *pieces, part_fn handle) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < pieces->content->array_count; i++) {
        const lks_save_array *array = &pieces->content->arrays[i];
        for (int p = 0; !status && p < array->piece_count; p++)
            status = each_part_of_piece(pieces, array, &array->pieces[p], handle);
    }
    return status;
}

bool lks_pieces_next_window(lks_pieces *pieces, int64_t bytes) {
    const lks_save_content *content = pieces->content;
    int64_t end = pieces->end_block;
    pieces->first_block = end;
    for (int i = 0; bytes > 0 && i < content->array_count; i++) {
        const lks_save_array *array = &content->arrays[i];
        int64_t block = end - array->first_block, left = array->grid.block_count - block;
        if (left <= 0) continue;
        int64_t taken = (bytes - 1) / LKS_BLOCK_BYTES + 1;
        if (taken > left) taken = left;
        int64_t first, last, unused;
        lks_block_range(&array->grid, block, &first, &unused);
        lks_block_range(&array->grid, block + taken - 1, &unused, &last);
        bytes -= (last - first) * (int64_t)array->grid.element_bytes;
        end += taken;
    }
    pieces->end_block = end;
    return pieces->first_block < end;
}

/* data: of the whole block. */
static void keep_hash(lks_pieces *pieces, const part *part, const void *data) {
    pieces->hashes[part->array->first_block + part->block] =
        lks_hash(data, bytes_between(part, part->begin, part->end));
}

/* The disk works while later parts are still being copied and hashed. Pieces ascend in the file, so
 * that the parts written lately are one run, with gaps that other ranks fill. */
static void note_written(lks_pieces *pieces, lks_span written) {
    enum { ENOUGH = 32 << 20 };
    lks_span *unsynced = &pieces->unsynced;
    bool follows = unsynced->end > unsynced->begin && written.begin >= unsynced->begin;
    if (!follows) unsynced->begin = written.begin;
    unsynced->end = written.end;
    if (unsynced->end - unsynced->begin < ENOUGH) return;
    lks_file_start_sync(pieces->descriptor, *unsynced);
    *unsynced = (lks_span){0};
}

static lks_status write_part(lks_pieces *pieces, const part *part) {
    lks_status status = lks_file_write_at(pieces->descriptor, pieces->path, part->data,
                                          bytes_between(part, part->own_begin, part->own_end),
                                          place_of(part, part->own_begin));
    if (status) return status;
    note_written(pieces,
                 (lks_span){place_of(part, part->own_begin), place_of(part, part->own_end)});
    if (is_whole(part)) keep_hash(pieces, part, part->data); /* the caches still have it */
    return LKS_OK;
}

lks_status lks_pieces_write(lks_pieces *pieces) {
    lks_status status = each_part(pieces, write_part);
    if (status) return status;
    if (pieces->unsynced.end > pieces->unsynced.begin)
        lks_file_start_sync(pieces->descriptor, pieces->unsynced);
    pieces->unsynced = (lks_span){0};
    return lks_file_show(pieces->descriptor, pieces->path);
}

static int compare_places(const void *a, const void *b) {
    const lks_file_part *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

lks_status lks_pieces_list(const lks_pieces *pieces, lks_file_part **out, int64_t *out_count) {
    const lks_save_content *content = pieces->content;
    size_t room = 1; /* of nothing calloc may give NULL */
    for (int i = 0; i < content->array_count; i++)
        room += (size_t)content->arrays[i].piece_count;
    lks_file_part *parts = calloc(room, sizeof *parts);
    if (!parts) return lks_fail(LKS_ENOMEM, "%s: out of memory", pieces->path);
    int64_t count = 0;
    for (int i = 0; i < content->array_count; i++) {
        const lks_save_array *array = &content->arrays[i];
        int64_t bytes = (int64_t)array->grid.element_bytes;
        for (int p = 0; p < array->piece_count; p++) {
            const lks_piece *piece = &array->pieces[p];
            if (piece->count == 0) continue;
            parts[count++] = (lks_file_part){array->offset + piece->first * bytes,
                                             piece->count * bytes, piece->data};
        }
    }
    qsort(parts, (size_t)count, sizeof *parts, compare_places);
    *out = parts;
    *out_count = count;
    return LKS_OK;
}

/* A block that several ranks wrote is hashed by the one that has its first element, from the file.
 * Each of them finds out whether its own elements are there. */
static lks_status check_part(lks_pieces *pieces, const part *part) {
    lks_span *checked = &pieces->checked;
    if (checked->end == 0) checked->begin = place_of(part, part->begin);
    checked->end = place_of(part, part->end);
    if (is_whole(part) && !pieces->written_elsewhere) return LKS_OK;
    bool hashes = part->own_begin == part->begin;
    size_t bytes = bytes_between(part, part->own_begin, part->own_end);
    lks_status status =
        lks_file_read_at(pieces->reading, pieces->path, pieces->block,
                         hashes ? bytes_between(part, part->begin, part->end) : bytes,
                         place_of(part, part->own_begin));
    if (status) return status;
    if (memcmp(part->data, pieces->block, bytes) != 0) {
        return lks_fail(LKS_EIO,
                        "elements %lld to %lld read back differently than they were written: the "
                        "file system lost data",
                        (long long)part->own_begin, (long long)part->own_end - 1);
    }
    if (hashes) keep_hash(pieces, part, pieces->block);
    return LKS_OK;
}

lks_status lks_pieces_check(lks_pieces *pieces) {
    /* Another host's bytes are seen for certain only by who opens the file after they were shown.
     * What went wrong with the disk meanwhile is told for certain only by the descriptor that was
     * open all along. */
    lks_status status = lks_file_open(pieces->path, false, &pieces->reading);
    if (status) return status;
    lks_span before = pieces->checked;
    pieces->checked = (lks_span){0};
    status = each_part(pieces, check_part);
    close(pieces->reading);
    if (!status) status = lks_file_release(pieces->descriptor, pieces->path, before);
    if (status) return status;
    bool last = pieces->end_block == pieces->content->block_count;
    return last ? lks_file_sync(pieces->descriptor, pieces->path) : LKS_OK;
}
