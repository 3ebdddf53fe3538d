/* Sound HDF5 files with a sound trailer whose content is not what a checkpoint's should be: objects
 * that are missing, doubled or of another kind, hashes of wrong number, attributes of wrong type.
 * This is what Lockstep's own checks behind the trailer and behind HDF5 are for. The input is a
 * program of one-byte choices. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/format.h"
#include "fault/fuzz/fuzz.h"
#include "h5/h5.h"

typedef struct choices {
    const uint8_t *at, *end;
} choices;

/* The next choice of `count`; 0 once the input has ended. */
static unsigned choose(choices *c, unsigned count) {
    return c->at < c->end ? *c->at++ % count : 0;
}

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static const char *const groups[] = {"/",          "/optimizer",       "/scheduler", "/model",
                                     "/integrity", "/integrity/model", "/config"};
static const char *const arrays[] = {"/model/a",
                                     "/model/b",
                                     "/model/b/c",
                                     "/history/x",
                                     "/config",
                                     "/note",
                                     "/format",
                                     "/optimizer/sum/a",
                                     "/integrity/model/a",
                                     "/integrity/model/b",
                                     "/integrity/config",
                                     "/integrity/history/x",
                                     "/integrity/integrity/model/a",
                                     "/integrity/optimizer/sum/a"};
static const char *const names[] = {"note",           "config", "step",    "state",
                                    "format_version", "format", "complete"};
static const char *const texts[] = {"", "lockstep-checkpoint", "1", "a text", "\xff\xfe"};

/* ---- what is added ---- */

static void fill(choices *c, lks_h5_array *array) {
    static const uint8_t zeros[1 << 16];
    int64_t count;
    const lks_h5_info *info = lks_h5_array_info(array);
    if (lks_shape_count(&info->shape, &count) || count > 4096) return;
    /* the hash of so many float32 zeros, which is that of an array that was never written */
    int64_t hash = lks_hash(zeros, 4 * (size_t)choose(c, 8));
    int64_t values[4096];
    for (int64_t i = 0; i < count; i++)
        values[i] = hash;
    (void)lks_h5_write(array, 0, count, LKS_I64, values);
}

static void add_array(choices *c, lks_h5_file *file) {
    static const lks_dtype dtypes[] = {LKS_F32, LKS_F64, LKS_I32, LKS_I64, LKS_U8};
    static const int64_t dims[] = {1, 0, 2, 3, 7, 4096, 65536};
    const char *path = arrays[choose(c, COUNT(arrays))];
    lks_dtype dtype = dtypes[choose(c, COUNT(dtypes))];
    lks_shape shape = {.rank = (int)choose(c, 4)};
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++) {
        shape.dim[i] = dims[choose(c, COUNT(dims))];
        count *= shape.dim[i];
    }
    lks_h5_array *array;
    if (count > 1 << 20 || lks_h5_create_array(file, path, dtype, &shape, &array)) return;
    if (choose(c, 2)) fill(c, array);
    lks_h5_close_array(array);
}

static void add_attribute(choices *c, lks_h5_file *file) {
    static const double numbers[80] = {1, 2, 3};
    const char *path = groups[choose(c, COUNT(groups))];
    const char *name = names[choose(c, COUNT(names))];
    if (!lks_h5_exists(file, path)) (void)lks_h5_create_group(file, path);
    switch (choose(c, 4)) {
    case 0:
        (void)lks_h5_write_attr_i64(file, path, name, (int64_t)choose(c, 256) - 2);
        break;
    case 1:
        (void)lks_h5_write_attr_f64(file, path, name, numbers, (int)choose(c, 80));
        break;
    default:
        (void)lks_h5_write_attr_text(file, path, name, texts[choose(c, COUNT(texts))]);
    }
}

/* What makes a reader believe that this is a checkpoint. */
static void add_root(lks_h5_file *file) {
    (void)lks_h5_write_attr_text(file, "/", LKS_ATTR_FORMAT, LKS_CHECKPOINT_FORMAT);
    (void)lks_h5_write_attr_i64(file, "/", LKS_ATTR_VERSION, LKS_CHECKPOINT_FORMAT_VERSION);
    (void)lks_h5_write_attr_i64(file, "/", LKS_ATTR_COMPLETE, 1);
}

static int64_t copy(int from, int to) {
    static char buffer[1 << 16];
    int64_t done = 0;
    for (ssize_t bytes; (bytes = pread(from, buffer, sizeof buffer, done)) > 0; done += bytes)
        if (pwrite(to, buffer, (size_t)bytes, done) != bytes) abort();
    return done;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    return 0; /* begins with nothing */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    choices c = {data, data + bytes};
    int memory;
    lks_h5_file *file;
    if (lks_h5_create_in_memory(&memory, &file)) abort();
    add_root(file);
    for (int i = 0; i < 64 && c.at < c.end; i++) {
        if (choose(&c, 3) == 0)
            add_attribute(&c, file);
        else
            add_array(&c, file);
    }
    if (lks_h5_close(file)) abort();
    fuzz_file_seal(copy(memory, fuzz_file_open()));
    close(memory);
    fuzz_file_read();
    return 0;
}
