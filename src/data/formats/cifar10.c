/* CIFAR-10's binary version: records of 1 label and 3 x 32 x 32 bytes, in several files. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/dataset.h"

enum { LABEL_BYTES = 1, IMAGE_BYTES = 3 * 32 * 32, RECORD_BYTES = LABEL_BYTES + IMAGE_BYTES };

typedef struct cifar10_options {
    char *files;
} cifar10_options;

static const lks_option options[] = {
    {.key = "files",
     .type = LKS_OPTION_PATH,
     .offset = offsetof(cifar10_options, files),
     .help = "The files, as one path in which * ? and [...] stand for several: "
             "cifar-10-batches-bin/data_batch_*.bin; read in the order of their names."},
    {0},
};

static const lks_option_table option_table = {
    .name = "cifar10",
    .help = "CIFAR-10's binary version: images [3, 32, 32] and labels.",
    .struct_bytes = sizeof(cifar10_options),
    .options = options,
};

typedef struct part {
    char *path;
    int descriptor;
    int64_t first, count; /* records */
} part;

/* One for each of the two columns, which read different bytes of the same records. */
typedef struct cifar10_source {
    bool labels;
    part *parts;
    int part_count;
} cifar10_source;

/* ---- reading ---- */

static const part *find_part(const cifar10_source *s, int64_t index) {
    int i = 0;
    while (i + 1 < s->part_count && index >= s->parts[i].first + s->parts[i].count)
        i++;
    return &s->parts[i];
}

static lks_status read_records(const part *from, int64_t first, int64_t count, uint8_t *out) {
    int64_t bytes = count * RECORD_BYTES;
    int64_t offset = (first - from->first) * RECORD_BYTES;
    for (int64_t done = 0; done < bytes;) {
        ssize_t got = pread(from->descriptor, out + done, (size_t)(bytes - done), offset + done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lks_fail(LKS_EIO, "cannot read %s: %s", from->path, strerror(errno));
        if (got == 0) return lks_fail(LKS_EDATA, "%s became shorter while it was read", from->path);
        done += got;
    }
    return LKS_OK;
}

/* The column's piece of each record. Labels are wanted as int64, images as bytes. */
static void take(const cifar10_source *s, const uint8_t *records, int64_t count, char *rows) {
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *record = records + i * RECORD_BYTES;
        if (s->labels)
            ((int64_t *)(void *)rows)[i] = record[0];
        else
            memcpy(rows + i * IMAGE_BYTES, record + LABEL_BYTES, IMAGE_BYTES);
    }
}

static lks_status read_rows(void *source, int64_t first, int64_t count, lks_dtype dtype,
                            void *rows) {
    enum { AT_ONCE = 16 };
    const cifar10_source *s = source;
    uint8_t records[AT_ONCE * RECORD_BYTES];
    int64_t row_bytes = s->labels ? (int64_t)lks_dtype_bytes(dtype) : IMAGE_BYTES;
    for (int64_t done = 0; done < count;) {
        const part *from = find_part(s, first + done);
        int64_t n = from->first + from->count - (first + done);
        if (n > count - done) n = count - done;
        if (n > AT_ONCE) n = AT_ONCE;
        lks_status status = read_records(from, first + done, n, records);
        if (status != LKS_OK) return status;
        take(s, records, n, (char *)rows + done * row_bytes);
        done += n;
    }
    return LKS_OK;
}

static const char *locate(void *source, int64_t *index) {
    const part *of = find_part(source, *index);
    *index -= of->first;
    return of->path;
}

static void close_source(void *source) {
    cifar10_source *s = source;
    for (int i = 0; i < s->part_count; i++) {
        if (s->parts[i].descriptor >= 0) close(s->parts[i].descriptor);
        free(s->parts[i].path);
    }
    free(s->parts);
    free(s);
}

static const lks_source_ops source_ops = {
    .read = read_rows, .locate = locate, .close = close_source};

/* ---- opening ---- */

static lks_status open_part(const char *path, int64_t first, part *out) {
    out->first = first;
    out->path = lks_strdup(path);
    if (out->path == NULL) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    out->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (out->descriptor < 0 || fstat(out->descriptor, &status) != 0)
        return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return lks_fail(LKS_EIO, "cannot open %s: it is not a file", path);
    if (status.st_size == 0) return lks_fail(LKS_EDATA, "%s is empty (0 bytes)", path);
    if (status.st_size % RECORD_BYTES != 0)
        return lks_fail(LKS_EDATA,
                        "%s has %lld bytes: expected a multiple of %d (1 label and 3x32x32 bytes "
                        "of pixels); it is truncated, compressed, or no CIFAR-10 binary file",
                        path, (long long)status.st_size, RECORD_BYTES);
    out->count = status.st_size / RECORD_BYTES;
    return LKS_OK;
}

static lks_status open_parts(const glob_t *found, cifar10_source *s) {
    s->parts = calloc(found->gl_pathc, sizeof *s->parts);
    if (s->parts == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for %zu files", found->gl_pathc);
    int64_t first = 0;
    for (size_t i = 0; i < found->gl_pathc; i++) {
        part *next = &s->parts[s->part_count++];
        next->descriptor = -1;
        lks_status status = open_part(found->gl_pathv[i], first, next);
        if (status != LKS_OK) return status;
        first += next->count;
    }
    return LKS_OK;
}

static lks_status open_column(const char *pattern, const glob_t *found, bool labels,
                              lks_column *column) {
    cifar10_source *source = calloc(1, sizeof *source);
    column->file = lks_strdup(pattern);
    column->name = lks_strdup(labels ? "labels" : "images");
    if (source == NULL || column->file == NULL || column->name == NULL) {
        free(source);
        return lks_fail(LKS_ENOMEM, "%s: out of memory", pattern);
    }
    column->ops = &source_ops;
    column->source = source;
    source->labels = labels;
    lks_status status = open_parts(found, source);
    if (status != LKS_OK) return status;
    const part *last = &source->parts[source->part_count - 1];
    column->count = last->first + last->count;
    column->is_integer = true;
    column->dtype = LKS_U8;
    if (!labels) column->shape = (lks_shape){3, {3, 32, 32}};
    return LKS_OK;
}

static lks_status open_cifar10(const void *config, lks_column *inputs, lks_column *targets) {
    const cifar10_options *o = config;
    glob_t found = {0};
    int failed = glob(o->files, 0, NULL, &found);
    if (failed == GLOB_NOMATCH) return lks_fail(LKS_EIO, "cannot open %s: no such file", o->files);
    if (failed != 0)
        return lks_fail(failed == GLOB_NOSPACE ? LKS_ENOMEM : LKS_EIO, "cannot open %s: %s",
                        o->files, strerror(errno));
    lks_status status = open_column(o->files, &found, false, inputs);
    if (status == LKS_OK) status = open_column(o->files, &found, true, targets);
    globfree(&found);
    return status;
}

const lks_format lks_format_cifar10 = {.options = &option_table, .open = open_cifar10};
