/* How many threads a rank may run, and where.
 *
 * Open MPI's mpirun binds each of one or two ranks to a single core unless it is told otherwise,
 * and threads of a rank then share that core while others idle. Such a default binding is replaced
 * by an equal share of the cores that mpirun itself may use. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/affinity.h"
#include "comm/backend.h"
#include "comm/launcher.h"
#include "comm/quota.h"

/* What a rank tells the others of its host. */
typedef struct offer {
    lks_cpu_mask bound;    /* what it may use now */
    lks_cpu_mask launcher; /* what its launcher may use; empty unless the binding is a default */
    lks_cpu_quota quota;
} offer;

/* What this rank's launcher may use; empty unless it bound this rank by its own default. */
static void ask_launcher(char *const *environment, lks_cpu_mask *out) {
    *out = (lks_cpu_mask){{0}};
    if (!lks_launcher_bound_by_default(environment)) return;
    pid_t launcher = lks_launcher_process(environment);
    if (launcher > 0) lks_cpu_mask_of_process(launcher, out);
}

static void describe_self(const lks_comm *comm, offer *out) {
    *out = (offer){.quota = lks_cpu_quota_own()};
    lks_cpu_mask_of_process(0, &out->bound);
    /* Cores of ranks that do not take part, a simulation's for instance, are not ours to use. */
    if (lks_launcher_local_size(environ) == comm->local_size) ask_launcher(environ, &out->launcher);
}

static lks_status exchange(const lks_comm *comm, const offer *mine, offer *all) {
    return lks_comm_check_mpi(
        MPI_Allgather(mine, sizeof *mine, MPI_BYTE, all, sizeof *all, MPI_BYTE, comm->host),
        "MPI_Allgather");
}

/* All ranks of the host were bound by default, by the same launcher. */
static bool may_rebind(const lks_comm *comm, const offer *all) {
    if (lks_cpu_mask_count(&all[0].launcher) == 0) return false;
    for (int r = 1; r < comm->local_size; r++) {
        if (!lks_cpu_mask_equal(&all[r].launcher, &all[0].launcher)) return false;
    }
    return true;
}

/* Binds this thread to its share of the launcher's CPUs. Says whether that changed anything; where
 * it cannot be done, the rank keeps what it has. */
static bool take_share(const lks_cpu_mask *launcher, const lks_cpu_place *places, int local_rank,
                       int local_size, lks_cpu_mask *bound) {
    lks_cpu_mask share, before = *bound;
    if (lks_cpu_mask_share(launcher, places, local_rank, local_size, &share) != LKS_OK ||
        !lks_cpu_mask_apply(&share))
        return false;
    lks_cpu_mask_of_process(0, bound); /* a control group may leave less than was asked for */
    return !lks_cpu_mask_equal(&before, bound);
}

static void rebind(const lks_comm *comm, const lks_cpu_place *places, offer *mine) {
    lks_cpu_mask before = mine->bound;
    if (!take_share(&mine->launcher, places, comm->local_rank, comm->local_size, &mine->bound))
        return;
    char from[LKS_CPU_TEXT_BYTES], to[LKS_CPU_TEXT_BYTES];
    lks_log(comm->logger, LKS_LOG_INFO,
            "mpirun bound this rank to CPU %s by default; it now uses CPU %s. Threads react faster "
            "when the program is started with mpirun --bind-to none",
            lks_cpu_mask_text(&before, from), lks_cpu_mask_text(&mine->bound, to));
}

bool lks_comm_bind_at_start(char *const *environment) {
    int local_size = lks_launcher_local_size(environment);
    lks_cpu_mask launcher, bound;
    ask_launcher(environment, &launcher);
    if (local_size == 0 || lks_cpu_mask_count(&launcher) == 0) return false;
    lks_cpu_place *places = malloc(LKS_CPU_COUNT * sizeof *places);
    if (!places) return false;
    lks_cpu_mask_of_process(0, &bound);
    lks_cpu_places_read(&launcher, places);
    bool changed =
        take_share(&launcher, places, lks_launcher_local_rank(environment), local_size, &bound);
    free(places);
    return changed;
}

