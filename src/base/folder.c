#include "base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/strbuf.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static lks_status make_folder(const char *path) {
    if (mkdir(path, 0777) == 0) return LKS_OK;
    int reason = errno;
    if (is_folder(path)) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot make the folder %s: %s", path,
                    reason == EEXIST ? "a file of that name stands there" : strerror(reason));
}

lks_status lks_make_folders(const char *path) {
    char *partial = lks_strdup(path);
    if (!partial) return lks_fail(LKS_ENOMEM, "the folder %s: out of memory", path);
    lks_status status = LKS_OK;
    for (char *end = partial; !status && *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = '\0';
        status = make_folder(partial);
        *end = kept;
    }
    free(partial);
    return status;
}

lks_status lks_sync_folder(const char *path) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (descriptor < 0)
        return lks_fail(LKS_EIO, "cannot open %s to make it durable: %s", path, strerror(errno));
    int reason = fsync(descriptor) == 0 ? 0 : errno;
    close(descriptor);
    /* some network file systems refuse to sync a folder, and have nothing to sync there */
    if (reason == 0 || reason == EINVAL) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot make %s durable: %s", path, strerror(reason));
}
