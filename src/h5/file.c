/* Files and groups. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "h5/internal.h"

const char *lks_h5_version(void) {
    return &H5_VERS_INFO[sizeof "HDF5 library version: " - 1];
}

bool lks_h5_is_parallel(void) {
#ifdef H5_HAVE_PARALLEL
    return true;
#else
    return false;
#endif
}

static void free_file(lks_h5_file *file) {
    if (file == NULL) return;
    free(file->path);
    free(file);
}

static lks_h5_file *new_file(const char *path) {
    lks_h5_file *file = calloc(1, sizeof *file);
    if (file == NULL) return NULL;
    file->id = H5I_INVALID_HID;
    file->path = lks_strdup(path);
    if (file->path == NULL) {
        free(file);
        return NULL;
    }
    return file;
}

/* Says in the system's words what keeps `path` from being read, before HDF5 says it in its own. */
static lks_status check_readable(const char *path, int64_t *bytes) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(errno));
    struct stat status;
    int failed = fstat(descriptor, &status);
    int reason = errno;
    close(descriptor);
    if (failed) return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(reason));
    if (S_ISDIR(status.st_mode))
        return lks_fail(LKS_EIO, "cannot open %s: it is a directory, expected an HDF5 file", path);
    if (status.st_size == 0)
        return lks_fail(LKS_EDATA, "%s is empty (0 bytes), expected an HDF5 file", path);
    *bytes = status.st_size;
    return LKS_OK;
}

/* Access properties of all files. In the 1.10 format every metadata block has a checksum, so that a
 * damaged file is refused instead of read wrongly. Closing fails while arrays are open, instead of
 * leaving the file half open. */
static hid_t access_properties(void) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return access;
    if (H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST) < 0) {
        H5Pclose(access);
        return H5I_INVALID_HID;
    }
    H5Pset_fclose_degree(access, H5F_CLOSE_SEMI);
#if H5_VERSION_GE(1, 10, 7)
    /* Shared file systems of clusters often refuse locks; a reader needs none, and a writer's file
     * is its own. */
    H5Pset_file_locking(access, 0, 1);
#endif
    return access;
}

static lks_status open_locked(lks_h5_file *file, int64_t bytes) {
    lks_status status = LKS_OK;
    hid_t access = access_properties();
    if (access < 0) return lks_h5_fail(LKS_ENOMEM, "cannot open %s", file->path);
    if (H5Fis_hdf5(file->path) <= 0) {
        status = lks_fail(LKS_EDATA, "%s is not an HDF5 file (%lld bytes without HDF5's signature)",
                          file->path, (long long)bytes);
        goto done;
    }
    file->id = H5Fopen(file->path, H5F_ACC_RDONLY, access);
    if (file->id < 0)
        status = lks_h5_fail(LKS_EDATA, "%s is truncated or damaged (it has %lld bytes)",
                             file->path, (long long)bytes);
done:
    H5Pclose(access);
    return status;
}

bool lks_h5_has_signature(const char *path) {
    lks_h5_guard guard = lks_h5_enter();
    bool found = H5Fis_hdf5(path) > 0;
    lks_h5_leave(guard);
    return found;
}

lks_status lks_h5_open(const char *path, lks_h5_file **out) {
    *out = NULL;
    int64_t bytes = 0;
    lks_status status = check_readable(path, &bytes);
    if (status != LKS_OK) return status;
    lks_h5_file *file = new_file(path);
    if (file == NULL) return lks_fail(LKS_ENOMEM, "cannot open %s: out of memory", path);

    lks_h5_guard guard = lks_h5_enter();
    status = open_locked(file, bytes);
    lks_h5_leave(guard);
    if (status != LKS_OK) {
        free_file(file);
        return status;
    }
    *out = file;
    return LKS_OK;
}

/* An empty file at `path`, so that a wrong folder or missing permission is said by the system. */
static lks_status make_empty(const char *path) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0) return lks_fail(LKS_EIO, "cannot create %s: %s", path, strerror(errno));
    close(descriptor);
    return LKS_OK;
}

/* Groups that list their members in the order of creation, and no time stamps: the same content
 * gives the same bytes. */
