/* Look-alike of <cuda_runtime.h>: a kernel compiled with it is a host function that the emulator
 * calls once for each thread. Shared memory is thread-local storage of the host thread that runs
 * the block, because static variables with that mark can be found, by name and extent, in the
 * program's symbol table. */
#ifndef LKS_CUDA_EMU_RUNTIME_H
#define LKS_CUDA_EMU_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus

#ifndef __CUDACC__
#define __CUDACC__ 1
#endif
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 800
#endif

/* Puts the kernel's address into a section of the program, so that the emulator knows all kernels.
 */
#define __global__ __attribute__((patchable_function_entry(1, 0)))
#define __device__
#define __host__
#define __constant__
#define __shared__      __thread
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

#include "emu_device.h"
#include "emu_launch.h"
#include "emu_math.h"

#endif /* __cplusplus */

#endif
