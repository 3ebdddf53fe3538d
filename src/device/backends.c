#include "device/backend.h"
#include "device/cpu/cpu.h"

const lks_device_backend *const lks_device_backends[] = {
    &lks_cpu_backend,
    NULL,
};

const char *const lks_device_kinds[] = {"cpu", "cuda", NULL};
