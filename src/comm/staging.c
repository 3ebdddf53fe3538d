#include "comm/staging.h"

static lks_stream *compute_stream(const lks_comm *comm) {
    return lks_device_stream(comm->device, LKS_STREAM_COMPUTE);
}

/* A copy back may still read the smaller memory. */
static lks_status grow(lks_comm *comm, lks_staging *staging, size_t bytes) {
    if (bytes <= staging->capacity) return LKS_OK;
    lks_status status = lks_stream_synchronize(compute_stream(comm));
    if (status != LKS_OK) return status;
    lks_staging_free(comm, staging);
    status = lks_device_alloc_host(comm->device, bytes, &staging->host);
    if (status == LKS_OK) staging->capacity = bytes;
    return status;
}

lks_status lks_staging_begin(lks_comm *comm, lks_staging *staging, lks_comm_call *transfer) {
    staging->device = NULL;
    if (!comm->device || !transfer->data || !lks_device_holds(comm->device, transfer->data))
        return LKS_OK;
    const size_t bytes = (size_t)transfer->count * lks_dtype_bytes(transfer->dtype);
    lks_status status = grow(comm, staging, bytes);
    if (status == LKS_OK)
        status = lks_device_copy(comm->device, compute_stream(comm), staging->host, transfer->data,
                                 bytes, LKS_COPY_TO_HOST);
    if (status == LKS_OK) status = lks_stream_synchronize(compute_stream(comm));
    if (status != LKS_OK) return status;
    staging->device = transfer->data;
    staging->bytes = bytes;
    transfer->data = staging->host;
    return LKS_OK;
}

lks_status lks_staging_end(lks_comm *comm, lks_staging *staging) {
    if (!staging->device) return LKS_OK;
    void *to = staging->device;
    staging->device = NULL;
    return lks_device_copy(comm->device, compute_stream(comm), to, staging->host, staging->bytes,
                           LKS_COPY_TO_DEVICE);
}

void lks_staging_free(lks_comm *comm, lks_staging *staging) {
    if (staging->host) lks_device_free_host(comm->device, staging->host);
    *staging = (lks_staging){0};
}
