/* Reductions whose sum is rounded once, over MPI: each rank gets all ranks' slices of its part,
 * adds them up by lks_reduce in the order of the ranks, and sends the result to all. MPI's own
 * reductions add two numbers at a time, and would round as often. Moves as many bytes as they do,
 * in messages to every other rank. Included by src/comm/mpi alone. */
#ifndef LKS_COMM_MPI_SLICES_H
#define LKS_COMM_MPI_SLICES_H

#include "comm/backend.h"

/* One such reduction; zeroed before the first use, and used again for many. */
typedef struct lks_mpi_slices {
    lks_comm_call call;
    MPI_Datatype type;
    int limit;      /* elements that one message may carry */
    int tag;        /* and the next one, for the sums */
    bool is_gather; /* the sums are on their way */
    int64_t *begin; /* [size + 1] rank r's part is elements [begin[r], begin[r + 1]) */
    char *others;   /* [others_bytes] the other ranks' slices of this rank's part */
    size_t others_bytes;
    const void **sources; /* [size] */
    MPI_Request *messages;
    int message_count, message_capacity;
} lks_mpi_slices;

/* call: an all-reduce or a reduce-scatter. sequence: how many of these were started before, the
 * same on every rank. LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_mpi_slices_start(lks_comm *comm, lks_mpi_slices *slices, const lks_comm_call *call,
                                MPI_Datatype type, int limit, uint64_t sequence);
/* Moves on as far as that goes without waiting. LKS_ECOMM. */
lks_status lks_mpi_slices_progress(lks_comm *comm, lks_mpi_slices *slices, bool *done);
void lks_mpi_slices_free(lks_mpi_slices *slices);

#endif
