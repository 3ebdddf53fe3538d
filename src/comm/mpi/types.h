/* MPI's names for element types and reductions; bfloat16, and maxima that keep a NaN, are ours. */
#ifndef LKS_COMM_MPI_TYPES_H
#define LKS_COMM_MPI_TYPES_H

#include "comm/comm.h"

enum { LKS_MPI_DTYPES = LKS_U8 + 1, LKS_MPI_OPS = LKS_REDUCE_MAX + 1 };

typedef struct lks_mpi_types {
    MPI_Datatype types[LKS_MPI_DTYPES];
    MPI_Op ops[LKS_MPI_DTYPES][LKS_MPI_OPS]; /* MPI_OP_NULL where MPI does not reduce the type */
} lks_mpi_types;

/* Local. LKS_ECOMM; what has been made then is to be freed nevertheless. */
lks_status lks_mpi_types_create(lks_mpi_types *types);
void lks_mpi_types_free(lks_mpi_types *types);

#endif
