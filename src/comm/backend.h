/* What a communicator's back end provides; included by src/comm alone.
 *
 * comm.c validates a call, describes it as an lks_comm_call, takes a request from its pool and
 * hands both to the back end. Blocking collectives are a start and a wait, so that whatever was
 * started before moves forward meanwhile. */
#ifndef LKS_COMM_BACKEND_H
#define LKS_COMM_BACKEND_H

#include "comm/comm.h"
#include "comm/guard.h"

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
    bool on_device; /* of device_queue.c, whose requests have their own lists */
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
    /* After a failure: lets go of the memory of all active requests and sets `done` of those where
     * that succeeds, in a second at most. No other call follows for them but request_destroy where
     * it did. Local. NULL: nobody touches that memory but `progress`. */
    void (*abandon)(lks_comm *comm);
    /* As lks_comm_reduction_bytes, of host memory, with comm->size alone. NULL: none. */
    size_t (*reduction_bytes)(const lks_comm *comm, int64_t count, lks_dtype dtype);
} lks_comm_ops;

/* What moves device memory from GPU to GPU, in the order of a stream. */
typedef struct lks_comm_device_ops {
    /* The library's name and version into text[bytes], without a communicator. LKS_EUNSUPPORTED. */
    lks_status (*describe)(char *text, size_t bytes);
    /* Makes comm->device_state, over comm's ranks, and writes its name and version into
     * comm->device_path. Collective; the same status on every rank, NULL in comm->device_state on
     * failure. */
    lks_status (*open)(lks_comm *comm);
    /* Frees comm->device_state; nothing is queued. Collective, but not after stop. */
    void (*close)(lks_comm *comm);
    /* Can it make this call, with the results that comm.h promises? The same on every rank. */
    bool (*takes)(const lks_comm *comm, const lks_comm_call *call);
    /* Queues the call on `stream`. The host does not wait for other ranks' devices. LKS_ECOMM. */
    lks_status (*enqueue)(lks_comm *comm, const lks_comm_call *call, lks_stream *stream);
    /* LKS_ECOMM where something that was queued has failed; *elsewhere: by what another rank did.
     * Does not wait. */
    lks_status (*check)(lks_comm *comm, bool *elsewhere);
    /* Ends what is queued, unfinished; nothing but close is called after it. Local. */
    void (*stop)(lks_comm *comm);
} lks_comm_device_ops;

/* Those of this build, the best first, ended by NULL (backends.c, the only file that knows which
 * ones it has). */
extern const lks_comm_device_ops *const lks_comm_device_backends[];

enum { LKS_COMM_PATH_BYTES = 96 };

struct lks_comm {
    MPI_Comm mpi;  /* the duplicate */
    MPI_Comm host; /* the ranks of this host, in the order of `mpi` */
    int rank, size;
    int local_rank, local_size, host_count;
    lks_device *device;
    const lks_logger *logger;
    lks_guard *guard;        /* borrowed; NULL: none */
    const lks_comm_ops *ops; /* NULL where there is one rank: nothing is ever moved */
    void *backend;           /* the back end's own state */
    lks_request *active, *active_last;
    lks_request *idle;
    const lks_comm_device_ops *device_ops; /* NULL: device memory goes through the host */
    void *device_state;
    char device_path[LKS_COMM_PATH_BYTES];
    struct lks_device_queue *queue; /* device_queue.c's; with device_ops */
    struct lks_watch *watch;        /* watch.c's; NULL where size is 1 */
    lks_failure failure;            /* after which nothing goes on; polls may have found it */
    const char *label;              /* of the collectives that start now */
    int64_t label_number;
};

/* Replaces the back end; comm keeps none if the new one cannot be opened. No request is active.
 * Collective. */
lks_status lks_comm_select(lks_comm *comm, const lks_comm_ops *ops);

/* The parts of a call's data: rank r's is elements [begin[r], begin[r + 1]). An all-reduce is split
 * evenly; a broadcast is its root's part; a barrier has none. begin: [size + 1]. */
void lks_comm_lay_out(const lks_comm *comm, const lks_comm_call *call, int64_t *begin);

/* LKS_OK, or LKS_ECOMM naming the MPI function and MPI's reason. */
lks_status lks_comm_check_mpi(int code, const char *function);

#endif
