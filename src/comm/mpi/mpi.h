/* The back end on MPI's own collectives: works between any hosts. */
#ifndef LKS_COMM_MPI_MPI_H
#define LKS_COMM_MPI_MPI_H

#include "comm/backend.h"

extern const lks_comm_ops lks_comm_mpi_ops;

/* Splits every later collective into pieces of at most this many elements (default: the most that
 * MPI's int counts allow, per part), so that a test reaches the splitting with small arrays. */
void lks_comm_mpi_limit(lks_comm *comm, int elements);

#endif
