/* The arithmetic of reductions, shared by the back ends. */
#ifndef LKS_COMM_REDUCE_H
#define LKS_COMM_REDUCE_H

#include "comm/comm.h"

/* Can arrays of this type be reduced? F32, F64, I64, BF16. */
bool lks_reduce_supports(lks_dtype dtype);

/* out[i] = sources[0][i] op sources[1][i] op ..., from left to right: the same bits whoever
 * computes it. BF16 is reduced in float32 and rounded once, to nearest, ties to even. A maximum
 * with NaN is NaN. I64 sums wrap around.
 * sources: [source_count] arrays of `count` elements, source_count >= 1; out may be one of them. */
void lks_reduce(const void *const *sources, int source_count, int64_t count, lks_dtype dtype,
                lks_reduce_op op, void *out);

#endif
