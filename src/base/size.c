#include "base/size.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"

bool lks_size_mul(size_t a, size_t b, size_t *out) {
    size_t result;
    if (__builtin_mul_overflow(a, b, &result)) return false;
    *out = result;
    return true;
}

bool lks_size_add(size_t a, size_t b, size_t *out) {
    size_t result;
    if (__builtin_add_overflow(a, b, &result)) return false;
    *out = result;
    return true;
}

size_t lks_round_up(size_t n, size_t unit) {
    assert(unit > 0);
    size_t rest = n % unit;
    return rest ? n + (unit - rest) : n;
}

lks_status lks_shape_count(const lks_shape *shape, int64_t *out) {
    assert(shape->rank >= 0 && shape->rank <= LKS_MAX_DIMS);
    char text[LKS_SHAPE_TEXT_BYTES];
    int64_t count = 1;
    bool empty = false;
    /* A zero anywhere makes the whole count zero, even where the other dimensions' product does not
     * fit. */
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 0)
            return lks_fail(LKS_ESHAPE, "the shape %s has a negative dimension",
                            lks_shape_text(shape, text));
        empty = empty || shape->dim[i] == 0;
    }
    for (int i = 0; !empty && i < shape->rank; i++)
        if (__builtin_mul_overflow(count, shape->dim[i], &count))
            return lks_fail(LKS_ESHAPE, "the shape %s has more elements than 64 bits can count",
                            lks_shape_text(shape, text));
    *out = empty ? 0 : count;
    return LKS_OK;
}

lks_status lks_shape_bytes(const lks_shape *shape, size_t element_bytes, int64_t *out_count,
                           int64_t *out_bytes) {
    char text[LKS_SHAPE_TEXT_BYTES];
    lks_status status = lks_shape_count(shape, out_count);
    if (status == LKS_OK && __builtin_mul_overflow(*out_count, element_bytes, out_bytes))
        status = lks_fail(LKS_ESHAPE, "the shape %s has more bytes than 64 bits can count",
                          lks_shape_text(shape, text));
    return status;
}

bool lks_shape_equal(const lks_shape *a, const lks_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *lks_shape_text(const lks_shape *shape, char *text) {
    size_t length = 0;
    text[length++] = '[';
    for (int i = 0; i < shape->rank && i < LKS_MAX_DIMS; i++)
        length += (size_t)snprintf(text + length, LKS_SHAPE_TEXT_BYTES - length, "%s%" PRId64,
                                   i ? ", " : "", shape->dim[i]);
    text[length++] = ']';
    text[length] = '\0';
    return text;
}

const char *lks_bytes_text(size_t bytes, char *text) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1024;
    snprintf(text, LKS_BYTES_TEXT_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

const char *lks_plural(int64_t count) {
    return count == 1 ? "" : "s";
}

void lks_split(int64_t count, int part, int parts, int64_t *begin, int64_t *end) {
    assert(count >= 0 && part >= 0 && part < parts);
    int64_t each = count / parts, longer = count % parts;
    *begin = part * each + (part < longer ? part : longer);
    *end = *begin + each + (part < longer);
}
