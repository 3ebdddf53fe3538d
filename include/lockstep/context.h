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

typedef struct lks_context_config {
    const char *device; /* "auto", "cpu", "cuda" */
    int threads;        /* CPU threads of this rank; 0: its share of the cores it is bound to */
    int verbosity; /* -1 errors only, 0 warnings too, 1 start-up table and epochs, 2 debug; written
                      by rank 0 to stderr */
} lks_context_config;
#define LKS_CONTEXT_CONFIG_DEFAULT \
    { "auto", 0, 1 }

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
