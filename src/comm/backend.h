/* What a communicator's back end provides; included by src/comm alone.
 *
 * comm.c validates a call, describes it as an lks_comm_call, takes a request from its pool and
 * hands both to the back end. Blocking collectives are a start and a wait, so that whatever was
 * started before moves forward meanwhile. */
#ifndef LKS_COMM_BACKEND_H
#define LKS_COMM_BACKEND_H

#include "comm/comm.h"

/* One collective, as the caller described it. */
typedef struct lks_comm_call {
    lks_collective kind;
    void *data;
    int64_t count;         /* elements of data, over all parts */
    const int64_t *counts; /* [size] elements of each rank's part: REDUCE_SCATTER, ALL_GATHER;
                              valid during start only */
    lks_dtype dtype;
    lks_reduce_op op; /* ALL_REDUCE, REDUCE_SCATTER */
    int root;         /* BROADCAST */
} lks_comm_call;

/* Host memory that stands in for a device's while ranks exchange it; kept for the next transfer. */
typedef struct lks_staging {
    void *host;
    size_t capacity; /* bytes */
    void *device;    /* where the result goes; NULL: the data are host memory themselves */
    size_t bytes;
} lks_staging;

/* A back end's request embeds this as its first member. */
struct lks_request {
    lks_request *next; /* in comm->active (in the order of the starts) or comm->idle */
    bool done;
    int64_t traced; /* the number of its transfer in the device's trace; 0: none, or ended */
    lks_staging staging;
};

typedef struct lks_comm_ops {
    const char *name;
    /* Makes comm->backend, over comm's ranks. Collective; the same status on every rank, NULL in
     * comm->backend on failure. */
    lks_status (*open)(lks_comm *comm);
    /* Frees comm->backend; no request is active. Collective. */
    void (*close)(lks_comm *comm);
    /* A request for the pool; reused for many transfers. */
    lks_status (*request_create)(lks_comm *comm, lks_request **out);
    void (*request_destroy)(lks_request *request);
    /* Begins a transfer. The request is already the last of comm->active. */
    lks_status (*start)(lks_comm *comm, lks_request *request, const lks_comm_call *transfer);
    /* Moves the active requests as far as they go without waiting and sets `done` where one ends.
     * *moved: false if nothing moved, so that a caller who waits may yield the core. */
    lks_status (*progress)(lks_comm *comm, bool *moved);
} lks_comm_ops;

struct lks_comm {
    MPI_Comm mpi;  /* the duplicate */
    MPI_Comm host; /* the ranks of this host, in the order of `mpi` */
    int rank, size;
    int local_rank, local_size, host_count;
    lks_device *device;
    const lks_logger *logger;
    const lks_comm_ops *ops; /* NULL where size is 1: nothing is ever moved */
    void *backend;           /* the back end's own state */
    lks_request *active, *active_last;
    lks_request *idle;
};

/* Replaces the back end; comm keeps none if the new one cannot be opened. No request is active.
 * Collective. */
lks_status lks_comm_select(lks_comm *comm, const lks_comm_ops *ops);

/* LKS_OK, or LKS_ECOMM naming the MPI function and MPI's reason. */
lks_status lks_comm_check_mpi(int code, const char *function);

#endif
