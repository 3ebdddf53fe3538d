/* The registry of formats: a new format is a file in formats/ and a line here. */
#include <string.h>

#include "data/dataset.h"

static const lks_format *const formats[] = {
    &lks_format_hdf5,
    &lks_format_idx,
    &lks_format_cifar10,
};

enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

const lks_format *lks_format_find(const char *type) {
    for (int i = 0; type != NULL && i < FORMAT_COUNT; i++)
        if (strcmp(formats[i]->options->name, type) == 0) return formats[i];
    return NULL;
}

lks_status lks_format_unknown(const char *type) {
    if (type == NULL) return lks_fail(LKS_ECONFIG, "a data set without a type");
    const char *known[FORMAT_COUNT];
    for (int i = 0; i < FORMAT_COUNT; i++)
        known[i] = formats[i]->options->name;
    return lks_fail_unknown("data set type", type, known, FORMAT_COUNT);
}

const lks_option_table *lks_dataset_options(const char *type) {
    const lks_format *format = lks_format_find(type);
    return format != NULL ? format->options : NULL;
}

const char *lks_dataset_type(int index) {
    return index >= 0 && index < FORMAT_COUNT ? formats[index]->options->name : NULL;
}
