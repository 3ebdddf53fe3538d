#include "app/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

struct lks_arena_block {
    struct lks_arena_block *next;
    max_align_t data[];
};

void *lks_arena_alloc(lks_arena *arena, size_t bytes) {
    size_t total;
    if (!lks_size_add(bytes, sizeof(struct lks_arena_block), &total)) return NULL;
    struct lks_arena_block *block = calloc(1, total);
    if (!block) return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    return block->data;
}

char *lks_arena_copy(lks_arena *arena, const char *text, size_t length) {
    char *copy = lks_arena_alloc(arena, length + 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

char *lks_arena_printf(lks_arena *arena, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : lks_arena_alloc(arena, (size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void lks_arena_free(lks_arena *arena) {
    while (arena->blocks) {
        struct lks_arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
