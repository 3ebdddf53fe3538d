/* Switches between stacks. */
#ifndef LKS_CUDA_EMU_SWITCH_H
#define LKS_CUDA_EMU_SWITCH_H

/* Saves the caller's registers on its stack and where that is in *from; goes on where `to` was
 * saved. */
extern "C" void lks_emu_switch(void **from, void *to);

/* What lks_emu_switch can go to: calls start() on an empty stack that ends at `top`. */
void *lks_emu_prepare(void *top, void (*start)());

#endif
