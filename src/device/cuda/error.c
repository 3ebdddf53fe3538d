#include "device/cuda/cuda.h"

/* What a user can do about an error; NULL: nothing better than its text. */
static const char *hint(cudaError_t error) {
    switch (error) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
        return "this build has no code for this GPU: configure with -DLKS_CUDA_ARCHITECTURES=";
    case cudaErrorInsufficientDriver:
        return "the driver is older than the CUDA that this build was made with: update the "
               "driver, "
               "or run on the CPU";
    case cudaErrorDevicesUnavailable:
        return "another process holds the GPU exclusively (nvidia-smi -q -d COMPUTE)";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
        return "the GPU's hardware reports a fault: leave this node out";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
        return "a kernel that was queued earlier failed; compute-sanitizer shows which";
    default:
        return NULL;
    }
}

lks_status lks_cuda_check(const lks_device *device, cudaError_t error, const char *call) {
    if (error == cudaSuccess) return LKS_OK;
    const lks_cuda_device *d = (const lks_cuda_device *)device;
    const char *what = hint(error);
    (void)cudaGetLastError(); /* the error is ours now, not the next call's */
    return lks_fail(error == cudaErrorMemoryAllocation ? LKS_ENOMEM : LKS_EDEVICE,
                    "GPU %d (%s): %s: %s (%s)%s%s", d->ordinal, d->name, call,
                    cudaGetErrorString(error), cudaGetErrorName(error), what ? "; " : "",
                    what ? what : "");
}
