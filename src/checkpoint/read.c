/* Restoring: local to each rank. Every block that is touched is verified. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/format.h"
#include "checkpoint/trailer.h"
#include "h5/h5.h"

struct lks_checkpoint {
    char *path;
    lks_h5_file *file;
    void *block; /* [LKS_BLOCK_BYTES]: a block that is wanted in part */
};

/* What the file holds wrongly makes it a bad checkpoint; failing to read at all does not. */
static lks_status translate(lks_status status) {
    return status == LKS_EDATA ? lks_fail(LKS_ECHECKPOINT, "%s", lks_last_error()) : status;
}

/* ---- opening ---- */

static lks_status check_root(lks_checkpoint *checkpoint) {
    int64_t version, complete;
    char *format;
    if (lks_h5_read_attr_text(checkpoint->file, "/", LKS_ATTR_FORMAT, &format)) {
        return lks_fail(LKS_ECHECKPOINT,
                        "%s is an HDF5 file but no checkpoint of Lockstep: its root has no "
                        "attribute '%s'",
                        checkpoint->path, LKS_ATTR_FORMAT);
    }
    bool known = strcmp(format, LKS_CHECKPOINT_FORMAT) == 0;
    if (!known)
        (void)lks_fail(LKS_ECHECKPOINT, "%s: its format is '%s', expected '%s'", checkpoint->path,
                       format, LKS_CHECKPOINT_FORMAT);
    free(format);
    if (!known) return LKS_ECHECKPOINT;

    lks_status status = lks_h5_read_attr_i64(checkpoint->file, "/", LKS_ATTR_VERSION, &version);
    if (status) return translate(status);
    if (version < 1 || version > LKS_CHECKPOINT_FORMAT_VERSION) {
        return lks_fail(LKS_ECHECKPOINT,
                        "%s has format version %lld, but this Lockstep reads versions up to %d: "
                        "use a newer Lockstep",
                        checkpoint->path, (long long)version, LKS_CHECKPOINT_FORMAT_VERSION);
    }
    if (lks_h5_read_attr_i64(checkpoint->file, "/", LKS_ATTR_COMPLETE, &complete) ||
        complete != 1) {
        return lks_fail(LKS_ECHECKPOINT,
                        "%s is incomplete: it was left behind by a save that did not finish",
                        checkpoint->path);
    }
    return LKS_OK;
}

lks_status lks_checkpoint_open(const char *path, lks_checkpoint **out) {
    *out = NULL;
    lks_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) return lks_fail(LKS_ENOMEM, "checkpoint %s: out of memory", path);
    checkpoint->path = lks_strdup(path);
    checkpoint->block = malloc(LKS_BLOCK_BYTES);
    lks_status status = LKS_OK;
    if (!checkpoint->path || !checkpoint->block)
        status = lks_fail(LKS_ENOMEM, "checkpoint %s: out of memory", path);
    bool whole = false;
    if (!status) status = lks_trailer_check(path, &whole);
    /* Without a trailer it is no checkpoint; HDF5 can tell best what it is instead. */
    if (!status) status = translate(lks_h5_open(path, &checkpoint->file));
    if (!status) status = check_root(checkpoint);
    if (!status && !whole)
        status =
            lks_fail(LKS_ECHECKPOINT, "%s is damaged: the trailer at its end is missing", path);
    if (status) {
        lks_checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return LKS_OK;
}

void lks_checkpoint_close(lks_checkpoint *checkpoint) {
    if (!checkpoint) return;
    (void)lks_h5_close(checkpoint->file); /* nothing was written */
    free(checkpoint->block);
    free(checkpoint->path);
    free(checkpoint);
}

/* ---- attributes ---- */

lks_status lks_checkpoint_get_i64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  int64_t *out) {
    return translate(lks_h5_read_attr_i64(checkpoint->file, path, name, out));
}

lks_status lks_checkpoint_get_f64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  double *out, int capacity, int *out_count) {
    return translate(lks_h5_read_attr_f64(checkpoint->file, path, name, out, capacity, out_count));
}

