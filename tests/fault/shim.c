/* Faults on demand: preloaded into a rank (LD_PRELOAD), this library stands between the program and
 * the system calls that change files, and makes one of them fail, or ends the process there.
 *
 *   LKS_FAULT="rank=1 call=pwrite path=*.tmp nth=3 do=EIO"
 *
 *   rank=N    the rank that is meant; every one when left out
 *   call=G    names of calls that are meant, with wildcards; * when left out
 *   path=G    files that are meant, with wildcards; * when left out. A rename is meant by either
 *             name.
 *   nth=N     the N-th call that is meant, from 1; nth=N+ that one and all later ones
 *   do=WHAT   an errno's name: the call fails with it. short: a write moves half of its bytes.
 *             kill, kill-after: the process gets SIGKILL before the call, after it. stop: SIGSTOP
 *             before the call, which is made once somebody sends SIGCONT. SIGINT, SIGTERM,
 *             SIGUSR1: the process gets it before the call. Nothing when left out.
 *
 * Every call that is meant is counted, whether it is the N-th or not. LKS_FAULT_LOG names a file to
 * which each one adds a line when it returns, "RANK COUNT CALL RESULT PATH"; RESULT is 0 or an
 * errno's name. The fault adds one before it happens, "RANK COUNT fault NANOSECONDS PID", with the
 * time of the clock.
 *
 * The calls are made by syscall(), so libraries that use the names of libc are met, too. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef struct rule {
    char text[1024]; /* LKS_FAULT cut into words, to which the others point */
    const char *call, *path, *action;
    bool here;      /* this rank is meant */
    bool and_later; /* nth=N+ */
    int64_t nth;    /* 0: none */
    int error;      /* for `action`; 0: it is no errno */
    int signal;     /* for `action`, before the call; 0: none */
    int log;        /* descriptor; -1: none */
    int rank;
} rule;

/* What becomes of one call. */
typedef struct verdict {
    const char *call, *path;
    int64_t count; /* 0: the call is not meant */
    int error;     /* it fails with that */
    bool halved, dies_after;
} verdict;

static rule the_rule;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int64_t calls_meant;

/* ---- the rule ---- */

static int error_of(const char *name) {
    static const int known[] = {EIO, ENOSPC, EROFS, EACCES, EDQUOT, EINTR, ENOENT, EMFILE, ESTALE};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(strerrorname_np(known[i]), name) == 0) return known[i];
    return 0;
}

/* A rule that is not understood must not look like a run without faults. */
static void refuse(const char *word) {
    dprintf(2, "LKS_FAULT: '%s' is not understood\n", word);
    _exit(99);
}

static void read_action(rule *r, const char *value) {
    static const struct {
        const char *name;
        int signal;
    } others[] = {
        {"short", 0},       {"kill", SIGKILL},    {"kill-after", 0},    {"stop", SIGSTOP},
        {"SIGINT", SIGINT}, {"SIGTERM", SIGTERM}, {"SIGUSR1", SIGUSR1},
    };
    bool known = (r->error = error_of(value)) != 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(others[i].name, value) != 0) continue;
        known = true;
        r->signal = others[i].signal;
    }
    if (!known) refuse(value);
    r->action = value;
}

static void read_word(rule *r, char *word) {
    char *value = strchr(word, '=');
    if (!value) refuse(word);
    *value++ = '\0';
    char *end = value;
    if (strcmp(word, "call") == 0) {
        r->call = value;
    } else if (strcmp(word, "path") == 0) {
        r->path = value;
    } else if (strcmp(word, "do") == 0) {
        read_action(r, value);
    } else if (strcmp(word, "rank") == 0) {
        r->here = strtol(value, &end, 10) == r->rank;
        if (*end || end == value) refuse(value);
    } else if (strcmp(word, "nth") == 0) {
        r->nth = strtoll(value, &end, 10);
        r->and_later = strcmp(end, "+") == 0;
        if (r->nth < 1 || (*end && !r->and_later)) refuse(value);
    } else {
        refuse(word);
    }
}

static void read_rule(void) {
    rule *r = &the_rule;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    const char *text = getenv("LKS_FAULT"), *log = getenv("LKS_FAULT_LOG");
    *r = (rule){.call = "*", .path = "*", .here = text != NULL, .log = -1};
    r->rank = rank ? atoi(rank) : 0;
    snprintf(r->text, sizeof r->text, "%s", text ? text : "");
    char *rest = r->text;
    for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL;)
        read_word(r, word);
    if (log)
        r->log = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                              0666);
}

__attribute__((format(printf, 1, 2))) static void add_to_log(const char *format, ...) {
    char line[PATH_MAX + 128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (the_rule.log >= 0) (void)syscall(SYS_write, the_rule.log, line, (size_t)length);
}

static void log_fault(const verdict *v) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    add_to_log("%d %" PRId64 " fault %lld%09ld %d\n", the_rule.rank, v->count,
               (long long)now.tv_sec, now.tv_nsec, (int)getpid());
}

/* ---- around a call ---- */

static void fault(verdict *v) {
    const rule *r = &the_rule;
    v->error = r->error;
    v->halved = strcmp(r->action, "short") == 0;
    v->dies_after = strcmp(r->action, "kill-after") == 0;
    if (v->dies_after) return;
    log_fault(v);
    if (r->signal) kill(getpid(), r->signal);
}

/* The file is known by either of two names; `other` may be NULL. */
static verdict before(const char *call, const char *path, const char *other) {
    pthread_once(&once, read_rule);
    const rule *r = &the_rule;
    verdict v = {.call = call, .path = path};
    bool met = fnmatch(r->path, path, 0) == 0 || (other && fnmatch(r->path, other, 0) == 0);
    if (!r->here || !met || fnmatch(r->call, call, 0) != 0) return v;
    v.count = __atomic_add_fetch(&calls_meant, 1, __ATOMIC_SEQ_CST);
    bool due = r->nth && (v.count == r->nth || (r->and_later && v.count > r->nth));
    if (due && r->action) fault(&v);
    return v;
}

