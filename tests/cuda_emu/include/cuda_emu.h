/* What a test asks of the emulator itself. */
#ifndef LKS_CUDA_EMU_H
#define LKS_CUDA_EMU_H

#ifdef __cplusplus
extern "C" {
#endif

/* From now on, launch `number` (1: the next) of this process fails, once, with
 * cudaErrorLaunchOutOfResources; 0: none does. */
void lks_cuda_emu_fail_launch(int number);

#ifdef __cplusplus
}
#endif
#endif
