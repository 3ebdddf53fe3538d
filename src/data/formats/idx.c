/* IDX, the format of MNIST: 2 zero bytes, the type, the number of dimensions, each dimension as a
 * big-endian uint32, then the numbers, big-endian. Plain files are read by position; compressed
 * ones once from the beginning to the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "data/dataset.h"

typedef struct idx_options {
    char *images, *labels;
} idx_options;

static const lks_option options[] = {
    {.key = "images",
     .type = LKS_OPTION_PATH,
     .offset = offsetof(idx_options, images),
     .help =
         "The IDX file of the inputs, plain or compressed with gzip; 3 dimensions are taken for "
         "images of one channel."},
    {.key = "labels",
     .type = LKS_OPTION_PATH,
     .offset = offsetof(idx_options, labels),
     .optional = true,
     .help = "The IDX file of the targets, plain or compressed; none for prediction alone."},
    {0},
};

static const lks_option_table option_table = {
    .name = "idx",
    .help = "MNIST's file format.",
    .struct_bytes = sizeof(idx_options),
    .options = options,
};

typedef enum idx_type {
    IDX_U8 = 0x08,
    IDX_I8 = 0x09,
    IDX_I16 = 0x0B,
    IDX_I32 = 0x0C,
    IDX_F32 = 0x0D,
    IDX_F64 = 0x0E
} idx_type;

typedef struct idx_source {
    char *path;
    int descriptor; /* of a plain file */
    gzFile gz;      /* of a compressed one, else NULL */
    int64_t header_bytes;
    int64_t count; /* rows */
    int64_t row_bytes;
    idx_type type;
    size_t element_bytes;
} idx_source;

static size_t type_bytes(int type) {
    switch (type) {
    case IDX_U8:
    case IDX_I8:
        return 1;
    case IDX_I16:
        return 2;
    case IDX_I32:
    case IDX_F32:
        return 4;
    case IDX_F64:
        return 8;
    default:
        return 0;
    }
}

/* ---- bytes ---- */

static lks_status fail_compressed(const idx_source *s) {
    int code = 0;
    const char *words = gzerror(s->gz, &code);
    if (code == Z_ERRNO) return lks_fail(LKS_EIO, "cannot read %s: %s", s->path, strerror(errno));
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR)
        return lks_fail(LKS_EDATA, "%s is truncated", s->path);
    return lks_fail(LKS_EDATA, "%s is damaged (zlib: %s)", s->path, words);
}

/* `offset` counts for plain files only. */
static lks_status read_bytes(const idx_source *s, int64_t offset, size_t count, void *out) {
    enum { AT_ONCE = 1 << 30 };
    for (size_t done = 0; done < count;) {
        size_t wanted = count - done < AT_ONCE ? count - done : AT_ONCE;
        char *to = (char *)out + done;
        ssize_t got = s->gz != NULL ? gzread(s->gz, to, (unsigned)wanted)
                                    : pread(s->descriptor, to, wanted, offset + (int64_t)done);
        if (got <= 0 && s->gz != NULL) return fail_compressed(s);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lks_fail(LKS_EIO, "cannot read %s: %s", s->path, strerror(errno));
        if (got == 0) return lks_fail(LKS_EDATA, "%s is truncated", s->path);
        done += (size_t)got;
    }
    return LKS_OK;
}

/* The end of a compressed file holds its checksum, which zlib looks at when asked for more. */
static lks_status check_compressed_end(const idx_source *s) {
    char more;
    int got = gzread(s->gz, &more, 1);
    int code = 0;
    gzerror(s->gz, &code);
    if (got > 0)
        return lks_fail(LKS_EDATA, "%s holds more than the %lld rows of %lld bytes in its header",
                        s->path, (long long)s->count, (long long)s->row_bytes);
    return got < 0 || code != Z_OK ? fail_compressed(s) : LKS_OK;
}