/* Threads that a limit on CPU time leaves to each rank under it. */
static int threads_by_quota(const lks_comm *comm, const offer *all) {
    const lks_cpu_quota *mine = &all[comm->local_rank].quota;
    if (mine->group == 0) return INT32_MAX;
    int sharers = 0;
    for (int r = 0; r < comm->local_size; r++)
        sharers += all[r].quota.group == mine->group;
    double threads = floor(mine->cores / sharers + 1e-6); /* 3 cores / 3 ranks are not 0.999 */
    return threads < 1 ? 1 : threads > INT32_MAX ? INT32_MAX : (int)threads;
}

static void warn_if_crowded(const lks_comm *comm, int count) {
    if (count >= comm->local_size) return;
    lks_log(comm->logger, LKS_LOG_WARNING, "%d ranks share %d %s: more ranks than cores are slow",
            comm->local_size, count, count == 1 ? "core" : "cores");
}

static int count_host_cores(const lks_comm *comm, const lks_cpu_mask *cores) {
    lks_cpu_mask together = {{0}};
    for (int r = 0; r < comm->local_size; r++)
        lks_cpu_mask_unite(&together, &cores[r]);
    return lks_cpu_mask_count(&together);
}

static void count_share(const lks_comm *comm, const offer *all, const lks_cpu_place *places,
                        lks_cpu_mask *cores, lks_cpu_share *out) {
    for (int r = 0; r < comm->local_size; r++)
        lks_cpu_mask_cores(&all[r].bound, places, &cores[r]);
    out->host_cores = count_host_cores(comm, cores);
    warn_if_crowded(comm, out->host_cores);
    int by_cores =
        lks_threads_per_rank(cores->word, LKS_CPU_WORDS, comm->local_rank, comm->local_size);
    int by_quota = threads_by_quota(comm, all);
    out->threads = by_quota < by_cores ? by_quota : by_cores;
    lks_cpu_mask_text(&all[comm->local_rank].bound, out->cpus);
    lks_log(comm->logger, LKS_LOG_DEBUG, "%d thread%s on CPU %s, %d rank%s on this host%s",
            out->threads, lks_plural(out->threads), out->cpus, comm->local_size,
            lks_plural(comm->local_size),
            by_quota < by_cores ? " (as the control group's CPU limit allows)" : "");
}

_Static_assert((int)LKS_COMM_CPUS_BYTES == (int)LKS_CPU_TEXT_BYTES,
               "a text of one goes into the other");

lks_status lks_comm_threads(lks_comm *comm, lks_cpu_share *out) {
    *out = (lks_cpu_share){.threads = 1};
    size_t ranks = (size_t)comm->local_size;
    offer *all = malloc(ranks * sizeof *all);
    offer *mine = malloc(sizeof *mine);
    lks_cpu_mask *cores = malloc(ranks * sizeof *cores);
    lks_cpu_place *places = malloc(LKS_CPU_COUNT * sizeof *places);
    lks_status status = LKS_OK;
    if (!all || !mine || !cores || !places)
        status =
            lks_fail(LKS_ENOMEM, "out of memory for the CPU masks of %d ranks", comm->local_size);
    status = lks_comm_agree(comm, status);
    if (status != LKS_OK) goto done;

    describe_self(comm, mine);
    status = exchange(comm, mine, all);
    if (status != LKS_OK) goto done;
    lks_cpu_mask known = all[0].launcher;
    for (int r = 0; r < comm->local_size; r++)
        lks_cpu_mask_unite(&known, &all[r].bound);
    lks_cpu_places_read(&known, places);
    if (may_rebind(comm, all)) {
        rebind(comm, places, mine);
        status = exchange(comm, mine, all);
        if (status != LKS_OK) goto done;
    }
    count_share(comm, all, places, cores, out);

done:
    free(places);
    free(cores);
    free(mine);
    free(all);
    return status;
}
