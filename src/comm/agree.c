/* The verdict of all ranks. */
#include <stdio.h>
#include <string.h>

#include "comm/backend.h"

/* What the culprit tells the others. */
typedef struct verdict {
    int32_t status;
    char detail[LKS_ERROR_BYTES];
} verdict;

lks_status lks_comm_agree(lks_comm *comm, lks_status status) {
    if (comm->size == 1) return status;
    /* One maximum says whether a rank failed, which is the lowest, and whether a rank did not. */
    int64_t votes[2] = {status == LKS_OK ? 0 : comm->size - comm->rank, status == LKS_OK};
    /* The detail of this rank's own failure outlives the collectives below. */
    verdict v = {.status = (int32_t)status};
    if (status != LKS_OK) snprintf(v.detail, sizeof v.detail, "%s", lks_last_error());

    lks_status sent = lks_comm_all_reduce(comm, votes, 2, LKS_I64, LKS_REDUCE_MAX);
    if (sent != LKS_OK) return sent;
    if (votes[0] == 0) return LKS_OK;
    int culprit = comm->size - (int)votes[0];
    bool all_failed = votes[1] == 0;
    sent = lks_comm_broadcast(comm, &v, sizeof v, culprit);
    if (sent != LKS_OK) return sent;

    lks_status agreed = (lks_status)v.status;
    if (culprit == comm->rank) return agreed;
    if (all_failed) return lks_fail(agreed, "%s", v.detail);
    return lks_fail(agreed, "rank %d: %s", culprit, v.detail);
}
