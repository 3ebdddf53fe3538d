/* The back end on MPI: works between any hosts. */
#ifndef LKS_COMM_MPI_MPI_H
#define LKS_COMM_MPI_MPI_H

#include "comm/backend.h"

extern const lks_comm_ops lks_comm_mpi_ops;

/* From now on no MPI call carries more than so many elements (default: what MPI's int counts
 * allow), so that a test reaches the splitting with small arrays. */
void lks_comm_mpi_limit(lks_comm *comm, int elements);

#endif
