#include "checkpoint/content.h"

#include <stdlib.h>
#include <string.h>

bool lks_attr_is_long(const lks_checkpoint_attr *attr) {
    return attr->kind == LKS_ATTR_TEXT && strlen(attr->text) > LKS_ATTR_TEXT_MAX;
}

static lks_status check_array(const lks_checkpoint_array *array, int64_t *out_count) {
    int64_t bytes;
    lks_status status =
        lks_shape_bytes(&array->shape, lks_dtype_bytes(array->dtype), out_count, &bytes);
    if (status) return lks_fail_in(status, "array %s", array->path);
    for (int i = 0; !status && i < array->piece_count; i++)
        status = lks_check_piece(array, *out_count, i);
    return status;
}

static lks_status add_array(lks_save_content *out, const lks_checkpoint_array *array) {
    int64_t count;
    lks_status status = check_array(array, &count);
    if (status) return status;
    lks_save_array *entry = &out->arrays[out->array_count++];
    size_t pieces = (size_t)array->piece_count;
    *entry = (lks_save_array){
        .path = lks_strdup(array->path),
        .dtype = array->dtype,
        .shape = array->shape,
        .pieces = calloc(pieces + 1, sizeof *entry->pieces), /* of nothing it may give NULL */
        .piece_count = array->piece_count,
        .grid = lks_block_grid_make(count, array->dtype),
        .first_block = out->block_count,
    };
    if (!entry->path || !entry->pieces)
        return lks_fail(LKS_ENOMEM, "array %s: out of memory", array->path);
    if (pieces > 0) memcpy(entry->pieces, array->pieces, pieces * sizeof *entry->pieces);
    out->block_count += entry->grid.block_count;
    return LKS_OK;
}

/* The text as a uint8 array "group/name"; its one piece is rank 0's. */
static lks_status add_text(lks_save_content *out, const lks_checkpoint_attr *attr, int rank) {
    char *path = lks_join_path(attr->path, attr->name), *text = lks_strdup(attr->text);
    lks_status status = LKS_OK;
    if (!path || !text) {
        status = lks_fail(LKS_ENOMEM, "attribute %s: out of memory", attr->name);
        goto done;
    }
    int64_t length = (int64_t)strlen(text);
    const lks_piece piece = {.count = length, .data = text};
    const lks_checkpoint_array array = {
        .path = path,
        .dtype = LKS_U8,
        .shape = {.rank = 1, .dim = {length}},
        .pieces = &piece,
        .piece_count = rank == 0 ? 1 : 0,
    };
    status = add_array(out, &array);
    if (status) goto done;
    out->arrays[out->array_count - 1].text = text;
    text = NULL;
done:
    free(text);
    free(path);
    return status;
}

lks_status lks_save_content_make(const lks_checkpoint_content *content, int rank,
                                 lks_save_content *out) {
    *out = (lks_save_content){0};
    size_t texts = 0;
    for (int i = 0; i < content->attr_count; i++)
        texts += lks_attr_is_long(&content->attrs[i]);
    /* One more than needed, since calloc of nothing may give NULL. */
    out->arrays = calloc((size_t)content->array_count + texts + 1, sizeof *out->arrays);
    if (!out->arrays)
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
    for (int i = 0; i < content->array_count; i++) {
        free(content->arrays[i].path);
        free(content->arrays[i].pieces);
        free(content->arrays[i].text);
    }
    free(content->arrays);
    *content = (lks_save_content){0};
}
