/* Packing blocks of memory by their lifetimes. */
#ifndef LKS_ENGINE_PLAN_H
#define LKS_ENGINE_PLAN_H

#include "base/base.h"

/* cuBLASLt wants its workspace at a multiple of 256 bytes; cache lines are 64. */
enum { LKS_PLAN_ALIGNMENT = 256 };

/* A block lives from step `first` to step `last`, both included. */
typedef struct lks_block {
    size_t bytes;
    int first, last;
    size_t offset; /* out */
} lks_block;

/* Gives every block an offset, a multiple of LKS_PLAN_ALIGNMENT, such that no two blocks that live
 * in the same step share a byte; *out_bytes is what all of them take together. Greedy: the largest
 * block first, each into the smallest gap that takes it. The same blocks give the same offsets.
 * LKS_ENOMEM, also where the sum overflows. */
lks_status lks_plan_pack(lks_block *blocks, int count, size_t *out_bytes);

#endif
