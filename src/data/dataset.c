/* Data sets: opening, checking, reading by index. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"

/* The sampler draws with 32-bit random words. */
static const int64_t MAX_COUNT = (int64_t)1 << 32;

void lks_dataset_destroy(lks_dataset *dataset) {
    if (dataset == NULL) return;
    lks_column_close(&dataset->inputs);
    lks_column_close(&dataset->targets);
    free(dataset->description);
    free(dataset);
}

/* ---- what files and arrays have in common ---- */

static lks_status check_counts(const lks_dataset *dataset) {
    const lks_column *inputs = &dataset->inputs, *targets = &dataset->targets;
    if (inputs->count <= 0)
        return lks_fail(LKS_EDATA, "%s: %s is empty: expected at least one sample", inputs->file,
                        inputs->name);
    if (inputs->count > MAX_COUNT)
        return lks_fail(LKS_EDATA, "%s: %s has %lld samples: expected at most %lld", inputs->file,
                        inputs->name, (long long)inputs->count, (long long)MAX_COUNT);
    if (dataset->target_kind != LKS_TARGET_NONE && targets->count != inputs->count)
        return lks_fail(LKS_EDATA, "%s: %s has %lld samples, but %s: %s has %lld", inputs->file,
                        inputs->name, (long long)inputs->count, targets->file, targets->name,
                        (long long)targets->count);
    return LKS_OK;
}

static lks_status set_width(lks_column *column) {
    if (lks_shape_count(&column->shape, &column->width) != LKS_OK)
        return lks_fail_in(LKS_EDATA, "%s: %s", column->file, column->name);
    char shape[LKS_SHAPE_TEXT_BYTES];
    if (column->width == 0)
        return lks_fail(LKS_EDATA, "%s: %s has samples of shape %s, which are empty", column->file,
                        column->name, lks_shape_text(&column->shape, shape));
    return LKS_OK;
}

/* Widths, the kind and shape of targets, and whether the two columns fit together. */
static lks_status complete(lks_dataset *dataset, bool has_targets) {
    lks_column *inputs = &dataset->inputs, *targets = &dataset->targets;
    if (inputs->shape.rank == 0) inputs->shape = (lks_shape){1, {1}};
    lks_status status = set_width(inputs);
    if (status == LKS_OK && has_targets) {
        bool classes = targets->is_integer && targets->shape.rank == 0;
        dataset->target_kind = classes ? LKS_TARGET_CLASSES : LKS_TARGET_VALUES;
        dataset->target_shape = targets->shape;
        if (targets->shape.rank == 0) dataset->target_shape = (lks_shape){1, {1}};
        status = set_width(targets);
    }
    if (status == LKS_OK) status = check_counts(dataset);
    if (status != LKS_OK) return status;
    dataset->description = lks_strdup_printf("%s (%s)", dataset->inputs.file, dataset->inputs.name);
    return dataset->description != NULL
               ? LKS_OK
               : lks_fail(LKS_ENOMEM, "%s: out of memory", dataset->inputs.file);
}

/* ---- from files ---- */

/* A column whole in memory where that leaves *budget_bytes >= 0, in blocks otherwise. */
static lks_status load_or_block(lks_column *column, int64_t *budget_bytes) {
    int64_t bytes = lks_column_bytes(column);
    if (bytes <= *budget_bytes) {
        *budget_bytes -= bytes;
        return lks_column_load(column, column->dtype);
    }
    if (column->is_stream)
        return lks_fail(LKS_ECONFIG,
                        "%s is compressed and takes %lld bytes in memory, of which %lld are left: "
                        "unpack it with gunzip or allow more memory",
                        column->file, (long long)bytes, (long long)*budget_bytes);
    return lks_column_open_blocks(column, *budget_bytes);
}

/* Labels are always in memory: they are small, and checking them reads them all. */
static lks_status load(lks_dataset *dataset, int64_t budget_bytes) {
    lks_status status = LKS_OK;
    if (dataset->target_kind == LKS_TARGET_CLASSES)
        status = lks_column_load(&dataset->targets, LKS_I32);
    else if (dataset->target_kind == LKS_TARGET_VALUES)
        status = load_or_block(&dataset->targets, &budget_bytes);
    if (status == LKS_OK) status = load_or_block(&dataset->inputs, &budget_bytes);
    return status;
}

