/* What a test asks of the emulator itself. */
#ifndef LKS_CUDA_EMU_H
#define LKS_CUDA_EMU_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From now on, launch `number` (1: the next) of this process fails, once, with
 * cudaErrorLaunchOutOfResources; 0: none does. */
void lks_cuda_emu_fail_launch(int number);

/* Queues on the stream (a cudaStream_t) work that goes on until *over, without an end of its own.
 */
void lks_cuda_emu_hang(void *stream, const bool *over);

#ifdef __cplusplus
}
#endif
#endif
