/* The emulated GPU: one of compute capability 8.0, with few multiprocessors so that grids that
 * follow their number stay small. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "queue.h"

namespace emu {

static thread_local int device_of_thread;

int current_device() {
    return device_of_thread;
}

/* CUDA_VISIBLE_DEVICES hides devices: "" or "-1" all of them. */
static int visible_devices() {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (!list) return settings().devices;
    int count = 0;
    while (*list && *list != '-') {
        char *end;
        long number = strtol(list, &end, 10);
        if (end == list || number >= settings().devices) break;
        count++;
        list = *end == ',' ? end + 1 : end;
        if (*end != ',') break;
    }
    return count;
}

static int device_count() {
    static const int count = visible_devices();
    return count;
}

bool is_device(int device) {
    return device >= 0 && device < device_count();
}

static constexpr int multiprocessors = 8;
static constexpr int max_threads = 1024;
static constexpr size_t shared_default = 48 * 1024;
static constexpr size_t shared_optin = 163 * 1024;

} // namespace emu

using namespace emu;

extern "C" {

cudaError_t cudaGetDeviceCount(int *count) {
    Api api;
    if (!count) return api.result(cudaErrorInvalidValue);
    *count = device_count();
    return api.result(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device) {
    Api api;
    if (!device) return api.result(cudaErrorInvalidValue);
    *device = device_of_thread;
    return api.result(device_count() ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    Api api;
    if (!is_device(device))
        return api.result(device_count() ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    device_of_thread = device;
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
    Api api;
    return api.result(is_device(device) ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDeviceFlags(unsigned) {
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
    Api api;
    if (!prop || !is_device(device)) return api.result(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "emulated GPU");
    prop->totalGlobalMem = settings().memory_bytes;
    prop->sharedMemPerBlock = shared_default;
    prop->regsPerBlock = prop->regsPerMultiprocessor = 65536;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = max_threads;
    prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = 0x7fffffff;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->totalConstMem = 65536;
    prop->major = 8;
    prop->multiProcessorCount = multiprocessors;
    prop->concurrentKernels = 1;
    prop->pciBusID = device + 1;
    prop->asyncEngineCount = 2;
    prop->unifiedAddressing = 1;
    prop->memoryBusWidth = 5120;
    prop->l2CacheSize = 40 << 20;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->sharedMemPerMultiprocessor = 164 * 1024;
    prop->sharedMemPerBlockOptin = shared_optin;
    prop->reservedSharedMemPerBlock = 1024;
    prop->maxBlocksPerMultiProcessor = 32;
    prop->memoryPoolsSupported = 1;
    prop->uuid.bytes[0] = (char)(device + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    Api api;
    struct cudaDeviceProp prop;
    if (!value || cudaGetDeviceProperties(&prop, device) != cudaSuccess)
        return api.result(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = prop.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)prop.sharedMemPerBlock;
        break;
    case cudaDevAttrWarpSize:
        *value = prop.warpSize;
        break;
    case cudaDevAttrClockRate:
        *value = 1410000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = prop.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrL2CacheSize:
        *value = prop.l2CacheSize;
        break;
    case cudaDevAttrPciBusId:
        *value = prop.pciBusID;
        break;
    case cudaDevAttrPciDeviceId:
        *value = prop.pciDeviceID;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)prop.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)prop.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMemoryPoolsSupported:
        *value = prop.memoryPoolsSupported;
        break;
    default:
        return api.result(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
    Api api;
    if (!id || size < 13 || !is_device(device)) return api.result(cudaErrorInvalidValue);
    snprintf(id, (size_t)size, "0000:%02X:00.0", (unsigned)(device + 1) & 0xff);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *id) {
    Api api;
    unsigned bus;
    if (!device || !id || sscanf(id, "0000:%X:00.0", &bus) != 1 || !is_device((int)bus - 1))
        return api.result(cudaErrorInvalidValue);
    *device = (int)bus - 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void) {
    return cudaDeviceSynchronize();
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* As CUDA does: 0 where there is no driver. */
cudaError_t cudaDriverGetVersion(int *version) {
    *version = device_count() ? CUDART_VERSION : 0;
    return cudaSuccess;
}

/* ---- errors ---- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &e : errors)
        if (e.error == error) return e.text;
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &e : errors)
        if (e.error == error) return e.name;
    return "unrecognized error code";
}

} // extern "C"
