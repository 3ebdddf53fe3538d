/* The guard over a job's ranks: a thread of each tells the others that it lives and how far its
 * rank has come, and ends the job when one is missing. The rank's own thread may hang anywhere, in
 * MPI too, so the guard talks over connections of its own, all of them to rank 0's guard.
 *
 * A second interface of src/comm, beside comm.h. NULL is a legal guard: nothing is watched. */
#ifndef LKS_COMM_GUARD_H
#define LKS_COMM_GUARD_H

#include "comm/comm.h"

typedef struct lks_guard lks_guard;

/* What a rank is busy with, for the message and for how long it may take. */
typedef enum lks_guard_phase {
    LKS_GUARD_START, /* and whatever a program does between its calls */
    LKS_GUARD_TRAIN,
    LKS_GUARD_VALIDATE,
    LKS_GUARD_SAVE,
    LKS_GUARD_RESTORE,
    LKS_GUARD_COUNT
} lks_guard_phase;

/* Connects the ranks of `comm` and starts their guards, where config->timeout is not 0 (else *out
 * is NULL). Ranks that cannot be connected are watched each for itself, with a warning. comm,
 * logger: borrowed for the guard's life. Collective. LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_guard_create(lks_comm *comm, const lks_guard_config *config,
                            const lks_logger *logger, lks_guard **out);
/* Collective. */
void lks_guard_destroy(lks_guard *guard);
/* From now on the guard is told what the rank does in `comm`, too; borrowed, NULL: none. Those of
 * one guard are used in the same order on every rank. */
void lks_comm_set_guard(lks_comm *comm, lks_guard *guard);
/* Instead of destroying, for a rank that is about to end the job and says why itself: the others
 * end without a word. Local. */
void lks_guard_abandon(lks_guard *guard);

/* ---- what the rank's own thread tells its guard: a few stores each ---- */

/* Returns the phase before, to go back to. */
lks_guard_phase lks_guard_enter(lks_guard *guard, lks_guard_phase phase);
/* That it has finished a piece of work; so many steps of the run are done. */
void lks_guard_tick(lks_guard *guard);
void lks_guard_step(lks_guard *guard, int64_t steps_done);
/* For comm: that it has begun so many collectives; that it waits for others, or no longer does. */
void lks_guard_arrive(lks_guard *guard, int64_t collectives);
void lks_guard_wait(lks_guard *guard, bool waits);

#endif