/* result: of the system call, when it was made; returns what the caller of libc gets. */
static int64_t after(const verdict *v, int64_t result) {
    int error = v->error ? v->error : result < 0 ? errno : 0;
    if (v->count)
        add_to_log("%d %" PRId64 " %s %s %s\n", the_rule.rank, v->count, v->call,
                   error ? strerrorname_np(error) : "0", v->path);
    if (v->dies_after) {
        log_fault(v);
        kill(getpid(), SIGKILL);
    }
    if (!error) return result;
    errno = error;
    return -1;
}

/* The name behind a descriptor; `out` has PATH_MAX bytes. */
static const char *name_of(int descriptor, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = '\0';
    return out;
}

static verdict before_descriptor(const char *call, int descriptor, char *name) {
    return before(call, name_of(descriptor, name), NULL);
}

/* ---- names ---- */

static int open_at(const char *call, int folder, const char *path, int flags, mode_t mode) {
    verdict v = before(call, path, NULL);
    return (int)after(&v, v.error ? -1 : syscall(SYS_openat, folder, path, flags, mode));
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at("open", AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int folder, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at("open", folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

int creat(const char *path, mode_t mode) {
    return open_at("open", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode) __attribute__((alias("creat")));

int mkdir(const char *path, mode_t mode) {
    verdict v = before("mkdir", path, NULL);
    return (int)after(&v, v.error ? -1 : syscall(SYS_mkdir, path, mode));
}

int rename(const char *from, const char *to) {
    verdict v = before("rename", to, from);
    return (int)after(&v, v.error ? -1 : syscall(SYS_rename, from, to));
}

int link(const char *from, const char *to) {
    verdict v = before("link", to, from);
    return (int)after(&v, v.error ? -1 : syscall(SYS_link, from, to));
}

int symlink(const char *target, const char *path) {
    verdict v = before("symlink", path, NULL);
    return (int)after(&v, v.error ? -1 : syscall(SYS_symlink, target, path));
}

int unlink(const char *path) {
    verdict v = before("unlink", path, NULL);
    return (int)after(&v, v.error ? -1 : syscall(SYS_unlink, path));
}

/* ---- descriptors ---- */

/* A descriptor that a kill or a failure finds open stays so, as after a failed close(2) of Linux it
 * would not; nobody uses it again. */
int close(int descriptor) {
    char name[PATH_MAX];
    verdict v = before_descriptor("close", descriptor, name);
    return (int)after(&v, v.error ? -1 : syscall(SYS_close, descriptor));
}

int fsync(int descriptor) {
    char name[PATH_MAX];
    verdict v = before_descriptor("fsync", descriptor, name);
    return (int)after(&v, v.error ? -1 : syscall(SYS_fsync, descriptor));
}

int fdatasync(int descriptor) {
    char name[PATH_MAX];
    verdict v = before_descriptor("fsync", descriptor, name);
    return (int)after(&v, v.error ? -1 : syscall(SYS_fdatasync, descriptor));
}

int ftruncate(int descriptor, off_t bytes) {
    char name[PATH_MAX];
    verdict v = before_descriptor("ftruncate", descriptor, name);
    return (int)after(&v, v.error ? -1 : syscall(SYS_ftruncate, descriptor, bytes));
}

int ftruncate64(int descriptor, off64_t bytes) __attribute__((alias("ftruncate")));

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
    char name[PATH_MAX];
    verdict v = before_descriptor("fallocate", descriptor, name);
    return (int)after(&v, v.error ? -1 : syscall(SYS_fallocate, descriptor, mode, offset, bytes));
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t bytes)
    __attribute__((alias("fallocate")));

/* Returns the error instead of setting it. */
int posix_fallocate(int descriptor, off_t offset, off_t bytes) {
    int kept = errno;
    int reason = fallocate(descriptor, 0, offset, bytes) == 0 ? 0 : errno;
    errno = kept;
    return reason;
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t bytes)
    __attribute__((alias("posix_fallocate")));

/* Never nothing: that would be another fault. */
static size_t half_of(size_t count) {
    return (count + 1) / 2;
}

ssize_t write(int descriptor, const void *data, size_t bytes) {
    char name[PATH_MAX];
    verdict v = before_descriptor("write", descriptor, name);
    size_t most = v.halved ? half_of(bytes) : bytes;
    return after(&v, v.error ? -1 : syscall(SYS_write, descriptor, data, most));
}

ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset) {
    char name[PATH_MAX];
    verdict v = before_descriptor("pwrite", descriptor, name);
    size_t most = v.halved ? half_of(bytes) : bytes;
    return after(&v, v.error ? -1 : syscall(SYS_pwrite64, descriptor, data, most, offset));
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off64_t offset)
    __attribute__((alias("pwrite")));

/* What MPI-IO uses; half of a vector is its first half of parts. */
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    char name[PATH_MAX];
    verdict v = before_descriptor("pwrite", descriptor, name);
    int most = v.halved ? (int)half_of((size_t)count) : count;
    return after(&v, v.error ? -1 : syscall(SYS_writev, descriptor, parts, most));
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    char name[PATH_MAX];
    verdict v = before_descriptor("pwrite", descriptor, name);
    int most = v.halved ? (int)half_of((size_t)count) : count;
    return after(&v, v.error ? -1 : syscall(SYS_pwritev, descriptor, parts, most, offset, 0));
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset)
    __attribute__((alias("pwritev")));
