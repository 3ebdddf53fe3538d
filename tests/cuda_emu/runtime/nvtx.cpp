#include "nvtx3/nvToolsExt.h"

#include "emu.h"

static thread_local int depth;

int nvtxRangePushA(const char *text) {
    if (!text) emu::fail("nvtxRangePush without a text");
    return depth++;
}

int nvtxRangePop(void) {
    if (depth == 0) emu::fail("nvtxRangePop without an open range");
    return --depth;
}

void nvtxMarkA(const char *) {
}
