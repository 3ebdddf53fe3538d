/* Blocks of rows in memory, for columns that do not fit there whole. Samples are drawn in random
 * order, so no block is likelier to be wanted again than another: the oldest one makes room. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"

/* Where the format has no preference: large enough that reading dominates the call, small enough
 * that a single wanted row does not drag much else in. */
enum { DEFAULT_BLOCK_BYTES = 64 << 10 };

typedef struct wanted {
    int64_t index, position;
} wanted;

struct lks_block_cache {
    pthread_mutex_t lock; /* of everything below */
    int64_t count;        /* rows of the column */
    int64_t row_bytes;
    int64_t block_rows, block_count;
    int64_t slot_count;
    int64_t next_slot;      /* to be replaced */
    int64_t *slot_of_block; /* [block_count], -1: not in memory */
    int64_t *block_of_slot; /* [slot_count], -1: empty */
    char **slots;           /* [slot_count], allocated when first used */

    wanted *order; /* scratch of a visit */
    int64_t order_capacity;
};

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

lks_status lks_block_cache_create(int64_t count, int64_t row_bytes, int64_t block_rows,
                                  int64_t budget_bytes, lks_block_cache **out) {
    *out = NULL;
    lks_block_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) return lks_fail(LKS_ENOMEM, "out of memory");
    if (pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        return lks_fail(LKS_ENOMEM, "no lock for the blocks");
    }
    int64_t unit = row_bytes > 0 ? row_bytes : 1;
    int64_t rows = block_rows > 0 ? block_rows : DEFAULT_BLOCK_BYTES / unit;
    cache->count = count;
    cache->row_bytes = row_bytes;
    cache->block_rows = clamp(rows, 1, clamp(budget_bytes / unit, 1, count));
    cache->block_count = (count + cache->block_rows - 1) / cache->block_rows;
    cache->slot_count = clamp(budget_bytes / (cache->block_rows * unit), 1, cache->block_count);
    cache->slot_of_block = malloc((size_t)cache->block_count * sizeof *cache->slot_of_block);
    cache->block_of_slot = malloc((size_t)cache->slot_count * sizeof *cache->block_of_slot);
    cache->slots = calloc((size_t)cache->slot_count, sizeof *cache->slots);
    if (cache->slot_of_block == NULL || cache->block_of_slot == NULL || cache->slots == NULL) {
        lks_status status =
            lks_fail(LKS_ENOMEM, "out of memory for %lld blocks", (long long)cache->block_count);
        lks_block_cache_destroy(cache);
        return status;
    }
    for (int64_t i = 0; i < cache->block_count; i++)
        cache->slot_of_block[i] = -1;
    for (int64_t i = 0; i < cache->slot_count; i++)
        cache->block_of_slot[i] = -1;
    *out = cache;
    return LKS_OK;
}

void lks_block_cache_destroy(lks_block_cache *cache) {
    if (cache == NULL) return;
    for (int64_t i = 0; cache->slots != NULL && i < cache->slot_count; i++)
        free(cache->slots[i]);
    free(cache->slots);
    free(cache->slot_of_block);
    free(cache->block_of_slot);
    free(cache->order);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

int64_t lks_block_cache_bytes(const lks_block_cache *cache) {
    return cache->slot_count * cache->block_rows * cache->row_bytes;
}

/* Reads a block into the next slot. */
static lks_status read_block(lks_block_cache *cache, lks_column *column, int64_t block) {
    int64_t slot = cache->next_slot;
    if (cache->slots[slot] == NULL) {
        cache->slots[slot] = malloc((size_t)(cache->block_rows * cache->row_bytes));
        if (cache->slots[slot] == NULL)
            return lks_fail(LKS_ENOMEM, "%s: %s: out of memory for a block of %lld rows",
                            column->file, column->name, (long long)cache->block_rows);
    }
    if (cache->block_of_slot[slot] >= 0) cache->slot_of_block[cache->block_of_slot[slot]] = -1;
    cache->block_of_slot[slot] = -1;

    int64_t first = block * cache->block_rows;
    int64_t rows = cache->count - first;
    if (rows > cache->block_rows) rows = cache->block_rows;
    lks_status status =
        column->ops->read(column->source, first, rows, column->dtype, cache->slots[slot]);
    if (status == LKS_OK && column->dtype == LKS_F32)
        status = lks_column_check_finite(column, first, rows, (float *)(void *)cache->slots[slot]);
    if (status != LKS_OK) return status;
    cache->block_of_slot[slot] = block;
    cache->slot_of_block[block] = slot;
    cache->next_slot = (slot + 1) % cache->slot_count;
    return LKS_OK;
}

static lks_status find_row(lks_block_cache *cache, lks_column *column, int64_t index,
                           const void **out) {
    int64_t block = index / cache->block_rows;
    if (cache->slot_of_block[block] < 0) {
        lks_status status = read_block(cache, column, block);
        if (status != LKS_OK) return status;
    }
    *out =
        cache->slots[cache->slot_of_block[block]] + (index % cache->block_rows) * cache->row_bytes;
    return LKS_OK;
}

static int compare_wanted(const void *a, const void *b) {
    const wanted *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static lks_status reserve_order(lks_block_cache *cache, int64_t n) {
    if (n <= cache->order_capacity) return LKS_OK;
    free(cache->order);
    cache->order_capacity = 0;
    cache->order = malloc((size_t)n * sizeof *cache->order);
    if (cache->order == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for the order of %lld rows", (long long)n);
    cache->order_capacity = n;
    return LKS_OK;
}

/* Positions in `indices`, sorted by index: each block is then read once. */
static lks_status order_rows(lks_block_cache *cache, const int64_t *indices, int64_t n) {
    lks_status status = reserve_order(cache, n);
    if (status != LKS_OK) return status;
    for (int64_t i = 0; i < n; i++)
        cache->order[i] = (wanted){indices[i], i};
    if (n > 0) qsort(cache->order, (size_t)n, sizeof *cache->order, compare_wanted);
    return LKS_OK;
}

lks_status lks_block_cache_visit(lks_block_cache *cache, lks_column *column, const int64_t *indices,
                                 int64_t n, lks_row_fn visit, void *data) {
    pthread_mutex_lock(&cache->lock);
    lks_status status = order_rows(cache, indices, n);
    for (int64_t i = 0; i < n && status == LKS_OK; i++) {
        const void *row = NULL;
        status = find_row(cache, column, cache->order[i].index, &row);
        if (status == LKS_OK) visit(data, cache->order[i].position, cache->order[i].index, row);
    }
    pthread_mutex_unlock(&cache->lock);
    return status;
}
