/* What a file holds: types and shapes, walking, and the list for messages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5/internal.h"

/* Deeper nesting is taken for a group that contains itself. */
enum { MAX_DEPTH = 32 };

/* ---- one array ---- */

static void inspect_type(hid_t type, lks_h5_info *out) {
    out->element_bytes = H5Tget_size(type);
    H5T_class_t type_class = H5Tget_class(type);
    unsigned bits = (unsigned)out->element_bytes * 8;
    if (type_class == H5T_FLOAT) {
        out->number_class = LKS_H5_FLOAT;
        snprintf(out->type_name, sizeof out->type_name, "float%u", bits);
    } else if (type_class == H5T_INTEGER) {
        out->number_class = LKS_H5_INTEGER;
        out->is_unsigned = H5Tget_sign(type) == H5T_SGN_NONE;
        snprintf(out->type_name, sizeof out->type_name, "%sint%u", out->is_unsigned ? "u" : "",
                 bits);
    } else if (type_class == H5T_ENUM) {
        /* numpy's bool arrives as an enumeration of small integers */
        out->number_class = LKS_H5_INTEGER;
        snprintf(out->type_name, sizeof out->type_name, "enum%u", bits);
    } else {
        const char *name = type_class == H5T_STRING     ? "strings"
                           : type_class == H5T_COMPOUND ? "records"
                                                        : "no numbers";
        out->number_class = LKS_H5_OTHER;
        snprintf(out->type_name, sizeof out->type_name, "%s", name);
    }
}

static int64_t chunk_rows(hid_t dataset) {
    hid_t creation = H5Dget_create_plist(dataset);
    if (creation < 0) return 0;
    hsize_t chunk[LKS_MAX_DIMS] = {0};
    bool chunked =
        H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, LKS_MAX_DIMS, chunk) > 0;
    H5Pclose(creation);
    return chunked ? (int64_t)chunk[0] : 0;
}

lks_status lks_h5_inspect(lks_h5_file *file, const char *path, hid_t dataset, lks_h5_info *out) {
    memset(out, 0, sizeof *out);
    lks_status status = LKS_OK;
    hid_t type = H5Dget_type(dataset);
    hid_t space = H5Dget_space(dataset);
    if (type < 0 || space < 0) {
        status = lks_h5_fail(LKS_EDATA, "%s: %s has no type or shape", file->path, path);
        goto done;
    }
    inspect_type(type, out);
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank > LKS_MAX_DIMS) {
        status = lks_fail(LKS_EDATA, "%s: %s has %d dimensions, expected at most %d", file->path,
                          path, rank, LKS_MAX_DIMS);
        goto done;
    }
    if (H5Sget_simple_extent_type(space) == H5S_NULL) {
        out->number_class = LKS_H5_OTHER;
        snprintf(out->type_name, sizeof out->type_name, "nothing");
    }
    hsize_t dims[LKS_MAX_DIMS] = {0};
    H5Sget_simple_extent_dims(space, dims, NULL);
    out->shape.rank = rank;
    for (int i = 0; i < rank; i++)
        out->shape.dim[i] = (int64_t)dims[i];
    out->chunk_rows = chunk_rows(dataset);
done:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return status;
}

/* ---- walking ---- */

typedef struct entry {
    char *path;
    bool is_group;
    lks_h5_info info;
} entry;

/* All objects are collected under the lock and visited outside it, so that a visitor may call this
 * room. */
typedef struct collection {
    lks_h5_file *file;
    entry *entries;
    size_t count, capacity;
} collection;

static void free_collection(collection *all) {
    for (size_t i = 0; i < all->count; i++)
        free(all->entries[i].path);
    free(all->entries);
}

static lks_status append(collection *all, const char *path, hid_t object, bool is_group) {
    if (all->count == all->capacity) {
        size_t capacity = all->capacity > 0 ? all->capacity * 2 : 64;
        entry *entries = realloc(all->entries, capacity * sizeof *entries);
        if (entries == NULL) return lks_fail(LKS_ENOMEM, "%s: out of memory", all->file->path);
        all->entries = entries;
        all->capacity = capacity;
    }
    entry *last = &all->entries[all->count];
    memset(last, 0, sizeof *last);
    last->is_group = is_group;
    if (!is_group) {
        lks_status status = lks_h5_inspect(all->file, path, object, &last->info);
        if (status != LKS_OK) return status;
    }
    last->path = lks_strdup(path);
    if (last->path == NULL) return lks_fail(LKS_ENOMEM, "%s: out of memory", all->file->path);
    all->count++;
    return LKS_OK;
}

/* Creation order where the group has kept it, names otherwise. */
static H5_index_t order_of(hid_t group) {
    hid_t creation = H5Gget_create_plist(group);
    unsigned flags = 0;
    if (creation >= 0) {
        H5Pget_link_creation_order(creation, &flags);
        H5Pclose(creation);
    }
    return (flags & H5P_CRT_ORDER_TRACKED) != 0 ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
}

