/* Libraries that Lockstep opens by name when it needs them: in the emulated build it gets the
 * look-alikes. Put in front of a source that calls dlopen. */
#ifndef LKS_CUDA_EMU_LIBRARIES_H
#define LKS_CUDA_EMU_LIBRARIES_H

#define dlopen  lks_emu_dlopen
#define dlsym   lks_emu_dlsym
#define dlclose lks_emu_dlclose
#define dlerror lks_emu_dlerror

#endif
