/* How much memory this host has left. */
#ifndef LKS_BASE_MEMORY_H
#define LKS_BASE_MEMORY_H

#include <stdint.h>

/* Bytes that this process, and others beside it, can still take without the system swapping or
 * ending one of them: what the kernel thinks is available, or what the control groups of a
 * container or batch job leave of their limits, whichever is less. INT64_MAX: unknown. */
int64_t lks_memory_available(void);

/* The same from texts and places: /proc/meminfo's, and as lks_cgroup_visit's. */
int64_t lks_memory_available_in(const char *meminfo, const char *root, const char *membership);

#endif
