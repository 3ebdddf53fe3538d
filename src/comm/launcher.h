/* What Open MPI's mpirun did to this rank, as far as it can be told from here. */
#ifndef LKS_COMM_LAUNCHER_H
#define LKS_COMM_LAUNCHER_H

#include <stdbool.h>
#include <sys/types.h>

/* The value of NAME in an array of "NAME=value" ended by NULL; NULL where it is not set. */
const char *lks_environment_get(char *const *environment, const char *name);

/* Did mpirun bind this rank to CPUs without having been told to? True where the environment says
 * that it bound the rank and no option or setting asked for a binding, a CPU list, a rank file, or
 * CPUs per rank. */
bool lks_launcher_bound_by_default(char *const *environment);

/* Ranks of the whole job on this host, and this rank's place among them; 0 where unknown. */
int lks_launcher_local_size(char *const *environment);
int lks_launcher_local_rank(char *const *environment);

/* How many ranks the launcher says that it has started, mpirun or a batch system's own; 0 where it
 * does not say. *out_variable: the variable that says so. */
int lks_launcher_job_size(char *const *environment, const char **out_variable);

/* The process that started this rank's job on this host (mpirun or its daemon): the nearest
 * ancestor that is not itself part of the job, as a wrapper script would be. 0 where unknown. Its
 * CPU mask is what the user, a batch system or a container left to the job. */
pid_t lks_launcher_process(char *const *environment);

#endif
