/* Which attributes an object has. */
#include <stdlib.h>

#include "h5/internal.h"

typedef struct name_list {
    char **names;
    size_t count;
    bool failed;
} name_list;

static void free_names(name_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
}

/* H5Aiterate2's callback: 0 goes on, a positive number stops. */
static herr_t collect_name(hid_t object, const char *name, const H5A_info_t *info, void *data) {
    (void)object;
    (void)info;
    name_list *list = data;
    char **names = realloc(list->names, (list->count + 1) * sizeof *names);
    if (names != NULL) list->names = names;
    char *copy = names != NULL ? lks_strdup(name) : NULL;
    list->failed = copy == NULL;
    if (copy != NULL) list->names[list->count++] = copy;
    return list->failed;
}

static lks_status collect_names(lks_h5_file *file, const char *path, name_list *list) {
    if (!lks_h5_path_exists(file->id, path)) return lks_h5_fail_missing(file, path);
    hid_t object = H5Oopen(file->id, path, H5P_DEFAULT);
    if (object < 0) return lks_h5_fail(LKS_EDATA, "%s: cannot open %s", file->path, path);
    lks_status status = LKS_OK;
    /* An object that has not kept the order of creation is walked in that of names. */
    if (H5Aiterate2(object, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, collect_name, list) < 0 &&
        H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, collect_name, list) < 0)
        status = lks_h5_fail(LKS_EDATA, "%s: cannot list the attributes of %s", file->path, path);
    if (list->failed) status = lks_fail(LKS_ENOMEM, "%s: out of memory", file->path);
    H5Oclose(object);
    return status;
}

/* Collected under the lock, visited outside it, so that a visitor may call this room. */
lks_status lks_h5_visit_attrs(lks_h5_file *file, const char *path, lks_h5_visit_attr_fn visit,
                              void *data) {
    name_list list = {0};
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = collect_names(file, path, &list);
    lks_h5_leave(guard);
    for (size_t i = 0; i < list.count && status == LKS_OK; i++)
        status = visit(data, path, list.names[i]);
    free_names(&list);
    return status;
}