static lks_status check_plain_size(const idx_source *s) {
    struct stat status;
    if (fstat(s->descriptor, &status) != 0)
        return lks_fail(LKS_EIO, "cannot read %s: %s", s->path, strerror(errno));
    int64_t expected = 0;
    bool overflows = __builtin_mul_overflow(s->count, s->row_bytes, &expected) ||
                     __builtin_add_overflow(expected, s->header_bytes, &expected);
    if (!overflows && status.st_size == expected) return LKS_OK;
    return lks_fail(LKS_EDATA, "%s %s: it has %lld bytes, its header says %lld rows of %lld bytes",
                    s->path,
                    overflows || status.st_size < expected ? "is truncated" : "is too long",
                    (long long)status.st_size, (long long)s->count, (long long)s->row_bytes);
}

/* ---- numbers ---- */

static uint64_t big_endian(const uint8_t *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

static double number_at(idx_type type, const uint8_t *bytes) {
    union {
        uint32_t bits;
        float value;
    } single;
    union {
        uint64_t bits;
        double value;
    } twice;
    switch (type) {
    case IDX_U8:
        return bytes[0];
    case IDX_I8:
        return (int8_t)bytes[0];
    case IDX_I16:
        return (int16_t)big_endian(bytes, 2);
    case IDX_I32:
        return (int32_t)big_endian(bytes, 4);
    case IDX_F32:
        single.bits = (uint32_t)big_endian(bytes, 4);
        return single.value;
    case IDX_F64:
        twice.bits = big_endian(bytes, 8);
        return twice.value;
    }
    return 0;
}

/* Element `i` of a piece into rows of dtype float32 or int64 (labels, which are integers). */
static void store(double value, lks_dtype dtype, void *rows, int64_t i) {
    if (dtype == LKS_F32)
        ((float *)rows)[i] = (float)value;
    else
        ((int64_t *)rows)[i] = (int64_t)value;
}

static lks_status read_converted(const idx_source *s, int64_t offset, int64_t bytes,
                                 lks_dtype dtype, void *rows) {
    uint8_t piece[16 << 10]; /* a multiple of every element's size */
    lks_status status = LKS_OK;
    int64_t element_bytes = (int64_t)s->element_bytes;
    for (int64_t done = 0; done < bytes && status == LKS_OK; done += (int64_t)sizeof piece) {
        int64_t left = bytes - done;
        int64_t wanted = left < (int64_t)sizeof piece ? left : (int64_t)sizeof piece;
        status = read_bytes(s, offset + done, (size_t)wanted, piece);
        for (int64_t at = 0; at < wanted && status == LKS_OK; at += element_bytes)
            store(number_at(s->type, piece + at), dtype, rows, (done + at) / element_bytes);
    }
    return status;
}

static lks_status read_rows(void *source, int64_t first, int64_t count, lks_dtype dtype,
                            void *rows) {
    const idx_source *s = source;
    int64_t offset = s->header_bytes + first * s->row_bytes;
    int64_t bytes = count * s->row_bytes;
    lks_status status = dtype == LKS_U8 ? read_bytes(s, offset, (size_t)bytes, rows)
                                        : read_converted(s, offset, bytes, dtype, rows);
    if (status == LKS_OK && s->gz != NULL && first + count == s->count)
        status = check_compressed_end(s);
    return status;
}

static void close_source(void *source) {
    idx_source *s = source;
    if (s->gz != NULL)
        gzclose(s->gz);
    else if (s->descriptor >= 0)
        close(s->descriptor);
    free(s->path);
    free(s);
}

static const lks_source_ops source_ops = {.read = read_rows, .close = close_source};

/* ---- opening ---- */

/* Content, not the name, says whether a file is compressed. */
static lks_status open_file(idx_source *s) {
    s->descriptor = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->descriptor < 0) return lks_fail(LKS_EIO, "cannot open %s: %s", s->path, strerror(errno));
    uint8_t magic[2] = {0};
    ssize_t got = pread(s->descriptor, magic, sizeof magic, 0);
    if (got < 0) return lks_fail(LKS_EIO, "cannot read %s: %s", s->path, strerror(errno));
    if (got == 0)
        return lks_fail(LKS_EDATA, "%s is empty (0 bytes), expected an IDX file", s->path);
    if (got < 2 || magic[0] != 0x1F || magic[1] != 0x8B) return LKS_OK;
    s->gz = gzdopen(s->descriptor, "rb");
    return s->gz != NULL ? LKS_OK : lks_fail(LKS_ENOMEM, "%s: out of memory", s->path);
}

