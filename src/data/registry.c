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
    lks_strbuf known = {0};
    for (int i = 0; i < FORMAT_COUNT; i++)
        lks_strbuf_add(&known, "%s%s", i > 0 ? ", " : "", formats[i]->options->name);
    lks_status status = lks_fail(LKS_ECONFIG, "unknown data set type \"%s\": expected one of: %s",
                                 type, known.failed ? "" : known.text);
    lks_strbuf_free(&known);
    return status;
}

const lks_option_table *lks_dataset_options(const char *type) {
    const lks_format *format = lks_format_find(type);
    return format != NULL ? format->options : NULL;
}

const char *lks_dataset_type(int index) {
    return index >= 0 && index < FORMAT_COUNT ? formats[index]->options->name : NULL;
}
