#include "full_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Threads of MPI come by here, too, while a test sets them. */
static atomic_int writes_left = -1, failures;
static atomic_bool reserving_fails, loses_data, is_broken;

void full_disk_after(int writes, bool reserving) {
    writes_left = writes;
    reserving_fails = reserving;
    failures = 0;
}

void full_disk_loses(bool loses) {
    loses_data = loses;
    failures = 0;
}

void full_disk_breaks(bool breaks) {
    is_broken = breaks;
    failures = 0;
}

int full_disk_failures(void) {
    return failures;
}

static bool on_disk(int descriptor) {
    char link[64], name[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return false;
    name[length] = '\0';
    /* MPI-IO has files of its own elsewhere, with the same name in theirs. */
    return strstr(name, "/lockstep-test-") != NULL && strstr(name, ".h5") != NULL;
}

static bool has_room(int descriptor) {
    if (writes_left < 0 || !on_disk(descriptor)) return true;
    if (writes_left > 0) {
        writes_left--;
        return true;
    }
    failures++;
    errno = ENOSPC;
    return false;
}

static bool is_lost(int descriptor) {
    if (!loses_data || !on_disk(descriptor)) return false;
    failures++;
    return true;
}

static size_t total_of(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
    if (reserving_fails) {
        failures++;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, descriptor, mode, offset, bytes);
}

int posix_fallocate(int descriptor, off_t offset, off_t bytes) {
    return fallocate(descriptor, 0, offset, bytes) == 0 ? 0 : errno;
}

ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset) {
    if (!has_room(descriptor)) return -1;
    if (is_lost(descriptor)) return (ssize_t)bytes;
    return syscall(SYS_pwrite64, descriptor, data, bytes, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off64_t offset) {
    return pwrite(descriptor, data, bytes, offset);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    if (!has_room(descriptor)) return -1;
    if (is_lost(descriptor)) return (ssize_t)total_of(parts, count);
    return syscall(SYS_pwritev, descriptor, parts, count, offset, 0);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(descriptor, parts, count, offset);
}

ssize_t write(int descriptor, const void *data, size_t bytes) {
    if (!has_room(descriptor)) return -1;
    if (is_lost(descriptor)) return (ssize_t)bytes;
    return syscall(SYS_write, descriptor, data, bytes);
}

int sync_file_range(int descriptor, off64_t offset, off64_t bytes, unsigned int flags) {
    if (is_broken && (flags & SYNC_FILE_RANGE_WAIT_AFTER) && on_disk(descriptor)) {
        failures++;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_sync_file_range, descriptor, offset, bytes, flags);
}
