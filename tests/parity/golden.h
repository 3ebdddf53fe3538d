/* Golden files: numbers that PyTorch computed (tools/golden), and comparing with them. Every
 * function fails the present test where something is missing. */
#ifndef LKS_TESTS_GOLDEN_H
#define LKS_TESTS_GOLDEN_H

#include "h5/h5.h"

/* A file of tests/parity/golden. */
lks_h5_file *golden_open(const char *name);

/* A whole array as float32; the caller frees it. shape may be NULL. */
float *golden_floats(lks_h5_file *file, const char *path, lks_shape *shape);
/* A whole array as int32; the caller frees it. */
int32_t *golden_ints(lks_h5_file *file, const char *path, lks_shape *shape);

int64_t golden_int(lks_h5_file *file, const char *path, const char *attribute);
double golden_number(lks_h5_file *file, const char *path, const char *attribute);
/* The caller frees it. */
char *golden_text(lks_h5_file *file, const char *path, const char *attribute);

/* "a/b" in one of eight buffers used in turn. */
const char *golden_path(const char *parent, const char *name);

/* Fails unless |got - want| <= tolerance * max |want| everywhere, naming the worst place. */
void golden_compare(const char *what, const float *got, const float *want, int64_t count,
                    double tolerance);

#endif