/* A text that is kept as the uint8 array `path`. */
static lks_status read_long_text(lks_checkpoint *checkpoint, const char *path, char **out) {
    lks_shape shape;
    lks_status status = lks_checkpoint_shape(checkpoint, path, &shape);
    if (status) return status;
    int64_t length = shape.rank == 1 ? shape.dim[0] : 0;
    char *text = calloc((size_t)length + 1, 1);
    if (!text) return lks_fail(LKS_ENOMEM, "%s: %s: out of memory", checkpoint->path, path);
    lks_piece piece = {.count = length, .data = text};
    lks_checkpoint_array array = {
        .path = path, .dtype = LKS_U8, .shape = shape, .pieces = &piece, .piece_count = 1};
    status = lks_checkpoint_read(checkpoint, &array);
    if (status) {
        free(text);
        return status;
    }
    *out = text;
    return LKS_OK;
}

lks_status lks_checkpoint_get_text(lks_checkpoint *checkpoint, const char *path, const char *name,
                                   char **out) {
    *out = NULL;
    char *array_path = lks_join_path(path, name);
    if (!array_path) return lks_fail(LKS_ENOMEM, "%s: out of memory", checkpoint->path);
    lks_status status = lks_h5_exists(checkpoint->file, array_path)
                            ? read_long_text(checkpoint, array_path, out)
                            : translate(lks_h5_read_attr_text(checkpoint->file, path, name, out));
    free(array_path);
    return status;
}

/* ---- arrays ---- */

lks_status lks_checkpoint_shape(lks_checkpoint *checkpoint, const char *path, lks_shape *out) {
    lks_h5_array *array;
    lks_status status = translate(lks_h5_open_array(checkpoint->file, path, &array));
    if (status) return status;
    *out = lks_h5_array_info(array)->shape;
    lks_h5_close_array(array);
    return LKS_OK;
}

/* An array that is being read, with the hashes of its blocks. */
typedef struct reading {
    lks_checkpoint *checkpoint;
    const lks_checkpoint_array *wanted;
    lks_block_grid grid;
    lks_h5_array *array;
    int64_t *hashes;      /* [grid.block_count] */
    int64_t block_cached; /* which block stands in checkpoint->block; -1: none */
} reading;

static lks_status check_shape(const reading *r) {
    const lks_h5_info *info = lks_h5_array_info(r->array);
    const lks_checkpoint_array *wanted = r->wanted;
    if (lks_shape_equal(&info->shape, &wanted->shape) &&
        strcmp(info->type_name, lks_dtype_name(wanted->dtype)) == 0)
        return LKS_OK;
    char found[LKS_SHAPE_TEXT_BYTES], expected[LKS_SHAPE_TEXT_BYTES];
    return lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected %s %s", r->checkpoint->path,
                    wanted->path, info->type_name, lks_shape_text(&info->shape, found),
                    lks_dtype_name(wanted->dtype), lks_shape_text(&wanted->shape, expected));
}

/* Reads the hashes of all blocks of the array. */
static lks_status read_hashes(reading *r, const char *path) {
    lks_h5_array *stored;
    lks_status status = translate(lks_h5_open_array(r->checkpoint->file, path, &stored));
    if (status) return status;
    const lks_h5_info *info = lks_h5_array_info(stored);
    lks_shape expected = {.rank = 1, .dim = {r->grid.block_count}};
    if (!lks_shape_equal(&info->shape, &expected) || strcmp(info->type_name, "int64") != 0) {
        char found[LKS_SHAPE_TEXT_BYTES];
        status = lks_fail(LKS_ECHECKPOINT, "%s: %s is %s %s, expected int64 [%lld]",
                          r->checkpoint->path, path, info->type_name,
                          lks_shape_text(&info->shape, found), (long long)r->grid.block_count);
    }
    if (!status) {
        r->hashes = calloc((size_t)r->grid.block_count + 1, sizeof *r->hashes);
        if (!r->hashes) status = lks_fail(LKS_ENOMEM, "%s: out of memory", r->checkpoint->path);
    }
    if (!status)
        status = translate(lks_h5_read(stored, 0, r->grid.block_count, LKS_I64, r->hashes));
    lks_h5_close_array(stored);
    return status;
}

static lks_status open_reading(reading *r) {
    const char *path = r->wanted->path;
    lks_status status = translate(lks_h5_open_array(r->checkpoint->file, path, &r->array));
    if (!status) status = check_shape(r);
    if (status) return status;
    int64_t count;
    status = lks_shape_count(&r->wanted->shape, &count);
    if (status) return status;
    r->grid = lks_block_grid_make(count, r->wanted->dtype);
    char *hashes = lks_integrity_path(path);
    if (!hashes) return lks_fail(LKS_ENOMEM, "%s: out of memory", r->checkpoint->path);
    status = read_hashes(r, hashes);
    free(hashes);
    return status;
}

