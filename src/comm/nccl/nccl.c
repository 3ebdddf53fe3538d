/* Collectives from GPU to GPU by NCCL. The communicator is non-blocking: a call that would wait for
 * other ranks says so, and is asked again until it is done, so that a rank that waits can be told
 * of a failure. MPI carries the unique id, before, and notices of failures; it never waits for NCCL
 * and NCCL never for it. */
#include <cuda_runtime_api.h>
#include <sched.h>
#include <stdlib.h>

#include "comm/nccl/library.h"
#include "comm/watch.h"

typedef struct nccl_state {
    lks_nccl nccl;
    ncclComm_t handle; /* NULL: aborted, or not there yet */
} nccl_state;

/* A failed call: what NCCL says of it. */
static lks_status fail(const nccl_state *state, ncclResult_t result, const char *call) {
    const char *detail = state->nccl.GetLastError(state->handle);
    return lks_fail(LKS_ECOMM, "%s: %s%s%s", call, state->nccl.GetErrorString(result),
                    detail && detail[0] ? ": " : "", detail ? detail : "");
}

/* ---- waiting for a call that is in progress ---- */

typedef lks_status (*look_fn)(lks_comm *comm, double waited);

/* Until what `call` has begun is done. Other ranks may be needed for it. */
static lks_status settle(lks_comm *comm, ncclResult_t result, const char *call, look_fn look) {
    const nccl_state *state = comm->device_state;
    const double began = lks_clock_seconds();
    while (result == ncclInProgress) {
        ncclResult_t now;
        result = state->nccl.CommGetAsyncError(state->handle, &now);
        if (result == ncclSuccess) result = now;
        lks_status status = look(comm, lks_clock_seconds() - began);
        if (status != LKS_OK) return status;
        if (result == ncclInProgress) sched_yield();
    }
    return result == ncclSuccess ? LKS_OK : fail(state, result, call);
}

/* While ranks meet, or part, no collective is under way that a failure could leave unfinished: a
 * rank that waits too long gives up by itself, and all agree afterwards. */
static lks_status look_at_clock(lks_comm *comm, double waited) {
    enum { SECONDS = 60 };
    (void)comm;
    return waited < SECONDS ? LKS_OK
                            : lks_fail(LKS_ECOMM, "other ranks have not come in %d s", SECONDS);
}

/* ---- opening ---- */

static lks_status meet(lks_comm *comm, ncclUniqueId id) {
    nccl_state *state = comm->device_state;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    int ordinal;
    config.blocking = 0;
    if (cudaDeviceGetByPCIBusId(&ordinal, lks_device_place(comm->device)) != cudaSuccess ||
        cudaSetDevice(ordinal) != cudaSuccess)
        return lks_fail(LKS_EDEVICE, "GPU %s cannot be found", lks_device_place(comm->device));
    ncclResult_t result =
        state->nccl.CommInitRankConfig(&state->handle, comm->size, id, comm->rank, &config);
    lks_status status = settle(comm, result, "ncclCommInitRankConfig", look_at_clock);
    /* Where NCCL does not start, there is still the way through the host. */
    return status == LKS_OK ? LKS_OK : lks_fail_in(LKS_EUNSUPPORTED, "NCCL does not start");
}

static void stop_nccl(lks_comm *comm) {
    nccl_state *state = comm->device_state;
    if (!state->handle) return;
    (void)state->nccl.CommAbort(state->handle);
    state->handle = NULL;
    state->nccl.library = NULL; /* stays open: threads of it may still end */
}

static void free_state(lks_comm *comm) {
    nccl_state *state = comm->device_state;
    comm->device_state = NULL;
    if (state) lks_nccl_close(&state->nccl);
    free(state);
}

static lks_status prepare(lks_comm *comm, ncclUniqueId *id) {
    nccl_state *state = calloc(1, sizeof *state);
    if (!state) return lks_fail(LKS_ENOMEM, "out of memory for NCCL");
    comm->device_state = state;
    lks_status status = lks_nccl_open(&state->nccl);
    if (status != LKS_OK || comm->rank != 0) return status;
    ncclResult_t result = state->nccl.GetUniqueId(id);
    if (result == ncclSuccess) return LKS_OK;
    return lks_fail(LKS_EUNSUPPORTED, "ncclGetUniqueId: %s", state->nccl.GetErrorString(result));
}

static lks_status open_nccl(lks_comm *comm) {
    ncclUniqueId id = {{0}};
    lks_status status = lks_comm_agree(comm, prepare(comm, &id));
    if (status == LKS_OK) status = lks_comm_broadcast(comm, &id, sizeof id, 0);
    if (status == LKS_OK) status = lks_comm_agree(comm, meet(comm, id));
    if (status != LKS_OK) {
        if (comm->device_state) stop_nccl(comm);
        free_state(comm);
        return status;
    }
    const nccl_state *state = comm->device_state;
    lks_nccl_describe(&state->nccl, comm->device_path, sizeof comm->device_path);
    return LKS_OK;
}

