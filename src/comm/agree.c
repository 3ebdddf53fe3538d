/* The verdict of all ranks, and a text for all of them. */
#include <stdio.h>
#include <stdlib.h>
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

lks_status lks_comm_share_text(lks_comm *comm, char **text) {
    bool first = comm->rank == 0;
    int64_t bytes = first ? (int64_t)strlen(*text) + 1 : 0;
    lks_status status = lks_comm_broadcast(comm, &bytes, sizeof bytes, 0);
    if (status != LKS_OK) return status;
    char *copy = first ? *text : malloc((size_t)bytes);
    status = lks_comm_agree(
        comm, copy ? LKS_OK
                   : lks_fail(LKS_ENOMEM, "a text of %lld bytes: out of memory", (long long)bytes));
    if (status == LKS_OK) status = lks_comm_broadcast(comm, copy, bytes, 0);
    if (status == LKS_OK)
        *text = copy;
    else if (!first)
        free(copy);
    return status;
}
