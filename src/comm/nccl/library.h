/* NCCL, opened when ranks on several GPUs meet. Included by src/comm/nccl alone. */
#ifndef LKS_COMM_NCCL_LIBRARY_H
#define LKS_COMM_NCCL_LIBRARY_H

#include <nccl.h>

#include "base/base.h"

/* What is called of NCCL, each under its own name without the prefix. */
typedef struct lks_nccl {
    void *library;
    int version; /* of the library, as NCCL_VERSION_CODE is of the header */
    __typeof__(ncclGetVersion) *GetVersion;
    __typeof__(ncclGetErrorString) *GetErrorString;
    __typeof__(ncclGetLastError) *GetLastError;
    __typeof__(ncclGetUniqueId) *GetUniqueId;
    __typeof__(ncclCommInitRankConfig) *CommInitRankConfig;
    __typeof__(ncclCommGetAsyncError) *CommGetAsyncError;
    __typeof__(ncclCommFinalize) *CommFinalize;
    __typeof__(ncclCommDestroy) *CommDestroy;
    __typeof__(ncclCommAbort) *CommAbort;
    __typeof__(ncclAllReduce) *AllReduce;
    __typeof__(ncclReduceScatter) *ReduceScatter;
    __typeof__(ncclAllGather) *AllGather;
    __typeof__(ncclBroadcast) *Broadcast;
} lks_nccl;

/* LKS_EUNSUPPORTED where there is none, or one before 2.18. */
lks_status lks_nccl_open(lks_nccl *out);
void lks_nccl_close(lks_nccl *nccl);
/* "NCCL 2.28.9", and with what version it was built where that is another one. */
void lks_nccl_describe(const lks_nccl *nccl, char *text, size_t bytes);

#endif