/* The path of member `index`, malloc'ed; NULL where that is no hard link (soft and external links
 * would show an object twice, or another file's). */
static char *member_path(hid_t group, const char *path, H5_index_t order, hsize_t index) {
    H5L_info_t link;
    if (H5Lget_info_by_idx(group, ".", order, H5_ITER_INC, index, &link, H5P_DEFAULT) < 0 ||
        link.type != H5L_TYPE_HARD)
        return NULL;
    ssize_t length =
        H5Lget_name_by_idx(group, ".", order, H5_ITER_INC, index, NULL, 0, H5P_DEFAULT);
    if (length < 0) return NULL;
    size_t prefix = strlen(path);
    size_t bytes = prefix + (size_t)length + 2;
    char *full = malloc(bytes);
    if (full == NULL) return NULL;
    int at = prefix > 0 ? snprintf(full, bytes, "%s/", path) : 0;
    H5Lget_name_by_idx(group, ".", order, H5_ITER_INC, index, full + at, (size_t)length + 1,
                       H5P_DEFAULT);
    return full;
}

static lks_status collect_group(collection *all, hid_t group, const char *path, int depth);

static lks_status collect_member(collection *all, const char *path, int depth) {
    hid_t object = H5Oopen(all->file->id, path, H5P_DEFAULT);
    if (object < 0) return lks_h5_fail(LKS_EDATA, "%s: cannot open %s", all->file->path, path);
    lks_status status = LKS_OK;
    H5I_type_t type = H5Iget_type(object);
    if (type == H5I_GROUP || type == H5I_DATASET)
        status = append(all, path, object, type == H5I_GROUP);
    if (status == LKS_OK && type == H5I_GROUP) status = collect_group(all, object, path, depth + 1);
    H5Oclose(object);
    return status;
}

static lks_status collect_group(collection *all, hid_t group, const char *path, int depth) {
    if (depth > MAX_DEPTH)
        return lks_fail(LKS_EDATA, "%s: groups are nested deeper than %d levels at %s",
                        all->file->path, MAX_DEPTH, path);
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0)
        return lks_h5_fail(LKS_EDATA, "%s: cannot list the group /%s", all->file->path, path);
    H5_index_t order = order_of(group);
    lks_status status = LKS_OK;
    for (hsize_t i = 0; i < info.nlinks && status == LKS_OK; i++) {
        char *member = member_path(group, path, order, i);
        if (member != NULL) status = collect_member(all, member, depth);
        free(member);
    }
    return status;
}

static lks_status collect(collection *all, const char *path) {
    path += strspn(path, "/");
    if (!lks_h5_path_exists(all->file->id, path)) return lks_h5_fail_missing(all->file, path);
    hid_t group = H5Gopen2(all->file->id, path[0] != '\0' ? path : "/", H5P_DEFAULT);
    if (group < 0) return lks_h5_fail(LKS_EDATA, "%s: %s is not a group", all->file->path, path);
    lks_status status = collect_group(all, group, path, 0);
    H5Gclose(group);
    return status;
}

lks_status lks_h5_visit(lks_h5_file *file, const char *path, lks_h5_visit_fn visit, void *data) {
    collection all = {.file = file};
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = collect(&all, path);
    lks_h5_leave(guard);
    for (size_t i = 0; i < all.count && status == LKS_OK; i++) {
        const entry *each = &all.entries[i];
        status = visit(data, each->path, each->is_group, &each->info);
    }
    free_collection(&all);
    return status;
}

/* ---- the list for messages ---- */

/* The names of all arrays, cut at `capacity` bytes. */
static void list_arrays(lks_h5_file *file, char *out, size_t capacity) {
    collection all = {.file = file};
    out[0] = '\0';
    if (collect(&all, "/") != LKS_OK && all.count == 0) {
        free_collection(&all);
        return;
    }
    size_t length = 0;
    for (size_t i = 0; i < all.count && length < capacity; i++)
        if (!all.entries[i].is_group)
            length += (size_t)snprintf(out + length, capacity - length, "%s%s",
                                       length > 0 ? ", " : "", all.entries[i].path);
    if (length >= capacity) memcpy(out + capacity - 4, "...", 4);
    free_collection(&all);
}

lks_status lks_h5_fail_missing(lks_h5_file *file, const char *path) {
    char arrays[LKS_ERROR_BYTES / 4];
    list_arrays(file, arrays, sizeof arrays);
    return lks_fail(LKS_EDATA, "%s has no %s; it holds %s%s", file->path, path,
                    arrays[0] != '\0' ? "the arrays: " : "no arrays", arrays);
}
