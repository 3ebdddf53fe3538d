#include "train/state_list.h"

#include <stdlib.h>

void lks_state_list_free(lks_state_list *list) {
    for (int i = 0; i < list->array_count; i++) {
        free((char *)list->arrays[i].path);
        free((lks_piece *)list->arrays[i].pieces);
    }
    for (int i = 0; i < list->attr_count; i++) {
        free((char *)list->attrs[i].text);
        free((double *)list->attrs[i].f64);
    }
    free(list->arrays);
    free(list->attrs);
    *list = (lks_state_list){0};
}

lks_checkpoint_content lks_state_list_content(const lks_state_list *list) {
    return (lks_checkpoint_content){list->arrays, list->array_count, list->attrs, list->attr_count};
}

static void out_of_memory(lks_state_list *list) {
    list->status = lks_fail(LKS_ENOMEM, "the list of a checkpoint's arrays: out of host memory");
}

/* Room for one more element; NULL when out of memory. */
static void *grow(void *items, int count, int *capacity, size_t item_bytes) {
    if (count < *capacity) return items;
    int wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = realloc(items, (size_t)wanted * item_bytes);
    if (grown != NULL) *capacity = wanted;
    return grown;
}

void lks_state_list_add_flat(lks_state_list *list, const char *group, const char *name,
                             lks_dtype dtype, const lks_shape *shape, int64_t first, void *data,
                             const lks_range *ranges, int range_count) {
    if (list->status != LKS_OK) return;
    int64_t count;
    list->status = lks_shape_count(shape, &count);
    if (list->status != LKS_OK) return;
    void *grown =
        grow(list->arrays, list->array_count, &list->array_capacity, sizeof(*list->arrays));
    char *path = lks_strdup_printf("%s/%s", group, name);
    lks_piece *pieces = malloc(((size_t)range_count + 1) * sizeof(*pieces));
    if (grown != NULL) list->arrays = grown;
    if (grown == NULL || path == NULL || pieces == NULL) {
        free(path);
        free(pieces);
        out_of_memory(list);
        return;
    }

    int piece_count = 0;
    for (int i = 0; i < range_count; i++) {
        const lks_range *range = &ranges[i];
        int64_t begin = range->offset > first ? range->offset : first;
        int64_t end = range->offset + range->count < first + count ? range->offset + range->count
                                                                   : first + count;
        if (begin >= end) continue;
        char *at = (char *)data +
                   (size_t)(range->state_offset + begin - range->offset) * lks_dtype_bytes(dtype);
        pieces[piece_count++] =
            (lks_piece){.first = begin - first, .count = end - begin, .data = at};
    }
    list->arrays[list->array_count++] = (lks_checkpoint_array){.path = path,
                                                               .dtype = dtype,
                                                               .shape = *shape,
                                                               .pieces = pieces,
                                                               .piece_count = piece_count};
}

void lks_state_list_add_whole(lks_state_list *list, const char *group, const char *name,
                              lks_dtype dtype, const lks_shape *shape, void *data, bool mine) {
    const lks_range all = {.offset = 0, .count = INT64_MAX, .state_offset = 0};
    lks_state_list_add_flat(list, group, name, dtype, shape, 0, data, &all, mine ? 1 : 0);
}

/* Takes over the attribute's text and numbers, also when it fails. */
static void add_attr(lks_state_list *list, lks_checkpoint_attr attr) {
    void *grown = list->status != LKS_OK ? NULL
                                         : grow(list->attrs, list->attr_count, &list->attr_capacity,
                                                sizeof(*list->attrs));
    bool complete = attr.kind == LKS_ATTR_I64 || attr.text != NULL || attr.f64 != NULL;
    if (grown != NULL) list->attrs = grown;
    if (grown == NULL || !complete) {
        free((char *)attr.text);
        free((double *)attr.f64);
        if (list->status == LKS_OK) out_of_memory(list);
        return;
    }
    list->attrs[list->attr_count++] = attr;
}

void lks_state_list_add_i64(lks_state_list *list, const char *group, const char *name,
                            int64_t value) {
    add_attr(list, (lks_checkpoint_attr){
                       .path = group, .name = name, .kind = LKS_ATTR_I64, .i64 = value});
}

void lks_state_list_add_f64(lks_state_list *list, const char *group, const char *name,
                            const double *values, int count) {
    double *copy = malloc(((size_t)count + 1) * sizeof(*copy));
    for (int i = 0; i < count && copy != NULL; i++)
        copy[i] = values[i];
    add_attr(list,
             (lks_checkpoint_attr){
                 .path = group, .name = name, .kind = LKS_ATTR_F64, .f64 = copy, .count = count});
}

void lks_state_list_add_text(lks_state_list *list, const char *group, const char *name,
                             const char *text) {
    add_attr(list,
             (lks_checkpoint_attr){
                 .path = group, .name = name, .kind = LKS_ATTR_TEXT, .text = lks_strdup(text)});
}
