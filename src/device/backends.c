#include "device/backend.h"
#include "device/cpu/cpu.h"
#ifdef LKS_WITH_CUDA
extern const lks_device_backend lks_cuda_backend;
#endif

const lks_device_backend *const lks_device_backends[] = {
#ifdef LKS_WITH_CUDA
    &lks_cuda_backend,
#endif
    &lks_cpu_backend,
    NULL,
};

const char *const lks_device_kinds[] = {"cpu", "cuda", NULL};
