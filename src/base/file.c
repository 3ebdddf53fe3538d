#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/philox.h"
#include "base/strbuf.h"

/* The folder of a path, in a new string; NULL when out of memory. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return lks_strdup(".");
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    return lks_strdup_printf("%.*s", (int)length, path);
}

char *lks_file_temporary_name(const char *path, uint64_t token) {
    return lks_strdup_printf("%s.%016" PRIx64 ".tmp", path, token);
}

/* Another number for every job, host and attempt; O_EXCL settles the rest. */
static uint64_t make_token(int attempt) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lks_philox_key key = {{(uint32_t)getpid(), (uint32_t)attempt}};
    lks_philox_block block = lks_philox(key, (uint64_t)now.tv_sec, (uint64_t)now.tv_nsec);
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

static lks_status create_exclusive(const char *path, uint64_t *out_token) {
    enum { ATTEMPTS = 8 };
    for (int attempt = 0;; attempt++) {
        uint64_t token = make_token(attempt);
        char *name = lks_file_temporary_name(path, token);
        if (!name) return lks_fail(LKS_ENOMEM, "out of memory");
        int descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        int reason = errno;
        lks_status status = LKS_OK;
        if (descriptor >= 0) {
            close(descriptor);
            *out_token = token;
        } else if (reason != EEXIST || attempt == ATTEMPTS) {
            status = lks_fail(LKS_EIO, "cannot create %s: %s", name, strerror(reason));
        }
        free(name);
        if (descriptor >= 0 || status) return status;
    }
}

lks_status lks_file_create_temporary(const char *path, uint64_t *out_token) {
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return lks_fail(LKS_EIO, "%s is a folder, expected the name of a file", path);
    char *folder = folder_of(path);
    if (!folder) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = lks_make_folders(folder);
    free(folder);
    return status ? status : create_exclusive(path, out_token);
}

lks_status lks_file_open(const char *path, bool writable, int *out_descriptor) {
    int descriptor = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (descriptor < 0) return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(errno));
    *out_descriptor = descriptor;
    return LKS_OK;
}

lks_status lks_file_reserve(int descriptor, const char *path, int64_t bytes) {
    int reason;
    do {
        /* not posix_fallocate, which writes into every block where a file system cannot reserve */
        reason = fallocate(descriptor, 0, 0, bytes) == 0 ? 0 : errno;
    } while (reason == EINTR);
    if (!reason || reason == EOPNOTSUPP || reason == ENOSYS || reason == EINVAL) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot reserve %" PRId64 " bytes for %s: %s", bytes, path,
                    strerror(reason));
}

/* Linux moves at most 2 GiB a call; a part of that size shows no cost. */
static size_t part_of(size_t bytes) {
    size_t most = (size_t)1 << 30;
    return bytes < most ? bytes : most;
}

lks_status lks_file_write_at(int descriptor, const char *path, const void *data, size_t bytes,
                             int64_t offset) {
    const char *from = data;
    while (bytes > 0) {
        ssize_t done = pwrite(descriptor, from, part_of(bytes), offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            return lks_fail(LKS_EIO, "cannot write %zu bytes at %" PRId64 " of %s: %s", bytes,
                            offset, path, done < 0 ? strerror(errno) : "nothing was written");
        }
        from += done;
        offset += done;
        bytes -= (size_t)done;
    }
    return LKS_OK;
}

lks_status lks_file_read_at(int descriptor, const char *path, void *data, size_t bytes,
                            int64_t offset) {
    char *to = data;
    while (bytes > 0) {
        ssize_t done = pread(descriptor, to, part_of(bytes), offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            return lks_fail(LKS_EIO, "cannot read %zu bytes at %" PRId64 " of %s: %s", bytes,
                            offset, path, done < 0 ? strerror(errno) : "the file ends before");
        }
        to += done;
        offset += done;
        bytes -= (size_t)done;
    }
    return LKS_OK;
}

lks_status lks_file_copy(int from, const char *from_path, int to, const char *to_path,
                         int64_t begin, int64_t end) {
    char buffer[1 << 16];
    lks_status status = LKS_OK;
    while (!status && begin < end) {
        int64_t left = end - begin;
        size_t bytes = left < (int64_t)sizeof buffer ? (size_t)left : sizeof buffer;
        status = lks_file_read_at(from, from_path, buffer, bytes, begin);
        if (!status) status = lks_file_write_at(to, to_path, buffer, bytes, begin);
        begin += (int64_t)bytes;
    }
    return status;
}

void lks_file_start_sync(int descriptor, lks_span span) {
    (void)sync_file_range(descriptor, span.begin, span.end - span.begin, SYNC_FILE_RANGE_WRITE);
}

lks_status lks_file_release(int descriptor, const char *path, lks_span span) {
    int64_t bytes = span.end - span.begin;
    if (bytes == 0) return LKS_OK; /* for the system it would stand for the rest of the file */
    int reason = 0;
    if (sync_file_range(descriptor, span.begin, bytes,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER) != 0)
        reason = errno;
    (void)posix_fadvise(descriptor, span.begin, bytes, POSIX_FADV_DONTNEED);
    if (!reason || reason == ENOSYS || reason == EPERM || reason == EINVAL) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot make %s durable: %s", path, strerror(reason));
}

void lks_file_expect(int descriptor, lks_span span) {
    (void)posix_fadvise(descriptor, span.begin, span.end - span.begin, POSIX_FADV_WILLNEED);
}

lks_status lks_file_show(int descriptor, const char *path) {
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0 && close(copy) == 0) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot hand %s to the file system: %s", path, strerror(errno));
}

lks_status lks_file_sync(int descriptor, const char *path) {
    if (fsync(descriptor) == 0) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot make %s durable: %s", path, strerror(errno));
}

lks_status lks_file_rename(const char *from, const char *to) {
    char *folder = folder_of(to);
    if (!folder) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = LKS_OK;
    if (rename(from, to) != 0)
        status = lks_fail(LKS_EIO, "cannot rename %s to %s: %s", from, to, strerror(errno));
    if (!status) {
        status = lks_sync_folder(folder);
        if (status)
            status =
                lks_fail_in(status, "%s is in place, but perhaps not after a power failure", to);
    }
    free(folder);
    return status;
}
