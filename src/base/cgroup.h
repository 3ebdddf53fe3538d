/* Control groups, by which containers and batch systems limit what a process may use. */
#ifndef LKS_BASE_CGROUP_H
#define LKS_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

/* Calls `visit` with the folder of every control group of a process and of their parents, versions
 * 1 and 2, that has to do with the controller, "cpu" or "memory". root: where control groups are
 * mounted, "/sys/fs/cgroup". membership: the text of /proc/PID/cgroup. */
typedef void (*lks_cgroup_fn)(void *data, const char *folder);
void lks_cgroup_visit(const char *root, const char *membership, const char *controller,
                      lks_cgroup_fn visit, void *data);

/* The same of this process. */
void lks_cgroup_visit_own(const char *controller, lks_cgroup_fn visit, void *data);

/* The begin of a small file of a folder, as a text. False where there is none or it is empty. */
bool lks_cgroup_read(const char *folder, const char *name, char *text, size_t bytes);

#endif