static void track_order(hid_t properties) {
    H5Pset_link_creation_order(properties, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_obj_track_times(properties, false);
}

static lks_status create_locked(lks_h5_file *file, hid_t access) {
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    if (creation < 0) return lks_h5_fail(LKS_ENOMEM, "cannot create %s", file->path);
    track_order(creation);
    file->id = H5Fcreate(file->path, H5F_ACC_TRUNC, creation, access);
    lks_status status =
        file->id < 0 ? lks_h5_fail(LKS_EIO, "cannot create %s", file->path) : LKS_OK;
    H5Pclose(creation);
    return status;
}

/* in_memory: `path` leads to a file without a name, with which HDF5's default driver cannot work.
 */
static lks_status create_by(const char *path, bool in_memory, lks_h5_file **out) {
    lks_h5_file *file = new_file(path);
    if (file == NULL) return lks_fail(LKS_ENOMEM, "cannot create %s: out of memory", path);

    lks_h5_guard guard = lks_h5_enter();
    hid_t access = access_properties();
    lks_status status = LKS_OK;
    if (access < 0 || (in_memory && H5Pset_fapl_stdio(access) < 0))
        status = lks_h5_fail(LKS_ENOMEM, "cannot create %s", path);
    else
        status = create_locked(file, access);
    if (access >= 0) H5Pclose(access);
    lks_h5_leave(guard);
    if (status != LKS_OK) {
        free_file(file);
        return status;
    }
    *out = file;
    return LKS_OK;
}

lks_status lks_h5_create(const char *path, lks_h5_file **out) {
    *out = NULL;
    lks_status status = make_empty(path);
    return status == LKS_OK ? create_by(path, false, out) : status;
}

lks_status lks_h5_create_in_memory(int *out_descriptor, lks_h5_file **out) {
    *out = NULL;
    *out_descriptor = -1;
    int descriptor = memfd_create("lockstep", MFD_CLOEXEC);
    if (descriptor < 0)
        return lks_fail(LKS_ENOMEM, "cannot create a file in memory: %s", strerror(errno));
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    lks_status status = create_by(path, true, out);
    if (status != LKS_OK) {
        close(descriptor);
        return status;
    }
    *out_descriptor = descriptor;
    return LKS_OK;
}

lks_status lks_h5_flush(lks_h5_file *file) {
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = LKS_OK;
    if (H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0)
        status = lks_h5_fail(LKS_EIO, "cannot write %s", file->path);
    lks_h5_leave(guard);
    return status;
}

lks_status lks_h5_close(lks_h5_file *file) {
    if (file == NULL) return LKS_OK;
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = LKS_OK;
    if (H5Fclose(file->id) < 0) status = lks_h5_fail(LKS_EIO, "cannot close %s", file->path);
    lks_h5_leave(guard);
    free_file(file);
    return status;
}

/* ---- paths and groups ---- */

/* Calls `step` for "a", "a/b", "a/b/c" of "/a/b/c" until it answers false; without the last one
 * where `last` is false. */
static bool each_prefix(const char *path, bool last, bool (*step)(void *data, const char *prefix),
                        void *data) {
    char *prefix = lks_strdup(path);
    if (prefix == NULL) return false;
    bool going = true;
    for (char *c = prefix; going && *c != '\0';) {
        c += strspn(c, "/");
        c += strcspn(c, "/");
        char kept = *c;
        bool is_last = c[strspn(c, "/")] == '\0';
        *c = '\0';
        if (prefix[strspn(prefix, "/")] != '\0' && (last || !is_last)) going = step(data, prefix);
        *c = kept;
    }
    free(prefix);
    return going;
}

static bool step_exists(void *data, const char *prefix) {
    hid_t file = *(hid_t *)data;
    return H5Lexists(file, prefix, H5P_DEFAULT) > 0 &&
           H5Oexists_by_name(file, prefix, H5P_DEFAULT) > 0;
}

bool lks_h5_path_exists(hid_t file, const char *path) {
    return each_prefix(path, true, step_exists, &file);
}

bool lks_h5_exists(lks_h5_file *file, const char *path) {
    lks_h5_guard guard = lks_h5_enter();
    bool exists = lks_h5_path_exists(file->id, path);
    lks_h5_leave(guard);
    return exists;
}

typedef struct group_maker {
    lks_h5_file *file;
    hid_t properties;
    lks_status status;
} group_maker;

static bool step_make(void *data, const char *prefix) {
    group_maker *maker = data;
    lks_h5_file *file = maker->file;
    bool exists = H5Lexists(file->id, prefix, H5P_DEFAULT) > 0;
    hid_t group = exists
                      ? H5Gopen2(file->id, prefix, H5P_DEFAULT)
                      : H5Gcreate2(file->id, prefix, H5P_DEFAULT, maker->properties, H5P_DEFAULT);
    if (group < 0) {
        maker->status = lks_h5_fail(LKS_EIO, "cannot make the group %s in %s", prefix, file->path);
        return false;
    }
    H5Gclose(group);
    return true;
}

lks_status lks_h5_make_groups(lks_h5_file *file, const char *path, bool last) {
    group_maker maker = {.file = file, .properties = H5Pcreate(H5P_GROUP_CREATE)};
    if (maker.properties < 0)
        return lks_h5_fail(LKS_ENOMEM, "cannot make the group %s in %s", path, file->path);
    track_order(maker.properties);
    if (!each_prefix(path, last, step_make, &maker) && maker.status == LKS_OK)
        maker.status =
            lks_fail(LKS_ENOMEM, "cannot make the group %s in %s: out of memory", path, file->path);
    H5Pclose(maker.properties);
    return maker.status;
}

lks_status lks_h5_create_group(lks_h5_file *file, const char *path) {
    lks_h5_guard guard = lks_h5_enter();
    lks_status status = lks_h5_make_groups(file, path, true);
    lks_h5_leave(guard);
    return status;
}
