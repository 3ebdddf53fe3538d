/* The limit on CPU time that a container or a batch system puts on this process by a control group:
 * a process may see 64 cores and be allowed the time of 2. */
#ifndef LKS_COMM_QUOTA_H
#define LKS_COMM_QUOTA_H

#include <stdint.h>

typedef struct lks_cpu_quota {
    double cores;   /* CPU time per time; infinite where there is no limit */
    uint64_t group; /* equal for processes that share the limit; 0 where there is none */
} lks_cpu_quota;

/* The lowest limit among the control groups of a process and their parents, versions 1 and 2.
 * root: where control groups are mounted, "/sys/fs/cgroup". membership: the text of
 * /proc/PID/cgroup. */
lks_cpu_quota lks_cpu_quota_find(const char *root, const char *membership);

/* The same of this process. */
lks_cpu_quota lks_cpu_quota_own(void);

#endif
