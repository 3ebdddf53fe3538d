/* The context: which ranks train together, on which device, and where messages go. */
#ifndef LOCKSTEP_CONTEXT_H
#define LOCKSTEP_CONTEXT_H

#include <mpi.h>
#include <stdint.h>

#include "lockstep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lks_context lks_context;

/* The guard, a thread of every rank, watches over the others: when a rank has died, is stopped or
 * unreachable, or nothing gets any further, the ranks that are left end themselves. A host
 * program's own job is not Lockstep's to end, so there is no guard unless it is asked for, on all
 * ranks alike. */
typedef struct lks_guard_config {
    double timeout; /* seconds; rank 0's counts; 0: no guard. A rank may be silent for half of it,
                       and nothing get any further for all of it and the longest pause of training
                       so far; ten times that at start-up, where checkpoints are read or written,
                       and between a program's calls. */
    /* Called in the guard's thread: to tell who is missing (on one rank, or on one of each host
     * where rank 0 is lost), and then to end the process, on every rank. */
    void (*tell)(void *data, const char *message);
    void (*end)(void *data);
    void *data;
} lks_guard_config;

typedef struct lks_context_config {
    const char *device; /* "auto", "cpu", "cuda" */
    int threads;        /* CPU threads of this rank; 0: its share of the cores it is bound to */
    int verbosity; /* -1 errors only, 0 warnings too, 1 start-up table and epochs, 2 debug; written
                      by rank 0 to stderr */
    const char *precision; /* "fp32", "tf32" or "bf16" (docs/config.md); NULL: fp32 */
    lks_guard_config guard;
} lks_context_config;
#define LKS_CONTEXT_CONFIG_DEFAULT \
    { .device = "auto", .threads = 0, .verbosity = 1 }

/* Opens a context over the ranks of `comm`, which is duplicated and stays the caller's. MPI is
 * initialised by the caller, with MPI_THREAD_FUNNELED at least. config NULL: the default.
 * Collective over `comm`. On success *out is owned by the caller. Returns LKS_EINVAL, LKS_ENOMEM,
 * LKS_ECOMM, LKS_EDEVICE, LKS_EUNSUPPORTED, the same on every rank. */
lks_status lks_context_create(MPI_Comm comm, const lks_context_config *config, lks_context **out);

/* Ends a context; everything made from it is ended before. NULL is legal. Collective. */
void lks_context_destroy(lks_context *context);

int lks_context_rank(const lks_context *context);
int lks_context_size(const lks_context *context);

#ifdef __cplusplus
}
#endif
#endif