/* The shape of all rows and the type. */
static lks_status read_header(idx_source *s, lks_shape *shape) {
    uint8_t head[4], dimension[4];
    lks_status status = read_bytes(s, 0, sizeof head, head);
    if (status != LKS_OK) return status;
    s->element_bytes = type_bytes(head[2]);
    s->type = (idx_type)head[2];
    if (head[0] != 0 || head[1] != 0 || s->element_bytes == 0 || head[3] == 0 ||
        head[3] > LKS_MAX_DIMS)
        return lks_fail(
            LKS_EDATA,
            "%s is not an IDX file: it begins with %02x %02x %02x %02x, expected 00 00, "
            "a type (08, 09, 0b, 0c, 0d or 0e) and 1 to %d dimensions",
            s->path, head[0], head[1], head[2], head[3], LKS_MAX_DIMS);
    shape->rank = head[3];
    s->header_bytes = sizeof head;
    for (int i = 0; i < shape->rank && status == LKS_OK; i++) {
        status = read_bytes(s, s->header_bytes, sizeof dimension, dimension);
        shape->dim[i] = (int64_t)big_endian(dimension, sizeof dimension);
        s->header_bytes += (int64_t)sizeof dimension;
    }
    return status;
}

/* [n, ...] without its first dimension; a picture gets its one channel. */
static void describe(const idx_source *s, const lks_shape *all, bool images, lks_column *column) {
    column->count = all->dim[0];
    bool one_channel = images && all->rank == 3;
    if (one_channel) column->shape.dim[column->shape.rank++] = 1;
    for (int i = 1; i < all->rank; i++)
        column->shape.dim[column->shape.rank++] = all->dim[i];
    column->dtype = s->type == IDX_U8 ? LKS_U8 : LKS_F32;
    column->is_integer = s->type != IDX_F32 && s->type != IDX_F64;
    column->is_stream = s->gz != NULL;
}

static lks_status complete_source(idx_source *s, const lks_shape *all) {
    int64_t width = 0;
    lks_shape row = {.rank = all->rank - 1};
    for (int i = 0; i < row.rank; i++)
        row.dim[i] = all->dim[i + 1];
    if (lks_shape_count(&row, &width) != LKS_OK ||
        __builtin_mul_overflow(width, (int64_t)s->element_bytes, &s->row_bytes))
        return lks_fail_in(LKS_EDATA, "%s: its header makes no sense", s->path);
    s->count = all->dim[0];
    return s->gz != NULL ? LKS_OK : check_plain_size(s);
}

static lks_status open_column(const char *path, const char *name, lks_column *column) {
    idx_source *source = calloc(1, sizeof *source);
    if (source == NULL) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    source->descriptor = -1;
    source->path = lks_strdup(path);
    column->ops = &source_ops;
    column->source = source;
    column->file = lks_strdup(path);
    column->name = lks_strdup(name);
    if (source->path == NULL || column->file == NULL || column->name == NULL)
        return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    lks_shape all = {0};
    lks_status status = open_file(source);
    if (status == LKS_OK) status = read_header(source, &all);
    if (status == LKS_OK) status = complete_source(source, &all);
    if (status == LKS_OK) describe(source, &all, strcmp(name, "images") == 0, column);
    return status;
}

static lks_status open_idx(const void *config, lks_column *inputs, lks_column *targets) {
    const idx_options *o = config;
    lks_status status = open_column(o->images, "images", inputs);
    if (status == LKS_OK && o->labels != NULL) status = open_column(o->labels, "labels", targets);
    return status;
}

const lks_format lks_format_idx = {.options = &option_table, .open = open_idx};
