/* Ranges for Nsight Systems. */
#include <nvtx3/nvToolsExt.h>

#include "device/cuda/cuda.h"

static void push(const char *name) {
    (void)nvtxRangePushA(name);
}

static void pop(void) {
    (void)nvtxRangePop();
}

const lks_range_ops lks_cuda_range_ops = {.push = push, .pop = pop};
