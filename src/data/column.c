/* Columns: the inputs or the targets of a data set, whole in memory or in blocks. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"

/* Reading goes on in pieces of this size, so that a mistake near the beginning of a large file is
 * found soon. */
static const int64_t PIECE_BYTES = (int64_t)64 << 20;

int64_t lks_column_row_bytes(const lks_column *column) {
    int64_t bytes = 0;
    int64_t element_bytes = (int64_t)lks_dtype_bytes(column->dtype);
    return __builtin_mul_overflow(column->width, element_bytes, &bytes) ? INT64_MAX : bytes;
}

int64_t lks_column_bytes(const lks_column *column) {
    int64_t bytes = 0;
    return __builtin_mul_overflow(lks_column_row_bytes(column), column->count, &bytes) ? INT64_MAX
                                                                                       : bytes;
}

void lks_column_close(lks_column *column) {
    if (column->ops != NULL) column->ops->close(column->source);
    lks_block_cache_destroy(column->blocks);
    if (column->owns_memory) free((void *)column->memory);
    free(column->file);
    free(column->name);
    memset(column, 0, sizeof *column);
}

/* ---- messages ---- */

lks_status lks_column_refuse(const lks_column *column, int64_t index, int64_t element,
                             const char *value, const char *expected) {
    const char *file = column->file;
    if (column->ops != NULL && column->ops->locate != NULL)
        file = column->ops->locate(column->source, &index);
    char place[LKS_SHAPE_TEXT_BYTES];
    int length = snprintf(place, sizeof place, "%lld", (long long)index);
    int64_t unit = column->width;
    for (int i = 0; element >= 0 && i < column->shape.rank; i++) {
        unit /= column->shape.dim[i];
        length += snprintf(place + length, sizeof place - (size_t)length, ", %lld",
                           (long long)(element / unit));
        element %= unit;
    }
    return lks_fail(LKS_EDATA, "%s: %s[%s] is %s: expected %s", file, column->name, place, value,
                    expected);
}

static bool all_finite(const float *values, int64_t count) {
    /* no early end, so that the loop can run as SIMD */
    int wrong = 0;
    for (int64_t i = 0; i < count; i++)
        wrong |= !(fabsf(values[i]) <= FLT_MAX);
    return wrong == 0;
}

lks_status lks_column_check_finite(const lks_column *column, int64_t first, int64_t count,
                                   const float *rows) {
    int64_t elements = count * column->width;
    if (all_finite(rows, elements)) return LKS_OK;
    int64_t i = 0;
    while (isfinite(rows[i]))
        i++;
    const char *value = isnan(rows[i]) ? "nan" : rows[i] > 0 ? "inf" : "-inf";
    return lks_column_refuse(column, first + i / column->width,
                             column->shape.rank > 0 ? i % column->width : -1, value,
                             "a finite number within float32's range");
}

/* ---- whole in memory ---- */

/* int64 labels as int32. */
static lks_status narrow_labels(const lks_column *column, int64_t first, int64_t count,
                                const int64_t *from, int32_t *to) {
    for (int64_t i = 0; i < count; i++) {
        if (from[i] < INT32_MIN || from[i] > INT32_MAX) {
            char value[32];
            snprintf(value, sizeof value, "%lld", (long long)from[i]);
            return lks_column_refuse(column, first + i, -1, value,
                                     "a label, which fits into 32 bits");
        }
        to[i] = (int32_t)from[i];
    }
    return LKS_OK;
}

static lks_status read_labels(const lks_column *column, int64_t first, int64_t count, int32_t *to) {
    enum { AT_ONCE = 4096 };
    int64_t wide[AT_ONCE];
    lks_status status = LKS_OK;
    for (int64_t done = 0; done < count && status == LKS_OK; done += AT_ONCE) {
        int64_t n = count - done < AT_ONCE ? count - done : AT_ONCE;
        status = column->ops->read(column->source, first + done, n, LKS_I64, wide);
        if (status == LKS_OK) status = narrow_labels(column, first + done, n, wide, to + done);
    }
    return status;
}

static lks_status read_piece(const lks_column *column, int64_t first, int64_t count, void *to) {
    if (column->dtype == LKS_I32) return read_labels(column, first, count, to);
    lks_status status = column->ops->read(column->source, first, count, column->dtype, to);
    if (status == LKS_OK && column->dtype == LKS_F32)
        status = lks_column_check_finite(column, first, count, to);
    return status;
}

lks_status lks_column_load(lks_column *column, lks_dtype dtype) {
    column->dtype = dtype;
    int64_t row_bytes = lks_column_row_bytes(column);
    int64_t bytes = lks_column_bytes(column);
    char *memory = bytes < INT64_MAX ? malloc((size_t)bytes) : NULL;
    if (memory == NULL)
        return lks_fail(LKS_ENOMEM, "%s: %s: out of memory for %lld rows of %lld bytes",
                        column->file, column->name, (long long)column->count, (long long)row_bytes);
    int64_t at_once = row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 1;
    lks_status status = LKS_OK;
    for (int64_t first = 0; first < column->count && status == LKS_OK; first += at_once) {
        int64_t n = column->count - first < at_once ? column->count - first : at_once;
        status = read_piece(column, first, n, memory + first * row_bytes);
    }
    if (status != LKS_OK) {
        free(memory);
        return status;
    }
    column->memory = memory;
    column->owns_memory = true;
    return LKS_OK;
}

lks_status lks_column_open_blocks(lks_column *column, int64_t budget_bytes) {
    lks_status status = lks_block_cache_create(column->count, lks_column_row_bytes(column),
                                               column->block_rows, budget_bytes, &column->blocks);
    return status == LKS_OK ? LKS_OK : lks_fail_in(status, "%s: %s", column->file, column->name);
}

/* ---- rows ---- */

lks_status lks_column_visit(lks_column *column, const int64_t *indices, int64_t n, lks_row_fn visit,
                            void *data) {
    if (column->blocks != NULL)
        return lks_block_cache_visit(column->blocks, column, indices, n, visit, data);
    const char *memory = column->memory;
    int64_t row_bytes = lks_column_row_bytes(column);
    for (int64_t i = 0; i < n; i++)
        visit(data, i, indices[i], memory + indices[i] * row_bytes);
    return LKS_OK;
}