static void close_nccl(lks_comm *comm) {
    nccl_state *state = comm->device_state;
    if (state->handle) {
        ncclResult_t result = state->nccl.CommFinalize(state->handle);
        if (settle(comm, result, "ncclCommFinalize", look_at_clock) == LKS_OK)
            (void)state->nccl.CommDestroy(state->handle);
        else
            stop_nccl(comm);
    }
    free_state(comm);
}

/* ---- collectives ---- */

static ncclDataType_t type_of(lks_dtype dtype) {
    static const ncclDataType_t types[] = {
        [LKS_F32] = ncclFloat32, [LKS_F64] = ncclFloat64, [LKS_BF16] = ncclBfloat16,
        [LKS_I32] = ncclInt32,   [LKS_I64] = ncclInt64,   [LKS_U8] = ncclUint8,
    };
    return types[dtype];
}

static bool parts_are_equal(const lks_comm *comm, const int64_t *counts) {
    for (int r = 1; r < comm->size; r++)
        if (counts[r] != counts[0]) return false;
    return true;
}

/* NCCL's parts are equal, and its maxima of floating-point numbers lose a NaN. */
static bool takes(const lks_comm *comm, const lks_comm_call *call) {
    const bool reduces = call->kind == LKS_ALL_REDUCE || call->kind == LKS_REDUCE_SCATTER;
    const bool has_parts = call->kind == LKS_REDUCE_SCATTER || call->kind == LKS_ALL_GATHER;
    if (call->kind == LKS_BARRIER) return false;
    if (reduces && call->op == LKS_REDUCE_MAX && call->dtype != LKS_I64) return false;
    return !has_parts || parts_are_equal(comm, call->counts);
}

static lks_status enqueue(lks_comm *comm, const lks_comm_call *call, lks_stream *on) {
    const nccl_state *state = comm->device_state;
    const lks_nccl *nccl = &state->nccl;
    const cudaStream_t stream = lks_stream_handle(on);
    const ncclRedOp_t op = call->op == LKS_REDUCE_SUM ? ncclSum : ncclMax;
    const ncclDataType_t type = type_of(call->dtype);
    ncclComm_t handle = state->handle;
    const size_t count = (size_t)call->count, part = count / (size_t)comm->size;
    void *data = call->data;
    void *own = (char *)data + (size_t)comm->rank * part * lks_dtype_bytes(call->dtype);
    switch (call->kind) {
    case LKS_ALL_REDUCE:
        return settle(comm, nccl->AllReduce(data, data, count, type, op, handle, stream),
                      "ncclAllReduce", lks_watch_look);
    case LKS_REDUCE_SCATTER:
        return settle(comm, nccl->ReduceScatter(data, own, part, type, op, handle, stream),
                      "ncclReduceScatter", lks_watch_look);
    case LKS_ALL_GATHER:
        return settle(comm, nccl->AllGather(own, data, part, type, handle, stream), "ncclAllGather",
                      lks_watch_look);
    case LKS_BROADCAST:
        return settle(comm, nccl->Broadcast(data, data, count, type, call->root, handle, stream),
                      "ncclBroadcast", lks_watch_look);
    case LKS_BARRIER:
        break;
    }
    return lks_fail(LKS_EINTERNAL, "NCCL was given a collective of kind %d", (int)call->kind);
}

static lks_status check(lks_comm *comm, bool *elsewhere) {
    const nccl_state *state = comm->device_state;
    *elsewhere = false;
    if (!state->handle) return LKS_OK;
    ncclResult_t now;
    ncclResult_t result = state->nccl.CommGetAsyncError(state->handle, &now);
    if (result == ncclSuccess) result = now;
    *elsewhere = result == ncclRemoteError;
    return result == ncclSuccess || result == ncclInProgress ? LKS_OK : fail(state, result, "NCCL");
}

static lks_status describe(char *text, size_t bytes) {
    lks_nccl nccl;
    lks_status status = lks_nccl_open(&nccl);
    if (status != LKS_OK) return status;
    lks_nccl_describe(&nccl, text, bytes);
    lks_nccl_close(&nccl);
    return LKS_OK;
}

const lks_comm_device_ops lks_comm_nccl_ops = {
    .describe = describe,
    .open = open_nccl,
    .close = close_nccl,
    .takes = takes,
    .enqueue = enqueue,
    .check = check,
    .stop = stop_nccl,
};
