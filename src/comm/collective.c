/* What the kinds of collectives are called, and what nccl-tests makes of their speed. */
#include "comm/comm.h"

const char *lks_collective_name(lks_collective kind) {
    static const char *const names[LKS_COLLECTIVE_COUNT] = {
        [LKS_ALL_REDUCE] = "all_reduce", [LKS_REDUCE_SCATTER] = "reduce_scatter",
        [LKS_ALL_GATHER] = "all_gather", [LKS_BROADCAST] = "broadcast",
        [LKS_BARRIER] = "barrier",
    };
    return names[kind];
}

double lks_collective_bus_factor(lks_collective kind, int ranks) {
    const double others = (double)(ranks - 1) / ranks;
    if (kind == LKS_ALL_REDUCE) return 2 * others;
    return kind == LKS_REDUCE_SCATTER || kind == LKS_ALL_GATHER ? others : 1;
}
