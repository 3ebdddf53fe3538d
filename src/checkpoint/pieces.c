#include "checkpoint/pieces.h"

#include <string.h>

#include "checkpoint/file.h"

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

static lks_status each_part_of_piece(lks_pieces *pieces, const lks_save_array *array,
                                     const lks_piece *piece, part_fn handle) {
    if (piece->count == 0) return LKS_OK;
    const lks_block_grid *grid = &array->grid;
    int64_t piece_end = piece->first + piece->count;
    int64_t last = (piece_end - 1) / grid->block_elements;
    for (int64_t b = piece->first / grid->block_elements; b <= last; b++) {
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

/* The block's hash comes from the one rank that has its first element. data: of the whole block. */
static void keep_hash(lks_pieces *pieces, const part *part, const void *data) {
    if (part->own_begin != part->begin) return;
    pieces->hashes[part->array->first_block + part->block] =
        lks_hash(data, bytes_between(part, part->begin, part->end));
}

static lks_status write_part(lks_pieces *pieces, const part *part) {
    lks_status status = lks_file_write_at(pieces->descriptor, pieces->path, part->data,
                                          bytes_between(part, part->own_begin, part->own_end),
                                          place_of(part, part->own_begin));
    if (!status && is_whole(part)) keep_hash(pieces, part, part->data);
    return status;
}

lks_status lks_pieces_write(lks_pieces *pieces) {
    lks_status status = each_part(pieces, write_part);
    return status ? status : lks_file_sync(pieces->descriptor, pieces->path);
}

/* A block that this rank has only in part is read back whole: the others' bytes are needed for its
 * hash, and this rank's own must be found as they were written. */
static lks_status check_part(lks_pieces *pieces, const part *part) {
    if (is_whole(part) && !pieces->written_elsewhere) return LKS_OK;
    lks_status status =
        lks_file_read_at(pieces->descriptor, pieces->path, pieces->block,
                         bytes_between(part, part->begin, part->end), place_of(part, part->begin));
    if (status) return status;
    const char *found =
        (const char *)pieces->block + bytes_between(part, part->begin, part->own_begin);
    if (memcmp(part->data, found, bytes_between(part, part->own_begin, part->own_end)) != 0) {
        return lks_fail(LKS_EIO,
                        "elements %lld to %lld read back differently than they were written: the "
                        "file system lost data",
                        (long long)part->own_begin, (long long)part->own_end - 1);
    }
    keep_hash(pieces, part, pieces->block);
    return LKS_OK;
}

lks_status lks_pieces_check(lks_pieces *pieces) {
    return each_part(pieces, check_part);
}