static lks_status open_format(const lks_format *format, const lks_spec *spec, int64_t memory_bytes,
                              lks_dataset *dataset) {
    void *options = calloc(1, format->options->struct_bytes);
    if (options == NULL) return lks_fail(LKS_ENOMEM, "out of memory");
    char what[64];
    snprintf(what, sizeof what, "data set (%s)", format->options->name);
    lks_status status = lks_options_parse(format->options, options, spec->options, what);
    if (status == LKS_OK) {
        status = format->open(options, &dataset->inputs, &dataset->targets);
        lks_options_free(format->options, options);
    }
    free(options);
    if (status == LKS_OK) status = complete(dataset, dataset->targets.ops != NULL);
    if (status == LKS_OK) status = load(dataset, memory_bytes);
    return status;
}

lks_status lks_dataset_open(const lks_spec *spec, int64_t memory_bytes, lks_dataset **out) {
    *out = NULL;
    lks_dataset *dataset = NULL;
    lks_status status = LKS_OK;
    const lks_format *format = lks_format_find(spec->type);
    if (format == NULL) {
        status = lks_format_unknown(spec->type);
    } else if ((dataset = calloc(1, sizeof *dataset)) == NULL) {
        status = lks_fail(LKS_ENOMEM, "out of memory");
    } else {
        status = open_format(format, spec, memory_bytes, dataset);
    }
    if (status != LKS_OK) {
        lks_dataset_destroy(dataset);
        return spec->where != NULL ? lks_fail_in(status, "%s", spec->where) : status;
    }
    *out = dataset;
    return LKS_OK;
}

/* ---- from arrays ---- */

static lks_status describe_array(lks_column *column, const char *name, int64_t count,
                                 const lks_shape *shape) {
    column->file = lks_strdup("arrays in memory");
    column->name = lks_strdup(name);
    column->count = count;
    column->shape = *shape;
    column->dtype = LKS_F32;
    return column->file != NULL && column->name != NULL ? LKS_OK
                                                        : lks_fail(LKS_ENOMEM, "out of memory");
}

static lks_status borrow_floats(lks_column *column, const float *values) {
    column->memory = values;
    return lks_column_check_finite(column, 0, column->count, values);
}

/* The one source that arrays need: labels are int64 there and int32 here. */
static lks_status read_array_labels(void *source, int64_t first, int64_t count, lks_dtype dtype,
                                    void *rows) {
    (void)dtype;
    memcpy(rows, (const int64_t *)source + first, (size_t)count * sizeof(int64_t));
    return LKS_OK;
}

static void close_nothing(void *source) {
    (void)source;
}

static const lks_source_ops array_labels = {.read = read_array_labels, .close = close_nothing};

typedef struct arrays {
    const float *inputs;
    const int64_t *labels;
    const lks_shape *value_shape;
    const float *values;
} arrays;

static lks_status fill_from_arrays(lks_dataset *dataset, int64_t count, const lks_shape *input,
                                   const arrays *given) {
    const lks_shape one = {0};
    lks_column *targets = &dataset->targets;
    lks_status status = describe_array(&dataset->inputs, "inputs", count, input);
    if (status == LKS_OK && given->labels != NULL)
        status = describe_array(targets, "labels", count, &one);
    if (status == LKS_OK && given->values != NULL)
        status = describe_array(targets, "values", count, given->value_shape);
    targets->is_integer = given->labels != NULL;
    if (status == LKS_OK)
        status = complete(dataset, given->labels != NULL || given->values != NULL);
    if (status == LKS_OK) status = borrow_floats(&dataset->inputs, given->inputs);
    if (status == LKS_OK && given->values != NULL) status = borrow_floats(targets, given->values);
    if (status == LKS_OK && given->labels != NULL) {
        targets->ops = &array_labels;
        targets->source = (void *)given->labels;
        status = lks_column_load(targets, LKS_I32);
    }
    return status;
}