/* Reads a whole block to `data` and verifies it. */
static lks_status read_block(reading *r, int64_t block, int64_t begin, int64_t end, void *data) {
    lks_status status =
        translate(lks_h5_read(r->array, begin, end - begin, r->wanted->dtype, data));
    if (status) return status;
    if (lks_hash(data, (size_t)(end - begin) * r->grid.element_bytes) == r->hashes[block])
        return LKS_OK;
    return lks_fail(LKS_ECHECKPOINT,
                    "%s is damaged: %s, block %lld of %lld (elements %lld to %lld) does not match "
                    "its stored hash",
                    r->checkpoint->path, r->wanted->path, (long long)block,
                    (long long)r->grid.block_count, (long long)begin, (long long)end - 1);
}

/* Blocks that lie wholly in the piece go straight to where they are wanted. */
static lks_status read_piece(reading *r, const lks_piece *piece) {
    if (piece->count == 0) return LKS_OK;
    const lks_block_grid *grid = &r->grid;
    int64_t piece_end = piece->first + piece->count;
    int64_t last = (piece_end - 1) / grid->block_elements;
    for (int64_t b = piece->first / grid->block_elements; b <= last; b++) {
        int64_t begin, end;
        lks_block_range(grid, b, &begin, &end);
        int64_t from = begin > piece->first ? begin : piece->first;
        int64_t to = end < piece_end ? end : piece_end;
        char *target = (char *)piece->data + (size_t)(from - piece->first) * grid->element_bytes;
        lks_status status = LKS_OK;
        if (from == begin && to == end) {
            status = read_block(r, b, begin, end, target);
        } else {
            if (r->block_cached != b) status = read_block(r, b, begin, end, r->checkpoint->block);
            r->block_cached = status ? -1 : b;
            if (!status)
                memcpy(target,
                       (char *)r->checkpoint->block + (size_t)(from - begin) * grid->element_bytes,
                       (size_t)(to - from) * grid->element_bytes);
        }
        if (status) return status;
    }
    return LKS_OK;
}

lks_status lks_checkpoint_read(lks_checkpoint *checkpoint, const lks_checkpoint_array *array) {
    reading r = {.checkpoint = checkpoint, .wanted = array, .block_cached = -1};
    lks_status status = open_reading(&r);
    for (int p = 0; !status && p < array->piece_count; p++) {
        const lks_piece *piece = &array->pieces[p];
        status = lks_check_piece(array, r.grid.count, p);
        if (!status) status = read_piece(&r, piece);
    }
    free(r.hashes);
    if (r.array) lks_h5_close_array(r.array);
    return status;
}

/* ---- walking ---- */

typedef struct walk {
    lks_checkpoint_visit_fn visit;
    void *data;
} walk;

static bool dtype_of(const lks_h5_info *info, lks_dtype *out) {
    static const lks_dtype known[] = {LKS_F32, LKS_F64, LKS_I32, LKS_I64, LKS_U8};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *out = known[i];
        if (strcmp(info->type_name, lks_dtype_name(known[i])) == 0) return true;
    }
    return false;
}

/* path: without the leading slash, as src/h5 gives it. */
static lks_status visit_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    const walk *w = data;
    const char *hidden = LKS_INTEGRITY_GROUP "/";
    if (is_group || strncmp(path, hidden + 1, strlen(hidden + 1)) == 0) return LKS_OK;
    lks_dtype dtype;
    if (!dtype_of(info, &dtype))
        return lks_fail(LKS_ECHECKPOINT, "%s is %s, which checkpoints do not hold", path,
                        info->type_name);
    char *full = lks_join_path("", path);
    if (!full) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    lks_status status = w->visit(w->data, full, dtype, &info->shape);
    free(full);
    return status;
}

lks_status lks_checkpoint_visit(lks_checkpoint *checkpoint, lks_checkpoint_visit_fn visit,
                                void *data) {
    walk w = {.visit = visit, .data = data};
    return translate(lks_h5_visit(checkpoint->file, "/", visit_object, &w));
}
