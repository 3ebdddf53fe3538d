/* HDF5 data sets: inputs [n, ...] and targets [n] or [n, ...] of any numeric type. */
#include <stdlib.h>

#include "data/dataset.h"
#include "h5/h5.h"

typedef struct hdf5_options {
    char *file, *inputs, *targets;
} hdf5_options;

static const lks_option options[] = {
    {.key = "file",
     .type = LKS_OPTION_PATH,
     .offset = offsetof(hdf5_options, file),
     .help = "The HDF5 file."},
    {.key = "inputs",
     .type = LKS_OPTION_STRING,
     .offset = offsetof(hdf5_options, inputs),
     .help = "Path of the inputs in the file: [samples, ...], any numeric type."},
    {.key = "targets",
     .type = LKS_OPTION_STRING,
     .offset = offsetof(hdf5_options, targets),
     .optional = true,
     .help = "Path of the targets in the file: integers [samples] are class labels, anything else "
             "is values; none for prediction alone."},
    {0},
};

static const lks_option_table option_table = {
    .name = "hdf5",
    .help = "Arrays of an HDF5 file.",
    .struct_bytes = sizeof(hdf5_options),
    .options = options,
};

/* One array. Each has its own handle of the file, so that columns do not depend on each other. */
typedef struct hdf5_source {
    lks_h5_file *file;
    lks_h5_array *array;
} hdf5_source;

static lks_status read_rows(void *source, int64_t first, int64_t count, lks_dtype dtype,
                            void *rows) {
    return lks_h5_read_rows(((hdf5_source *)source)->array, first, count, dtype, rows);
}

static void close_source(void *source) {
    hdf5_source *s = source;
    lks_h5_close_array(s->array);
    lks_h5_close(s->file); /* opened for reading: nothing is lost where closing fails */
    free(s);
}

static const lks_source_ops source_ops = {.read = read_rows, .close = close_source};

/* The array's shape without its first dimension, and its type, as the column's. */
static lks_status describe(const lks_h5_info *info, lks_column *column) {
    if (info->number_class == LKS_H5_OTHER)
        return lks_fail(LKS_EDATA, "%s: %s holds %s: expected numbers", column->file, column->name,
                        info->type_name);
    if (info->shape.rank == 0)
        return lks_fail(LKS_EDATA, "%s: %s is a single number: expected an array [samples, ...]",
                        column->file, column->name);
    column->count = info->shape.dim[0];
    column->shape.rank = info->shape.rank - 1;
    for (int i = 0; i < column->shape.rank; i++)
        column->shape.dim[i] = info->shape.dim[i + 1];
    column->is_integer = info->number_class == LKS_H5_INTEGER;
    bool bytes = column->is_integer && info->is_unsigned && info->element_bytes == 1;
    column->dtype = bytes ? LKS_U8 : LKS_F32;
    column->block_rows = info->chunk_rows;
    return LKS_OK;
}

static lks_status open_column(const char *file, const char *path, lks_column *column) {
    hdf5_source *source = calloc(1, sizeof *source);
    column->file = lks_strdup(file);
    column->name = lks_strdup(path);
    if (source == NULL || column->file == NULL || column->name == NULL) {
        free(source);
        return lks_fail(LKS_ENOMEM, "%s: out of memory", file);
    }
    column->ops = &source_ops;
    column->source = source;
    lks_status status = lks_h5_open(file, &source->file);
    if (status == LKS_OK) status = lks_h5_open_array(source->file, path, &source->array);
    if (status == LKS_OK) status = describe(lks_h5_array_info(source->array), column);
    return status;
}

static lks_status open_hdf5(const void *config, lks_column *inputs, lks_column *targets) {
    const hdf5_options *o = config;
    lks_status status = open_column(o->file, o->inputs, inputs);
    if (status == LKS_OK && o->targets != NULL) status = open_column(o->file, o->targets, targets);
    return status;
}

const lks_format lks_format_hdf5 = {.options = &option_table, .open = open_hdf5};
