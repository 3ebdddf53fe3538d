#include "switch.h"

#include <cstdint>

#if defined(__x86_64__)

asm(R"(
    .text
    .globl lks_emu_switch
    .type lks_emu_switch, @function
lks_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size lks_emu_switch, .-lks_emu_switch
)");

void *lks_emu_prepare(void *top, void (*start)()) {
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = 0; /* start() returns to nowhere; keeps the stack aligned as a call does */
    *--sp = (uintptr_t)start; /* what lks_emu_switch returns to */
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    return sp;
}

#elif defined(__aarch64__)

asm(R"(
    .text
    .globl lks_emu_switch
    .type lks_emu_switch, %function
lks_emu_switch:
    stp x29, x30, [sp, #-160]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    ret
    .size lks_emu_switch, .-lks_emu_switch
)");

void *lks_emu_prepare(void *top, void (*start)()) {
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - 20;
    for (int i = 0; i < 20; i++)
        sp[i] = 0;
    sp[1] = (uintptr_t)start; /* x30 */
    return sp;
}

#else
#error "the emulator knows how to switch stacks on x86-64 and aarch64 only"
#endif
