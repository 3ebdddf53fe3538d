#ifndef LKS_CUDA_EMU_INDICES_H
#define LKS_CUDA_EMU_INDICES_H

#include "vector_types.h"

namespace emu {

void set_thread_index(const uint3 &thread);
void set_block_index(const uint3 &block);
void set_shape(const uint3 &grid, const uint3 &block);

} // namespace emu

#endif
