/* Philox 4x32-10: counter-based random numbers (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3", SC'11). The same (key, counter) gives the same 4 words on
 * every rank, device and machine. */
#ifndef LKS_BASE_PHILOX_H
#define LKS_BASE_PHILOX_H

#include <stdint.h>

/* What random numbers are for: numbers for different purposes never meet, whatever their counters.
 */
typedef enum lks_random_purpose {
    LKS_RANDOM_INIT = 1,    /* initial parameters */
    LKS_RANDOM_SHUFFLE = 2, /* the permutation of an epoch */
    LKS_RANDOM_DROPOUT = 3, /* dropout masks */
    LKS_RANDOM_AUGMENT = 4  /* random crops and flips */
} lks_random_purpose;

typedef struct lks_philox_key {
    uint32_t word[2];
} lks_philox_key;

typedef struct lks_philox_block {
    uint32_t word[4];
} lks_philox_block;

/* The key of (seed, purpose, stream), mixed by Philox itself so that near seeds do not give near
 * keys. `stream` separates users of one purpose: the parameter's or the layer's index. */
lks_philox_key lks_philox_key_make(uint64_t seed, lks_random_purpose purpose, uint32_t stream);

/* Block `counter` of the key: 4 random words. `high` are the upper 64 bits of the 128-bit counter.
 */
lks_philox_block lks_philox(lks_philox_key key, uint64_t counter, uint64_t high);

/* A word as a float32 in [0, 1), 24 bits. */
float lks_philox_uniform(uint32_t word);

/* A number in [0, bound), without modulo bias beyond 2^-32, from a word: Lemire's multiply-shift.
 * bound <= 2^32. */
uint64_t lks_philox_below(uint32_t word, uint64_t bound);

#endif
