/* The variables that kernels see as constants: their threads never see them change. Apart from the
 * rest, which sees the declarations that kernels see. */
#include "indices.h"

__thread uint3 threadIdx, blockIdx;
__thread uint3 blockDim, gridDim;

namespace emu {

void set_thread_index(const uint3 &thread) {
    threadIdx = thread;
}

void set_block_index(const uint3 &block) {
    blockIdx = block;
}

void set_shape(const uint3 &grid, const uint3 &block) {
    gridDim = grid;
    blockDim = block;
}

} // namespace emu
