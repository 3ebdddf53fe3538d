/* Device memory comes from one pool of this device's own: what a run gives back stays with the run.
 * Allocating and freeing wait for the device, so that memory may be used on any stream; a training
 * step does neither. */
#include "device/cuda/cuda.h"

static lks_status refuse(lks_cuda_device *device, size_t bytes) {
    uint64_t planned = 0;
    size_t unused = 0, total = 0;
    char asked[LKS_BYTES_TEXT_BYTES], in_use[LKS_BYTES_TEXT_BYTES], left[LKS_BYTES_TEXT_BYTES],
        all[LKS_BYTES_TEXT_BYTES];
    (void)cudaGetLastError();
    (void)cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrUsedMemCurrent, &planned);
    (void)cudaMemGetInfo(&unused, &total);
    return lks_fail(
        LKS_ENOMEM,
        "GPU %d (%s): out of memory: %s were asked for; this run has planned %s so far, "
        "and %s of %s are free. Lower batch_size or micro_batch_size; with several "
        "ranks, zero_stage 1 shares the optimizer's state and 2 the gradients, too",
        device->ordinal, device->name, lks_bytes_text(bytes, asked),
        lks_bytes_text(planned, in_use), lks_bytes_text(unused, left), lks_bytes_text(total, all));
}

static lks_status alloc(lks_device *base, size_t bytes, void **out) {
    lks_cuda_device *device = (lks_cuda_device *)base;
    const cudaStream_t stream = device->streams[LKS_STREAM_COMPUTE].handle;
    lks_status status = lks_cuda_use(base);
    if (status != LKS_OK) return status;
    cudaError_t error = cudaMallocFromPoolAsync(out, bytes ? bytes : 1, device->pool, stream);
    if (error == cudaErrorMemoryAllocation) return refuse(device, bytes);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    return lks_cuda_check(base, error, "cudaMallocFromPoolAsync");
}

/* No stream may still be using the memory. An error of earlier work shows again at the next call.
 */
static void release(lks_device *base, void *memory) {
    lks_cuda_device *device = (lks_cuda_device *)base;
    if (lks_cuda_use(base) != LKS_OK) return;
    for (int i = 0; i < LKS_STREAM_COUNT; i++)
        (void)cudaStreamSynchronize(device->streams[i].handle);
    (void)cudaFreeAsync(memory, device->streams[LKS_STREAM_COMPUTE].handle);
}

static lks_status alloc_host(lks_device *device, size_t bytes, void **out) {
    lks_status status = lks_cuda_use(device);
    if (status != LKS_OK) return status;
    return lks_cuda_check(device, cudaHostAlloc(out, bytes ? bytes : 1, cudaHostAllocDefault),
                          "allocating pinned host memory");
}

static void release_host(lks_device *device, void *memory) {
    if (lks_cuda_use(device) == LKS_OK) (void)cudaFreeHost(memory);
}

/* What the pool has taken from the GPU and not given out is unused, too. */
static lks_status available(lks_device *base, int64_t *out) {
    lks_cuda_device *device = (lks_cuda_device *)base;
    uint64_t reserved = 0, used = 0;
    size_t unused = 0, total = 0;
    lks_status status = lks_cuda_use(base);
    if (status == LKS_OK)
        status = lks_cuda_check(base, cudaMemGetInfo(&unused, &total), "cudaMemGetInfo");
    if (status != LKS_OK) return status;
    (void)cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrReservedMemCurrent, &reserved);
    (void)cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrUsedMemCurrent, &used);
    *out = (int64_t)(unused + (reserved - used));
    return LKS_OK;
}

static bool holds(const lks_device *device, const void *memory) {
    struct cudaPointerAttributes attributes;
    (void)device;
    if (cudaPointerGetAttributes(&attributes, memory) == cudaSuccess)
        return attributes.type == cudaMemoryTypeDevice;
    (void)cudaGetLastError();
    return false;
}

static lks_status copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                       size_t bytes, lks_copy_kind kind) {
    static const enum cudaMemcpyKind kinds[] = {
        [LKS_COPY_TO_DEVICE] = cudaMemcpyHostToDevice,
        [LKS_COPY_TO_HOST] = cudaMemcpyDeviceToHost,
        [LKS_COPY_ON_DEVICE] = cudaMemcpyDeviceToDevice,
    };
    static const char *const names[] = {
        [LKS_COPY_TO_DEVICE] = "copying to the device",
        [LKS_COPY_TO_HOST] = "copying to the host",
        [LKS_COPY_ON_DEVICE] = "copying on the device",
    };
    lks_status status = lks_cuda_use(device);
    if (status != LKS_OK) return status;
    return lks_cuda_check(device,
                          cudaMemcpyAsync(to, from, bytes, kinds[kind], lks_cuda_handle(stream)),
                          names[kind]);
}

static lks_status zero(lks_device *device, lks_stream *stream, void *memory, size_t bytes) {
    lks_status status = lks_cuda_use(device);
    if (status != LKS_OK) return status;
    return lks_cuda_check(device, cudaMemsetAsync(memory, 0, bytes, lks_cuda_handle(stream)),
                          "zeroing memory");
}

const lks_memory_ops lks_cuda_memory_ops = {
    .alloc = alloc,
    .free = release,
    .alloc_host = alloc_host,
    .free_host = release_host,
    .available = available,
    .holds = holds,
    .copy = copy,
    .zero = zero,
};

lks_status lks_cuda_memory_open(lks_cuda_device *device) {
    const struct cudaMemPoolProps props = {
        .allocType = cudaMemAllocationTypePinned,
        .location = {.type = cudaMemLocationTypeDevice, .id = device->ordinal},
    };
    uint64_t keep = UINT64_MAX;
    lks_status status = lks_cuda_check(&device->base, cudaMemPoolCreate(&device->pool, &props),
                                       "cudaMemPoolCreate");
    if (status != LKS_OK) return status;
    return lks_cuda_check(
        &device->base,
        cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &keep),
        "cudaMemPoolSetAttribute");
}

void lks_cuda_memory_close(lks_cuda_device *device) {
    if (device->pool) (void)cudaMemPoolDestroy(device->pool);
    device->pool = NULL;
}
