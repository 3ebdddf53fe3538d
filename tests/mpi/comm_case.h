/* The back ends under test: every test runs over shared memory, over MPI, and over MPI with
 * transfers cut into pieces. */
#ifndef LKS_TESTS_COMM_CASE_H
#define LKS_TESTS_COMM_CASE_H

#include "comm/backend.h"
#include "comm/mpi/mpi.h"
#include "comm/shared/shared.h"
#include "mpi/comm_data.h"

typedef struct variant {
    const lks_comm_ops *ops;
    int limit; /* of MPI's pieces; 0: its own */
} variant;

/* The limit is below one block, so that pieces and reductions are cut differently. */
static variant shared = {&lks_comm_shared_ops, 0};
static variant mpi = {&lks_comm_mpi_ops, 0};
static variant pieces = {&lks_comm_mpi_ops, 1021};

#define ON(variant, test) \
    { #test " [" #variant "]", test, NULL, NULL, &variant }
#define ON_ALL(test) ON(shared, test), ON(mpi, test), ON(pieces, test)

/* A communicator of the test's variant over the ranks of `mpi`. Collective. */
static inline lks_comm *open_comm_on(void **state, MPI_Comm mpi) {
    const variant *v = *state;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_comm_create(mpi, NULL, NULL, &comm) == LKS_OK);
    bool selected = lks_comm_size(comm) == 1 || lks_comm_select(comm, v->ops) == LKS_OK;
    MPI_REQUIRE(selected);
    if (v->limit > 0 && lks_comm_size(comm) > 1) lks_comm_mpi_limit(comm, v->limit);
    return comm;
}

static inline lks_comm *open_comm(void **state) {
    return open_comm_on(state, MPI_COMM_WORLD);
}

#endif
