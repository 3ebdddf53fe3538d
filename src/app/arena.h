/* Memory that lives as long as one parsed run file and is freed at once. */
#ifndef LKS_APP_ARENA_H
#define LKS_APP_ARENA_H

#include <stddef.h>

/* Zero-initialise to start. */
typedef struct lks_arena {
    struct lks_arena_block *blocks;
} lks_arena;

/* Zeroed memory, or NULL when there is none. */
void *lks_arena_alloc(lks_arena *arena, size_t bytes);
char *lks_arena_copy(lks_arena *arena, const char *text, size_t length);
char *lks_arena_printf(lks_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void lks_arena_free(lks_arena *arena);

#endif
