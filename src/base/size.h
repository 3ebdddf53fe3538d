/* Sizes that cannot overflow silently, and shapes. */
#ifndef LKS_BASE_SIZE_H
#define LKS_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstep/spec.h"
#include "lockstep/status.h"

/* *out = a * b or a + b; false and *out untouched where that overflows. */
bool lks_size_mul(size_t a, size_t b, size_t *out);
bool lks_size_add(size_t a, size_t b, size_t *out);

/* n rounded up to a multiple of `unit` (> 0); n is below SIZE_MAX - unit. */
size_t lks_round_up(size_t n, size_t unit);

/* Elements of a shape, 1 for rank 0. LKS_ESHAPE on overflow of int64 or a negative dimension. */
lks_status lks_shape_count(const lks_shape *shape, int64_t *out);

/* Elements of a shape, and the bytes that they take. LKS_ESHAPE where either overflows int64. */
lks_status lks_shape_bytes(const lks_shape *shape, size_t element_bytes, int64_t *out_count,
                           int64_t *out_bytes);

bool lks_shape_equal(const lks_shape *a, const lks_shape *b);

enum { LKS_SHAPE_TEXT_BYTES = 192 };
/* "[3, 32, 32]" into text[LKS_SHAPE_TEXT_BYTES]; returns text. */
const char *lks_shape_text(const lks_shape *shape, char *text);

enum { LKS_BYTES_TEXT_BYTES = 24 };
/* "512 B", "1.5 GiB" into text[LKS_BYTES_TEXT_BYTES]; returns text. */
const char *lks_bytes_text(size_t bytes, char *text);
/* What follows a word for so many things: "" or "s". */
const char *lks_plural(int64_t count);

/* The part of `count` things that part `part` of `parts` gets: [*begin, *end). The parts are
 * contiguous, in order, differ by at most one in length, and are empty where count < parts. */
void lks_split(int64_t count, int part, int parts, int64_t *begin, int64_t *end);

#endif
