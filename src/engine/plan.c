#include "engine/plan.h"

#include <stdlib.h>

/* Larger first, then earlier, then by place in the array: a total order, so that qsort's choice
 * among equals does not matter. */
static int compare_for_placing(const void *a, const void *b) {
    const lks_block *x = *(lks_block *const *)a, *y = *(lks_block *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool live_together(const lks_block *a, const lks_block *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* The start of the smallest gap for `block` among the placed blocks, which are sorted by offset;
 * above all of them where there is none. */
static size_t find_gap(lks_block *const *placed, int count, const lks_block *block) {
    size_t end = 0; /* of the neighbours passed so far */
    size_t best = 0, best_bytes = SIZE_MAX;
    for (int i = 0; i < count; i++) {
        if (!live_together(placed[i], block)) continue;
        if (placed[i]->offset > end) {
            size_t gap = placed[i]->offset - end;
            if (gap >= block->bytes && gap < best_bytes) {
                best = end;
                best_bytes = gap;
            }
        }
        size_t after = placed[i]->offset + lks_round_up(placed[i]->bytes, LKS_PLAN_ALIGNMENT);
        if (after > end) end = after;
    }
    return best_bytes < SIZE_MAX ? best : end;
}

static void insert_by_offset(lks_block **placed, int count, lks_block *block) {
    int i = count;
    for (; i > 0 && placed[i - 1]->offset > block->offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = block;
}

/* If everything side by side can be addressed, every sum in find_gap can. */
static lks_status check_sum(const lks_block *blocks, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (!lks_size_add(sum, blocks[i].bytes, &sum) ||
            !lks_size_add(sum, LKS_PLAN_ALIGNMENT, &sum))
            return lks_fail(LKS_ENOMEM, "the model's activations are more bytes than this machine "
                                        "can address: take a smaller batch");
    }
    return LKS_OK;
}

lks_status lks_plan_pack(lks_block *blocks, int count, size_t *out_bytes) {
    lks_status status = check_sum(blocks, count);
    if (status != LKS_OK) return status;
    lks_block **order = malloc((2 * (size_t)count + 1) * sizeof *order);
    if (order == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for the plan of %d blocks", count);
    lks_block **placed = order + count;
    for (int i = 0; i < count; i++)
        order[i] = &blocks[i];
    qsort(order, (size_t)count, sizeof *order, compare_for_placing);

    size_t total = 0;
    for (int i = 0; i < count; i++) {
        order[i]->offset = find_gap(placed, i, order[i]);
        insert_by_offset(placed, i, order[i]);
        size_t end = order[i]->offset + lks_round_up(order[i]->bytes, LKS_PLAN_ALIGNMENT);
        if (end > total) total = end;
    }
    free(order);
    *out_bytes = total;
    return LKS_OK;
}
