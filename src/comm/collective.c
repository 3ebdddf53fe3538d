/* What the kinds of collectives are called, how they divide their data, and what nccl-tests makes
 * of their speed. */
#include "comm/backend.h"

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

void lks_comm_lay_out(const lks_comm *comm, const lks_comm_call *call, int64_t *begin) {
    int64_t end, at = 0;
    for (int r = 0; r < comm->size; r++) {
        begin[r] = at;
        if (call->kind == LKS_ALL_REDUCE)
            lks_split(call->count, r, comm->size, &begin[r], &end);
        else if (call->kind == LKS_BROADCAST)
            at += r == call->root ? call->count : 0;
        else if (call->kind != LKS_BARRIER)
            at += call->counts[r];
    }
    begin[comm->size] = call->count;
}
