/* Sets of CPUs (hardware threads), and how the machine groups them into cores. */
#ifndef LKS_COMM_AFFINITY_H
#define LKS_COMM_AFFINITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

enum { LKS_CPU_WORDS = 128, LKS_CPU_COUNT = LKS_CPU_WORDS * 64 };

/* Bit c % 64 of word c / 64: CPU c, by the operating system's numbers. */
typedef struct lks_cpu_mask {
    uint64_t word[LKS_CPU_WORDS];
} lks_cpu_mask;

/* core: the lowest CPU of the same physical core; package: the socket. */
typedef struct lks_cpu_place {
    int core, package;
} lks_cpu_place;

void lks_cpu_mask_add(lks_cpu_mask *mask, int cpu);
bool lks_cpu_mask_has(const lks_cpu_mask *mask, int cpu);
int lks_cpu_mask_count(const lks_cpu_mask *mask);
void lks_cpu_mask_unite(lks_cpu_mask *mask, const lks_cpu_mask *other);
bool lks_cpu_mask_equal(const lks_cpu_mask *a, const lks_cpu_mask *b);

enum { LKS_CPU_TEXT_BYTES = 128 };
/* "0-3,8,10-11" into text[LKS_CPU_TEXT_BYTES], "..." at the end where it does not fit; returns
 * text. */
const char *lks_cpu_mask_text(const lks_cpu_mask *mask, char *text);

/* The mask of a process; 0: of this thread. Where the system does not tell, all online CPUs. */
void lks_cpu_mask_of_process(pid_t process, lks_cpu_mask *out);
/* Binds this thread, and the threads that it creates from now on. */
bool lks_cpu_mask_apply(const lks_cpu_mask *mask);

/* Places of the CPUs in `mask`, from the kernel; a CPU that it does not describe is a core by
 * itself. places: [LKS_CPU_COUNT] */
void lks_cpu_places_read(const lks_cpu_mask *mask, lks_cpu_place *places);

/* The cores that a mask reaches, each as its lowest CPU, so that the hardware threads of a core
 * count once. */
void lks_cpu_mask_cores(const lks_cpu_mask *mask, const lks_cpu_place *places, lks_cpu_mask *out);

/* Part `part` of `parts` equal shares of whole cores, neighbours on one package as far as that
 * goes; all of them where there are fewer cores than parts. LKS_ENOMEM. */
lks_status lks_cpu_mask_share(const lks_cpu_mask *mask, const lks_cpu_place *places, int part,
                              int parts, lks_cpu_mask *out);

#endif
