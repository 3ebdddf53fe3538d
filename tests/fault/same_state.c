/* Do two checkpoints hold the same state, bit for bit?
 *
 *   same_state A        is A whole? Every array is read and verified.
 *   same_state A B      and B too, with the same arrays and the same bits in them
 *
 * What is not the state but how a run went (times and rates in the history) may differ. Exit status
 * 0: yes; 1: no, with the reason on the standard output. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"

typedef struct comparison {
    lks_checkpoint *first, *second; /* second: NULL where there is but one */
    int arrays;
} comparison;

/* The whole array; the caller frees it. */
static lks_status read_whole(lks_checkpoint *file, const char *path, lks_dtype dtype,
                             const lks_shape *shape, void **out, size_t *out_bytes) {
    int64_t count;
    lks_status status = lks_shape_count(shape, &count);
    if (status) return status;
    *out_bytes = (size_t)count * lks_dtype_bytes(dtype);
    *out = malloc(*out_bytes + 1);
    if (!*out) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    const lks_piece piece = {.count = count, .data = *out};
    const lks_checkpoint_array array = {path, dtype, *shape, &piece, 1};
    return lks_checkpoint_read(file, &array);
}

static bool is_timing(const char *path) {
    return strcmp(path, "/history/seconds") == 0 ||
           strcmp(path, "/history/samples_per_second") == 0;
}

static lks_status compare_array(void *data, const char *path, lks_dtype dtype,
                                const lks_shape *shape) {
    comparison *c = data;
    void *first = NULL, *second = NULL;
    size_t bytes;
    c->arrays++;
    lks_status status = read_whole(c->first, path, dtype, shape, &first, &bytes);
    if (!status && c->second) status = read_whole(c->second, path, dtype, shape, &second, &bytes);
    if (!status && second && !is_timing(path) && memcmp(first, second, bytes) != 0)
        status = lks_fail(LKS_ECHECKPOINT, "%s differs", path);
    free(first);
    free(second);
    return status;
}

static lks_status count_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)path, (void)dtype, (void)shape;
    ++*(int *)data;
    return LKS_OK;
}

int main(int argc, char **argv) {
    comparison c = {0};
    int others = 0;
    lks_status status = argc == 2 || argc == 3
                            ? lks_checkpoint_open(argv[1], &c.first)
                            : lks_fail(LKS_EUSAGE, "usage: same_state CHECKPOINT [CHECKPOINT]");
    if (!status && argc == 3) status = lks_checkpoint_open(argv[2], &c.second);
    if (!status) status = lks_checkpoint_visit(c.first, compare_array, &c);
    if (!status && c.second) status = lks_checkpoint_visit(c.second, count_array, &others);
    if (!status && c.second && others != c.arrays)
        status = lks_fail(LKS_ECHECKPOINT, "%d arrays in one, %d in the other", c.arrays, others);
    lks_checkpoint_close(c.second);
    lks_checkpoint_close(c.first);
    if (status) printf("%s\n", lks_last_error());
    return status != LKS_OK;
}
