/* The part of src/comm that reading and saving need, for one rank without MPI: a fuzzer starts many
 * times and never communicates. */
#include "comm/comm.h"

lks_status lks_comm_agree(lks_comm *comm, lks_status status) {
    (void)comm;
    return status;
}

int lks_comm_rank(const lks_comm *comm) {
    (void)comm;
    return 0;
}

int lks_comm_size(const lks_comm *comm) {
    (void)comm;
    return 1;
}

MPI_Comm lks_comm_mpi(const lks_comm *comm) {
    (void)comm;
    return MPI_COMM_SELF;
}

lks_status lks_comm_all_reduce(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                               lks_reduce_op op) {
    (void)comm, (void)data, (void)count, (void)dtype, (void)op;
    return LKS_OK;
}

lks_status lks_comm_all_reduce_start(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                                     lks_reduce_op op, lks_request **out) {
    *out = NULL;
    return lks_comm_all_reduce(comm, data, count, dtype, op);
}

lks_status lks_comm_wait(lks_comm *comm, lks_request *request) {
    (void)comm, (void)request;
    return LKS_OK;
}

lks_status lks_comm_broadcast(lks_comm *comm, void *data, int64_t bytes, int root) {
    (void)comm, (void)data, (void)bytes, (void)root;
    return LKS_OK;
}

lks_status lks_comm_barrier(lks_comm *comm) {
    (void)comm;
    return LKS_OK;
}

lks_status lks_comm_write_file(lks_comm *comm, const char *path, const lks_file_part *parts,
                               int64_t count) {
    (void)comm, (void)parts, (void)count;
    return lks_fail(LKS_EUNSUPPORTED, "%s: collective writes take MPI", path);
}
