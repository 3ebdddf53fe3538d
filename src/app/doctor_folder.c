/* The run directory: can every rank write there, does it reach the disk, and how much room is left?
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "app/doctor.h"

/* What each rank writes, side by side in one file, as ranks do with a checkpoint. */
enum { PIECE_BYTES = 64 << 10 };

typedef struct trial {
    char folder[PATH_MAX]; /* an existing one: the run would make the others below it */
    char path[PATH_MAX];   /* of the file, made by rank 0 */
    double seconds;        /* to write and flush, on this rank */
    const char *unlocked;  /* why the file cannot be locked, NULL where it can */
} trial;

/* ---- which file system ---- */

/* The last line of the mounts whose place is the longest that the folder lies below. Undoes no
 * escapes: a mount with a blank in its name is not found. */
static void find_type(const char *folder, char *out, size_t bytes) {
    char real[PATH_MAX], line[4 * PATH_MAX];
    size_t best = 0;
    snprintf(out, bytes, "unknown file system");
    FILE *mounts = realpath(folder, real) ? fopen("/proc/self/mounts", "r") : NULL;
    while (mounts && fgets(line, sizeof line, mounts)) {
        char place[PATH_MAX], type[64];
        if (sscanf(line, "%*s %4095s %63s", place, type) != 2) continue;
        size_t length = strcmp(place, "/") == 0 ? 0 : strlen(place);
        if (strncmp(real, place, length) != 0 || (real[length] != '/' && real[length] != '\0') ||
            length < best)
            continue;
        best = length;
        snprintf(out, bytes, "%s", type);
    }
    if (mounts) fclose(mounts);
}

static int64_t free_bytes(const char *folder) {
    struct statvfs info;
    if (statvfs(folder, &info) != 0) return INT64_MAX;
    return (int64_t)info.f_bavail * (int64_t)info.f_frsize;
}

/* ---- the trial ---- */

/* The last folder on the way to the checkpoints that exists. LKS_EIO: what stands there is none. */
static lks_status find_folder(const char *output, trial *t) {
    struct stat info;
    if (snprintf(t->folder, sizeof t->folder, "%s/checkpoints", output) >= (int)sizeof t->folder)
        return lks_fail(LKS_EIO, "output: the name is too long: %s", output);
    while (stat(t->folder, &info) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return lks_fail(LKS_EIO, "output %s: %s: %s", output, t->folder, strerror(errno));
        char *slash = strrchr(t->folder, '/');
        if (!slash) {
            strcpy(t->folder, ".");
        } else {
            slash[slash == t->folder] = '\0';
        }
    }
    if (S_ISDIR(info.st_mode)) return LKS_OK;
    return lks_fail(LKS_EIO, "output %s: %s is a file, expected a folder", output, t->folder);
}

/* Files of the run that are written on. */
static lks_status check_files(const char *output) {
    static const char *const names[] = {"metrics.jsonl", "log.txt", "config.yaml"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", output, names[i]);
        if (access(path, F_OK) == 0 && access(path, W_OK) != 0)
            return lks_fail(LKS_EIO, "%s cannot be written: %s", path, strerror(errno));
    }
    return LKS_OK;
}

static lks_status make_file(const char *output, trial *t) {
    uint64_t token;
    lks_status status = find_folder(output, t);
    if (!status) status = check_files(output);
    if (status) return status;
    char *path = lks_strdup_printf("%s/doctor", t->folder);
    char *temporary = NULL;
    status = path ? lks_file_create_temporary(path, &token)
                  : lks_fail(LKS_ENOMEM, "output %s: out of memory", output);
    if (!status && !(temporary = lks_file_temporary_name(path, token)))
        status = lks_fail(LKS_ENOMEM, "output %s: out of memory", output);
    if (!status) snprintf(t->path, sizeof t->path, "%s", temporary);
    free(path);
    free(temporary);
    return status;
}

static const char *try_lock(int descriptor) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    return fcntl(descriptor, F_SETLK, &lock) == 0 ? NULL : strerror(errno);
}

static lks_status write_piece(const lks_doctor *d, trial *t) {
    int descriptor = -1;
    char *piece = malloc(PIECE_BYTES);
    const double began = lks_clock_seconds();
    const int rank = lks_comm_rank(d->job.comm);
    lks_status status = piece ? LKS_OK : lks_fail(LKS_ENOMEM, "%s: out of memory", t->path);
    if (!status) status = lks_file_open(t->path, true, &descriptor);
    if (!status) {
        memset(piece, rank, PIECE_BYTES);
        status =
            lks_file_write_at(descriptor, t->path, piece, PIECE_BYTES, (int64_t)rank * PIECE_BYTES);
    }
    if (!status) status = lks_file_sync(descriptor, t->path);
    t->seconds = lks_clock_seconds() - began;
    if (!status && rank == 0) t->unlocked = try_lock(descriptor);
    if (descriptor >= 0) close(descriptor);
    free(piece);
    return status;
}

/* ---- what is said of it ---- */

static void report_folder(lks_doctor *d, const trial *t, int64_t left) {
    char type[64], size[LKS_BYTES_TEXT_BYTES];
    find_type(t->folder, type, sizeof type);
    lks_bytes_text((size_t)left, size);
    lks_report_text(&d->report, "file_system", type);
    lks_report_number(&d->report, "free_bytes", (double)left);
    lks_report_number(&d->report, "seconds_to_write_and_flush", t->seconds);
    if (t->unlocked)
        lks_report_warn(&d->report, "run directory",
                        "Lockstep needs no locks; for other programs that read HDF5 files there, "
                        "set HDF5_USE_FILE_LOCKING=FALSE",
                        "%s (%s, %s free): written and flushed in %.1f ms, but files cannot be "
                        "locked: %s",
                        d->job.run.config.output, type, size, 1e3 * t->seconds, t->unlocked);
    else
        lks_report_ok(&d->report, "run directory",
                      "%s (%s, %s free): every rank writes, flushed in %.1f ms; locks work",
                      d->job.run.config.output, type, size, 1e3 * t->seconds);
}

static const char *advice_for(const trial *t) {
    return *t->path
               ? "all ranks write into one folder: it must lie on a file system that all hosts "
                 "share, with room left"
               : "set `output` in the run file (or --output) to a folder that can be written";
}

lks_status lks_doctor_check_folder(lks_doctor *d, int64_t *out_free) {
    lks_comm *comm = d->job.comm;
    const char *output = d->job.run.config.output;
    const bool first = lks_job_is_first(&d->job);
    trial t = {.seconds = 0};
    *out_free = INT64_MAX;
    if (!output) {
        lks_report_warn(&d->report, "run directory", "set `output` to keep the results",
                        "the run file has no `output`: nothing will be written");
        return LKS_OK;
    }
    lks_status status = lks_comm_agree(comm, first ? make_file(output, &t) : LKS_OK);
    if (!status) status = lks_comm_broadcast(comm, t.path, sizeof t.path, 0);
    if (!status) status = lks_comm_agree(comm, write_piece(d, &t));
    if (first && *t.path) unlink(t.path);
    if (status) {
        lks_report_fail(&d->report, status, "run directory", advice_for(&t));
        return status == LKS_ECOMM ? status : LKS_OK;
    }
    if (first) *out_free = free_bytes(t.folder);
    if (first) report_folder(d, &t, *out_free);
    return LKS_OK;
}
