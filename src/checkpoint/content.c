#include "checkpoint/content.h"

#include <stdlib.h>
#include <string.h>

bool lks_attr_is_long(const lks_checkpoint_attr *attr) {
    return attr->kind == LKS_ATTR_TEXT && strlen(attr->text) > LKS_ATTR_TEXT_MAX;
}

static lks_status add_array(lks_save_content *out, const lks_checkpoint_array *array) {
    int64_t count;
    size_t bytes;
    lks_status status = lks_shape_count(&array->shape, &count);
    if (status) return lks_fail_in(status, "array %s", array->path);
    if (!lks_size_mul((size_t)count, lks_dtype_bytes(array->dtype), &bytes) || bytes > INT64_MAX)
        return lks_fail(LKS_EINVAL, "array %s: too large", array->path);
    for (int i = 0; i < array->piece_count; i++) {
        status = lks_check_piece(array, count, i);
        if (status) return status;
    }
    lks_save_array *entry = &out->arrays[out->array_count++];
    *entry = (lks_save_array){
        .array = array,
        .grid = lks_block_grid_make(count, array->dtype),
        .first_block = out->block_count,
    };
    out->block_count += entry->grid.block_count;
    return LKS_OK;
}

/* The text as a uint8 array "group/name"; its one piece is rank 0's. */
static lks_status add_text(lks_save_content *out, const lks_checkpoint_attr *attr, int rank) {
    char *path = lks_join_path(attr->path, attr->name);
    if (!path) return lks_fail(LKS_ENOMEM, "out of memory");
    int64_t length = (int64_t)strlen(attr->text);
    lks_piece *piece = &out->text_pieces[out->text_count];
    lks_checkpoint_array *array = &out->texts[out->text_count++];
    *piece = (lks_piece){.count = length, .data = (void *)attr->text}; /* it is only read */
    *array = (lks_checkpoint_array){
        .path = path,
        .dtype = LKS_U8,
        .shape = {.rank = 1, .dim = {length}},
        .pieces = piece,
        .piece_count = rank == 0 ? 1 : 0,
    };
    return add_array(out, array);
}

lks_status lks_save_content_make(const lks_checkpoint_content *content, int rank,
                                 lks_save_content *out) {
    *out = (lks_save_content){0};
    size_t texts = 0;
    for (int i = 0; i < content->attr_count; i++)
        texts += lks_attr_is_long(&content->attrs[i]);
    /* One more than needed, since calloc of nothing may give NULL. */
    out->arrays = calloc((size_t)content->array_count + texts + 1, sizeof *out->arrays);
    out->texts = calloc(texts + 1, sizeof *out->texts);
    out->text_pieces = calloc(texts + 1, sizeof *out->text_pieces);
    if (!out->arrays || !out->texts || !out->text_pieces)
        return lks_fail(LKS_ENOMEM, "out of memory for %d arrays", content->array_count);

    lks_status status = LKS_OK;
    for (int i = 0; !status && i < content->array_count; i++)
        status = add_array(out, &content->arrays[i]);
    for (int i = 0; !status && i < content->attr_count; i++) {
        if (lks_attr_is_long(&content->attrs[i])) status = add_text(out, &content->attrs[i], rank);
    }
    return status;
}

void lks_save_content_free(lks_save_content *content) {
    for (int i = 0; i < content->text_count; i++)
        free((char *)content->texts[i].path); /* made by add_text */
    free(content->texts);
    free(content->text_pieces);
    free(content->arrays);
    *content = (lks_save_content){0};
}
