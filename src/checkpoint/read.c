/* Opening a checkpoint, and what stands in it beside the arrays' data. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/reader.h"
#include "checkpoint/trailer.h"

lks_status lks_checkpoint_status(lks_status h5_status) {
    return h5_status == LKS_EDATA ? lks_fail(LKS_ECHECKPOINT, "%s", lks_last_error()) : h5_status;
}

/* ---- opening ---- */

/* HDF5 does not survive all damage: without a trailer that vouches for the file it must not see
 * more than the first bytes. */
static lks_status refuse_without_trailer(const lks_checkpoint *checkpoint) {
    struct stat info;
    if (fstat(checkpoint->descriptor, &info) == 0 && S_ISDIR(info.st_mode))
        return lks_fail(LKS_EIO, "%s is a folder, expected a checkpoint", checkpoint->path);
    if (!lks_h5_has_signature(checkpoint->path))
        return lks_fail(LKS_ECHECKPOINT, "%s is not an HDF5 file, expected a checkpoint",
                        checkpoint->path);
    return lks_fail(LKS_ECHECKPOINT,
                    "%s is an HDF5 file but no whole checkpoint of Lockstep: the trailer at its "
                    "end is missing",
                    checkpoint->path);
}

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
    if (status) return lks_checkpoint_status(status);
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
    lks_status status = LKS_OK;
    if (!checkpoint->path) status = lks_fail(LKS_ENOMEM, "checkpoint %s: out of memory", path);
    checkpoint->descriptor = -1;
    bool whole = false;
    if (!status) status = lks_file_open(path, false, &checkpoint->descriptor);
    if (!status) status = lks_trailer_check(checkpoint->descriptor, path, &whole);
    if (!status && !whole) status = refuse_without_trailer(checkpoint);
    if (!status) status = lks_checkpoint_status(lks_h5_open(path, &checkpoint->file));
    if (!status) status = check_root(checkpoint);
    if (!status && !(checkpoint->blocks = malloc(2 * (size_t)LKS_BLOCK_BYTES)))
        status = lks_fail(LKS_ENOMEM, "checkpoint %s: out of memory", path);
    if (status) {
        lks_checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return LKS_OK;
}

lks_status lks_checkpoint_recognise(const char *path, bool *out) {
    int descriptor;
    *out = false;
    lks_status status = lks_file_open(path, false, &descriptor);
    if (status) return status;
    status = lks_trailer_check(descriptor, path, out);
    close(descriptor);
    return *out ? LKS_OK : status;
}

void lks_checkpoint_close(lks_checkpoint *checkpoint) {
    if (!checkpoint) return;
    (void)lks_h5_close(checkpoint->file); /* nothing was written */
    if (checkpoint->descriptor >= 0) close(checkpoint->descriptor);
    free(checkpoint->blocks);
    free(checkpoint->path);
    free(checkpoint);
}

/* ---- attributes ---- */

lks_status lks_checkpoint_get_i64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  int64_t *out) {
    return lks_checkpoint_status(lks_h5_read_attr_i64(checkpoint->file, path, name, out));
}

lks_status lks_checkpoint_get_f64(lks_checkpoint *checkpoint, const char *path, const char *name,
                                  double *out, int capacity, int *out_count) {
    return lks_checkpoint_status(
        lks_h5_read_attr_f64(checkpoint->file, path, name, out, capacity, out_count));
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
    lks_status status =
        lks_h5_exists(checkpoint->file, array_path)
            ? read_long_text(checkpoint, array_path, out)
            : lks_checkpoint_status(lks_h5_read_attr_text(checkpoint->file, path, name, out));
    free(array_path);
    return status;
}

/* ---- arrays ---- */

lks_status lks_checkpoint_shape(lks_checkpoint *checkpoint, const char *path, lks_shape *out) {
    lks_h5_array *array;
    lks_status status = lks_checkpoint_status(lks_h5_open_array(checkpoint->file, path, &array));
    if (status) return status;
    *out = lks_h5_array_info(array)->shape;
    lks_h5_close_array(array);
    return LKS_OK;
}

/* ---- walking ---- */

typedef struct walk {
    lks_checkpoint_visit_fn visit;
    void *data;
} walk;

/* path: without the leading slash, as src/h5 gives it. */
static lks_status visit_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    const walk *w = data;
    const char *hidden = LKS_INTEGRITY_GROUP "/";
    if (is_group || strncmp(path, hidden + 1, strlen(hidden + 1)) == 0) return LKS_OK;
    lks_dtype dtype;
    if (!lks_dtype_by_name(info->type_name, &dtype))
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
    return lks_checkpoint_status(lks_h5_visit(checkpoint->file, "/", visit_object, &w));
}