lks_status lks_dataset_from_arrays(int64_t count, const lks_shape *input, const float *inputs,
                                   const int64_t *labels, const lks_shape *value,
                                   const float *values, lks_dataset **out) {
    *out = NULL;
    if (count <= 0 || input == NULL || inputs == NULL)
        return lks_fail(LKS_EINVAL, "a data set from arrays needs inputs of at least one sample");
    if (labels != NULL && values != NULL)
        return lks_fail(LKS_EINVAL, "a data set from arrays has labels or values, not both");
    if (values != NULL && value == NULL)
        return lks_fail(LKS_EINVAL, "a data set with values needs their shape");
    lks_dataset *dataset = calloc(1, sizeof *dataset);
    if (dataset == NULL) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status =
        fill_from_arrays(dataset, count, input, &(arrays){inputs, labels, value, values});
    if (status != LKS_OK) {
        lks_dataset_destroy(dataset);
        return status;
    }
    *out = dataset;
    return LKS_OK;
}

/* ---- questions ---- */

int64_t lks_dataset_count(const lks_dataset *dataset) {
    return dataset->inputs.count;
}

const lks_shape *lks_dataset_input_shape(const lks_dataset *dataset) {
    return &dataset->inputs.shape;
}

lks_target_kind lks_dataset_target_kind(const lks_dataset *dataset) {
    return dataset->target_kind;
}

const lks_shape *lks_dataset_target_shape(const lks_dataset *dataset) {
    return &dataset->target_shape;
}

const char *lks_dataset_describe(const lks_dataset *dataset) {
    return dataset->description;
}

static int64_t column_memory_bytes(const lks_column *column) {
    if (column->blocks != NULL) return lks_block_cache_bytes(column->blocks);
    return column->owns_memory ? lks_column_bytes(column) : 0;
}

int64_t lks_dataset_memory_bytes(const lks_dataset *dataset) {
    return column_memory_bytes(&dataset->inputs) + column_memory_bytes(&dataset->targets);
}

lks_status lks_dataset_check_labels(lks_dataset *dataset, int64_t classes, int64_t ignore_index) {
    const lks_column *targets = &dataset->targets;
    if (dataset->target_kind != LKS_TARGET_CLASSES)
        return lks_fail(LKS_EINVAL, "%s has no labels to check", dataset->description);
    const int32_t *labels = targets->memory;
    for (int64_t i = 0; i < targets->count; i++) {
        if ((labels[i] >= 0 && labels[i] < classes) || labels[i] == ignore_index) continue;
        char value[32], expected[64];
        snprintf(value, sizeof value, "%d", labels[i]);
        snprintf(expected, sizeof expected, "a label in 0..%lld", (long long)classes - 1);
        return lks_column_refuse(targets, i, -1, value, expected);
    }
    return LKS_OK;
}

/* ---- reading ---- */

typedef struct destination {
    float *rows;
    int64_t width;
    lks_dtype from;
} destination;

static void copy_row(void *data, int64_t position, int64_t index, const void *row) {
    const destination *to = data;
    float *out = to->rows + position * to->width;
    (void)index;
    if (to->from == LKS_F32) {
        memcpy(out, row, (size_t)to->width * sizeof *out);
        return;
    }
    const uint8_t *bytes = row;
    for (int64_t i = 0; i < to->width; i++)
        out[i] = bytes[i];
}

static lks_status read_floats(lks_column *column, const int64_t *indices, int64_t n, float *rows) {
    destination to = {rows, column->width, column->dtype};
    return lks_column_visit(column, indices, n, copy_row, &to);
}

lks_status lks_dataset_read(lks_dataset *dataset, const int64_t *indices, int64_t n, float *inputs,
                            void *targets) {
    for (int64_t i = 0; i < n; i++)
        if (indices[i] < 0 || indices[i] >= dataset->inputs.count)
            return lks_fail(LKS_EINVAL, "%s has no sample %lld, it has %lld", dataset->description,
                            (long long)indices[i], (long long)dataset->inputs.count);
    lks_status status = LKS_OK;
    if (targets != NULL && dataset->target_kind == LKS_TARGET_VALUES) {
        status = read_floats(&dataset->targets, indices, n, targets);
    } else if (targets != NULL && dataset->target_kind == LKS_TARGET_CLASSES) {
        const int32_t *labels = dataset->targets.memory;
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)targets)[i] = labels[indices[i]];
    }
    if (status == LKS_OK && inputs != NULL)
        status = read_floats(&dataset->inputs, indices, n, inputs);
    return status;
}
