#include "comm/nccl/library.h"

#include <stdio.h>

enum { OLDEST = NCCL_VERSION(2, 18, 0) };

static lks_status check_version(lks_nccl *nccl) {
    if (nccl->GetVersion(&nccl->version) != ncclSuccess)
        return lks_fail(LKS_EUNSUPPORTED, "NCCL does not tell its version");
    if (nccl->version >= OLDEST) return LKS_OK;
    char text[64];
    lks_nccl_describe(nccl, text, sizeof text);
    return lks_fail(LKS_EUNSUPPORTED, "%s is too old: 2.18 or later is needed", text);
}

lks_status lks_nccl_open(lks_nccl *out) {
    *out = (lks_nccl){0};
    const lks_library_function functions[] = {
        {"ncclGetVersion", &out->GetVersion},
        {"ncclGetErrorString", &out->GetErrorString},
        {"ncclGetLastError", &out->GetLastError},
        {"ncclGetUniqueId", &out->GetUniqueId},
        {"ncclCommInitRankConfig", &out->CommInitRankConfig},
        {"ncclCommGetAsyncError", &out->CommGetAsyncError},
        {"ncclCommFinalize", &out->CommFinalize},
        {"ncclCommDestroy", &out->CommDestroy},
        {"ncclCommAbort", &out->CommAbort},
        {"ncclAllReduce", &out->AllReduce},
        {"ncclReduceScatter", &out->ReduceScatter},
        {"ncclAllGather", &out->AllGather},
        {"ncclBroadcast", &out->Broadcast},
    };
    lks_status status = lks_library_open("libnccl.so.2", LKS_NCCL_LIBRARY_DIR, functions,
                                         sizeof functions / sizeof *functions, &out->library);
    if (status == LKS_OK) status = check_version(out);
    if (status != LKS_OK) lks_nccl_close(out);
    return status;
}

void lks_nccl_close(lks_nccl *nccl) {
    lks_library_close(nccl->library);
    *nccl = (lks_nccl){0};
}

/* NCCL_VERSION_CODE: major, minor and patch as decimal digits, two each but for the first. */
void lks_nccl_describe(const lks_nccl *nccl, char *text, size_t bytes) {
    const int loaded = nccl->version;
    const int length =
        snprintf(text, bytes, "NCCL %d.%d.%d", loaded / 10000, loaded / 100 % 100, loaded % 100);
    if (loaded != NCCL_VERSION_CODE && (size_t)length < bytes)
        snprintf(text + length, bytes - (size_t)length, " (built with %d.%d.%d)", NCCL_MAJOR,
                 NCCL_MINOR, NCCL_PATCH);
}
