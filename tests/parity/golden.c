#include "parity/golden.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void check(lks_status status) {
    if (status != LKS_OK) fail_msg("%s: %s", lks_status_text(status), lks_last_error());
}

lks_h5_file *golden_open(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/parity/golden/%s", LKS_SOURCE_DIR, name);
    lks_h5_file *file = NULL;
    check(lks_h5_open(path, &file));
    return file;
}

static void *read_array(lks_h5_file *file, const char *path, lks_dtype dtype, lks_shape *shape) {
    lks_h5_array *array = NULL;
    check(lks_h5_open_array(file, path, &array));
    int64_t count;
    check(lks_shape_count(&lks_h5_array_info(array)->shape, &count));
    void *values = malloc((size_t)count * lks_dtype_bytes(dtype) + 1);
    assert_non_null(values);
    check(lks_h5_read(array, 0, count, dtype, values));
    if (shape != NULL) *shape = lks_h5_array_info(array)->shape;
    lks_h5_close_array(array);
    return values;
}

float *golden_floats(lks_h5_file *file, const char *path, lks_shape *shape) {
    return read_array(file, path, LKS_F32, shape);
}

int32_t *golden_ints(lks_h5_file *file, const char *path, lks_shape *shape) {
    return read_array(file, path, LKS_I32, shape);
}

int64_t golden_int(lks_h5_file *file, const char *path, const char *attribute) {
    int64_t value;
    check(lks_h5_read_attr_i64(file, path, attribute, &value));
    return value;
}

double golden_number(lks_h5_file *file, const char *path, const char *attribute) {
    double value;
    int count;
    check(lks_h5_read_attr_f64(file, path, attribute, &value, 1, &count));
    return value;
}

char *golden_text(lks_h5_file *file, const char *path, const char *attribute) {
    char *text = NULL;
    check(lks_h5_read_attr_text(file, path, attribute, &text));
    return text;
}

const char *golden_path(const char *parent, const char *name) {
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", parent, name);
    return path;
}

void golden_compare(const char *what, const float *got, const float *want, int64_t count,
                    double tolerance) {
    double largest = 0, worst = -1;
    int64_t place = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)want[i]);
        if (!isfinite(got[i])) difference = INFINITY;
        if (difference > worst) {
            worst = difference;
            place = i;
        }
        largest = fmax(largest, fabs((double)want[i]));
    }
    if (worst > tolerance * largest)
        fail_msg("%s: element %" PRId64 " of %" PRId64
                 " is %.9g, expected %.9g; off by %.2g of the "
                 "largest %.3g, allowed %.2g",
                 what, place, count, (double)got[place], (double)want[place], worst / largest,
                 largest, tolerance);
}
