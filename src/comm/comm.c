#include "comm/comm.h"

#include <sched.h>
#include <stdlib.h>

#include "comm/backend.h"
#include "comm/device_queue.h"
#include "comm/mpi/mpi.h"
#include "comm/reduce.h"
#include "comm/shared/shared.h"
#include "comm/staging.h"
#include "comm/watch.h"
#include "device/trace.h"

/* ---- creation ---- */

static lks_status check_mpi_state(MPI_Comm mpi_comm) {
    int initialized = 0, finalized = 0, is_inter = 0;
    MPI_Initialized(&initialized);
    if (initialized) MPI_Finalized(&finalized);
    if (!initialized || finalized)
        return lks_fail(LKS_EINVAL, "a communicator needs MPI, which is %s",
                        finalized ? "already finalized" : "not initialized: call MPI_Init_thread");
    if (mpi_comm == MPI_COMM_NULL)
        return lks_fail(LKS_EINVAL, "the communicator is MPI_COMM_NULL: a rank outside of a "
                                    "communicator takes no part in its collectives");
    lks_status status =
        lks_comm_check_mpi(MPI_Comm_test_inter(mpi_comm, &is_inter), "MPI_Comm_test_inter");
    if (status != LKS_OK) return status;
    if (is_inter)
        return lks_fail(LKS_EINVAL, "the communicator is an intercommunicator: expected an "
                                    "intracommunicator, which MPI_Intercomm_merge makes of it");
    return LKS_OK;
}

/* Agreement before there is a communicator to agree over. */
static lks_status agree_on_memory(MPI_Comm mpi, bool have_memory) {
    int have = have_memory, all_have = 0;
    lks_status status = lks_comm_check_mpi(
        MPI_Allreduce(&have, &all_have, 1, MPI_INT, MPI_LAND, mpi), "MPI_Allreduce");
    if (status != LKS_OK) return status;
    if (!all_have) return lks_fail(LKS_ENOMEM, "out of memory for a communicator");
    return LKS_OK;
}

/* Who shares this rank's host, and how many hosts there are. */
static lks_status find_hosts(lks_comm *comm) {
    lks_status status = lks_comm_check_mpi(
        MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm->host),
        "MPI_Comm_split_type");
    if (status != LKS_OK) return status;
    MPI_Comm_set_errhandler(comm->host, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm->host, &comm->local_rank);
    MPI_Comm_size(comm->host, &comm->local_size);
    int is_first = comm->local_rank == 0;
    return lks_comm_check_mpi(
        MPI_Allreduce(&is_first, &comm->host_count, 1, MPI_INT, MPI_SUM, comm->mpi),
        "MPI_Allreduce");
}

static void close_backend(lks_comm *comm) {
    while (comm->idle) {
        lks_request *request = comm->idle;
        comm->idle = request->next;
        lks_staging_free(comm, &request->staging);
        comm->ops->request_destroy(request);
    }
    if (comm->backend) comm->ops->close(comm);
    comm->ops = NULL;
}

lks_status lks_comm_select(lks_comm *comm, const lks_comm_ops *ops) {
    close_backend(comm);
    lks_status status = ops->open(comm);
    if (status != LKS_OK) return status;
    comm->ops = ops;
    lks_log(comm->logger, LKS_LOG_DEBUG, "%d ranks on %d host%s, collectives through %s",
            comm->size, comm->host_count, lks_plural(comm->host_count), ops->name);
    return LKS_OK;
}

/* Shared memory where all ranks have it in common, MPI otherwise. */
static lks_status select_best(lks_comm *comm) {
    if (comm->host_count == 1) {
        if (lks_comm_select(comm, &lks_comm_shared_ops) == LKS_OK) return LKS_OK;
        lks_log(comm->logger, LKS_LOG_WARNING,
                "ranks of this host talk through MPI, which is slower than shared memory: %s",
                lks_last_error());
    }
    return lks_comm_select(comm, &lks_comm_mpi_ops);
}

lks_status lks_comm_create(MPI_Comm mpi_comm, lks_device *device, const lks_logger *logger,
                           lks_comm **out) {
    *out = NULL;
    lks_status status = check_mpi_state(mpi_comm);
    if (status != LKS_OK) return status;
    MPI_Comm mpi = MPI_COMM_NULL;
    status = lks_comm_check_mpi(MPI_Comm_dup(mpi_comm, &mpi), "MPI_Comm_dup");
    if (status != LKS_OK) return status;
    MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);

    lks_comm *comm = calloc(1, sizeof *comm);
    status = agree_on_memory(mpi, comm != NULL);
    if (status != LKS_OK) {
        free(comm);
        MPI_Comm_free(&mpi);
        return status;
    }
    comm->mpi = mpi;
    comm->host = MPI_COMM_NULL;
    comm->device = device;
    comm->logger = logger;
    MPI_Comm_rank(mpi, &comm->rank);
    MPI_Comm_size(mpi, &comm->size);
    status = find_hosts(comm);
    comm->label_number = -1;
    if (status == LKS_OK && comm->size > 1) status = select_best(comm);
    if (status != LKS_OK) {
        lks_comm_destroy(comm);
        return status;
    }
    *out = comm;
    return LKS_OK;
}

/* An lks_device_poll_fn. A failure is told by the next call. */
static void poll(void *data) {
    (void)lks_comm_progress(data);
}

/* A host that computes itself moves transfers forward between its pieces of work; a GPU computes
 * beside it. */
lks_status lks_comm_set_device(lks_comm *comm, lks_device *device) {
    comm->device = device;
    if (comm->size == 1) return LKS_OK;
    if (lks_device_is_host(device)) lks_device_set_poll(device, poll, comm);
    lks_status status = lks_watch_create(comm);
    return status == LKS_OK ? lks_device_queue_open(comm) : status;
}

void lks_comm_imagine(lks_comm *comm, int size) {
    comm->size = size;
}

void lks_comm_set_logger(lks_comm *comm, const lks_logger *logger) {
    comm->logger = logger;
}

void lks_comm_set_guard(lks_comm *comm, lks_guard *guard) {
    comm->guard = guard;
}

lks_status lks_comm_check_mpi(int code, const char *function) {
    if (code == MPI_SUCCESS) return LKS_OK;
    char reason[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (MPI_Error_string(code, reason, &length) != MPI_SUCCESS || length == 0)
        return lks_fail(LKS_ECOMM, "%s failed with MPI error code %d", function, code);
    return lks_fail(LKS_ECOMM, "%s failed: %s", function, reason);
}

const char *lks_comm_backend_name(const lks_comm *comm) {
    return comm->ops ? comm->ops->name : "nothing";
}

int lks_comm_rank(const lks_comm *comm) {
    return comm->rank;
}

int lks_comm_size(const lks_comm *comm) {
    return comm->size;
}

int lks_comm_local_rank(const lks_comm *comm) {
    return comm->local_rank;
}

int lks_comm_local_size(const lks_comm *comm) {
    return comm->local_size;
}

int lks_comm_host_count(const lks_comm *comm) {
    return comm->host_count;
}

const char *lks_comm_device_path(const lks_comm *comm) {
    return comm->queue ? comm->device_path : lks_comm_backend_name(comm);
}

bool lks_comm_is_on_device(const lks_comm *comm) {
    return comm->queue != NULL;
}

int64_t lks_comm_recorded(const lks_comm *comm) {
    return comm->queue ? lks_device_queue_recorded(comm) : 0;
}

void lks_comm_replayed(lks_comm *comm, int64_t collectives) {
    if (comm->queue) lks_device_queue_replayed(comm, collectives);
    lks_guard_arrive(comm->guard, collectives);
}

size_t lks_comm_reduction_bytes(const lks_comm *comm, int64_t count, lks_dtype dtype) {
    const bool on_host = !comm->device || lks_device_is_host(comm->device);
    const bool imagined = comm->size > 1 && !comm->ops;
    if (comm->size == 1 || comm->queue || (imagined && !on_host)) return 0;
    const lks_comm_ops *ops = imagined ? &lks_comm_mpi_ops : comm->ops;
    return (ops->reduction_bytes ? ops->reduction_bytes(comm, count, dtype) : 0) +
           (on_host ? 0 : (size_t)count * lks_dtype_bytes(dtype));
}

void lks_comm_set_label(lks_comm *comm, const char *text, int64_t number) {
    comm->label = text;
    comm->label_number = number;
}

MPI_Comm lks_comm_mpi(const lks_comm *comm) {
    return comm->mpi;
}

/* ---- requests ---- */

static lks_status take_request(lks_comm *comm, lks_request **out) {
    lks_request *request = comm->idle;
    if (request) {
        comm->idle = request->next;
    } else {
        lks_status status = comm->ops->request_create(comm, &request);
        if (status != LKS_OK) return status;
    }
    request->next = NULL;
    request->done = false;
    *(comm->active ? &comm->active_last->next : &comm->active) = request;
    comm->active_last = request;
    *out = request;
    return LKS_OK;
}

static void give_back_request(lks_comm *comm, lks_request *request) {
    lks_request *before = NULL;
    for (lks_request *r = comm->active; r != request; r = r->next)
        before = r;
    *(before ? &before->next : &comm->active) = request->next;
    if (comm->active_last == request) comm->active_last = before;
    request->next = comm->idle;
    comm->idle = request;
}

/* One that is not done has failed, and MPI may still use its memory: it stays among the active ones
 * and is left to the end of the process. */
static void end_request(lks_comm *comm, lks_request *request) {
    if (request->done || !comm->ops->abandon) give_back_request(comm, request);
}

/* The others are in this collective: a rank that cannot take part strands them, whatever the
 * reason. */
static lks_status strand(lks_status status) {
    if (status == LKS_OK || status == LKS_ECOMM) return status;
    return lks_fail_in(LKS_ECOMM, "this rank cannot take part in a collective");
}

/* A rank that has failed in a collective is in step with no other one any more: whatever is under
 * way is given up, before its memory can be freed. */
static lks_status note_failure(lks_comm *comm, lks_status status) {
    if (status == LKS_OK || comm->failure.status != LKS_OK) return status;
    lks_failure_note(&comm->failure, status);
    if (comm->ops && comm->ops->abandon) comm->ops->abandon(comm);
    return status;
}

/* What keeps every collective from going on. */
static lks_status look_for_failure(lks_comm *comm) {
    if (comm->failure.status != LKS_OK) return lks_failure_tell(&comm->failure);
    return note_failure(comm, lks_watch_status(comm));
}

/* ---- in the device's trace, where it has one: the time that a rank spends here and does not
 * compute, and the time that transfers are under way ---- */

static void enter(const lks_comm *comm, const char *what) {
    lks_trace_enter(comm->device, LKS_PHASE_COMM, LKS_TRACE_NO_LAYER, what);
}

static void leave(const lks_comm *comm) {
    lks_trace_leave(comm->device);
}

static void end_traced(const lks_comm *comm, lks_request *request) {
    lks_trace_end_transfer(comm->device, request->traced);
    request->traced = 0;
}

/* Of the transfers that are done, whoever waits for them. */
static void end_traced_done(const lks_comm *comm) {
    if (!lks_device_is_traced(comm->device)) return;
    for (lks_request *r = comm->active; r; r = r->next)
        if (r->done) end_traced(comm, r);
}

/* ---- starting, moving on, waiting ---- */

static lks_status begin(lks_comm *comm, const lks_comm_call *transfer, lks_request **out) {
    lks_status status = look_for_failure(comm);
    if (status != LKS_OK) return status;
    if (lks_device_queue_takes(comm, transfer)) return lks_device_queue_start(comm, transfer, out);
    lks_request *request;
    status = take_request(comm, &request);
    if (status != LKS_OK) return note_failure(comm, strand(status));
    request->traced =
        lks_trace_begin_transfer(comm->device, (int)transfer->kind,
                                 transfer->count * (int64_t)lks_dtype_bytes(transfer->dtype));
    lks_comm_call staged = *transfer;
    status = lks_staging_begin(comm, &request->staging, &staged);
    if (status == LKS_OK) status = comm->ops->start(comm, request, &staged);
    end_traced_done(comm);
    if (status != LKS_OK) {
        status = note_failure(comm, strand(status));
        end_request(comm, request);
        return status;
    }
    *out = request;
    return LKS_OK;
}

static lks_status start(lks_comm *comm, const lks_comm_call *transfer, lks_request **out) {
    *out = NULL;
    if (!comm->ops) return LKS_OK;
    lks_guard_arrive(comm->guard, 1);
    enter(comm, lks_collective_name(transfer->kind));
    lks_status status = begin(comm, transfer, out);
    leave(comm);
    lks_comm_set_label(comm, NULL, -1);
    return status;
}

static lks_status move(lks_comm *comm, bool *moved) {
    *moved = false;
    lks_status status = comm->ops->progress(comm, moved);
    if (*moved) end_traced_done(comm);
    return note_failure(comm, status);
}

lks_status lks_comm_progress(lks_comm *comm) {
    bool moved;
    if (!comm->active || comm->failure.status != LKS_OK) return lks_failure_tell(&comm->failure);
    enter(comm, "progress");
    lks_status status = move(comm, &moved);
    leave(comm);
    return status;
}

static lks_status wait_for(lks_comm *comm, lks_request *request) {
    /* Polls without a system call bridge the usual skew between ranks; afterwards the core is
     * offered to others, because ranks may be more than cores. */
    enum { BUSY_POLLS = 1000 };
    lks_status status = look_for_failure(comm);
    for (int idle_polls = 0; status == LKS_OK && !request->done;) {
        bool moved;
        status = move(comm, &moved);
        idle_polls = moved ? 0 : idle_polls + 1;
        if (idle_polls == BUSY_POLLS) lks_guard_wait(comm->guard, true);
        if (idle_polls <= BUSY_POLLS || status != LKS_OK) continue;
        sched_yield();
        status = note_failure(comm, lks_watch_look(comm, 0));
    }
    lks_guard_wait(comm->guard, false);
    if (status == LKS_OK)
        status = note_failure(comm, strand(lks_staging_end(comm, &request->staging)));
    end_traced(comm, request);
    end_request(comm, request);
    return status;
}

lks_status lks_comm_give_up(lks_comm *comm) {
    return note_failure(comm, comm->watch ? lks_watch_fail(comm)
                                          : lks_fail(LKS_ECOMM, "%s", lks_last_error()));
}

lks_status lks_comm_wait(lks_comm *comm, lks_request *request) {
    if (!request) return LKS_OK;
    enter(comm, "wait");
    lks_status status =
        request->on_device ? lks_device_queue_wait(comm, request) : wait_for(comm, request);
    leave(comm);
    return status;
}

void lks_comm_destroy(lks_comm *comm) {
    if (!comm) return;
    for (lks_request *r = comm->active, *next; r; r = next) {
        next = r->next;
        (void)lks_comm_wait(comm, r);
    }
    if (comm->device) lks_device_set_poll(comm->device, NULL, NULL);
    lks_device_queue_close(comm);
    const bool broken = lks_watch_status(comm) != LKS_OK;
    lks_watch_destroy(comm);
    if (!broken) close_backend(comm);
    if (comm->host != MPI_COMM_NULL) MPI_Comm_free(&comm->host);
    MPI_Comm_free(&comm->mpi);
    free(comm);
}

/* ---- collectives ---- */

static lks_status check_data(const void *data, int64_t count) {
    if (count < 0) return lks_fail(LKS_EINVAL, "a collective of %lld elements", (long long)count);
    if (count > 0 && !data) return lks_fail(LKS_EINVAL, "a collective without data");
    return LKS_OK;
}

static lks_status check_reduction(lks_dtype dtype, lks_reduce_op op) {
    if (!lks_reduce_supports(dtype))
        return lks_fail(LKS_EINVAL,
                        "a reduction of %s: expected float32, float64, int64 or bfloat16",
                        lks_dtype_name(dtype));
    if (op != LKS_REDUCE_SUM && op != LKS_REDUCE_MAX)
        return lks_fail(LKS_EINVAL, "unknown reduction %d", (int)op);
    return LKS_OK;
}

static lks_status sum_counts(const lks_comm *comm, const int64_t *counts, int64_t *total) {
    *total = 0;
    for (int r = 0; r < comm->size; r++) {
        if (counts[r] < 0 || *total > INT64_MAX - counts[r])
            return lks_fail(LKS_EINVAL, "a collective with %lld elements for rank %d",
                            (long long)counts[r], r);
        *total += counts[r];
    }
    return LKS_OK;
}

lks_status lks_comm_all_reduce_start(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                                     lks_reduce_op op, lks_request **out) {
    *out = NULL;
    lks_status status = check_data(data, count);
    if (status == LKS_OK) status = check_reduction(dtype, op);
    if (status != LKS_OK || count == 0) return status;
    return start(
        comm,
        &(lks_comm_call){
            .kind = LKS_ALL_REDUCE, .data = data, .count = count, .dtype = dtype, .op = op},
        out);
}

lks_status lks_comm_reduce_scatter_start(lks_comm *comm, void *data, const int64_t *counts,
                                         lks_dtype dtype, lks_reduce_op op, lks_request **out) {
    *out = NULL;
    int64_t total;
    lks_status status = sum_counts(comm, counts, &total);
    if (status == LKS_OK) status = check_data(data, total);
    if (status == LKS_OK) status = check_reduction(dtype, op);
    if (status != LKS_OK || total == 0) return status;
    return start(comm,
                 &(lks_comm_call){.kind = LKS_REDUCE_SCATTER,
                                  .data = data,
                                  .count = total,
                                  .counts = counts,
                                  .dtype = dtype,
                                  .op = op},
                 out);
}

lks_status lks_comm_all_gather_start(lks_comm *comm, void *data, const int64_t *counts,
                                     lks_dtype dtype, lks_request **out) {
    *out = NULL;
    int64_t total;
    lks_status status = sum_counts(comm, counts, &total);
    if (status == LKS_OK) status = check_data(data, total);
    if (status != LKS_OK || total == 0) return status;
    return start(
        comm,
        &(lks_comm_call){
            .kind = LKS_ALL_GATHER, .data = data, .count = total, .counts = counts, .dtype = dtype},
        out);
}

static lks_status wait_started(lks_comm *comm, lks_status started, lks_request *request) {
    return started == LKS_OK ? lks_comm_wait(comm, request) : started;
}

lks_status lks_comm_all_reduce(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                               lks_reduce_op op) {
    lks_request *request;
    lks_status started = lks_comm_all_reduce_start(comm, data, count, dtype, op, &request);
    return wait_started(comm, started, request);
}

lks_status lks_comm_all_gather(lks_comm *comm, void *data, const int64_t *counts, lks_dtype dtype) {
    lks_request *request;
    lks_status started = lks_comm_all_gather_start(comm, data, counts, dtype, &request);
    return wait_started(comm, started, request);
}

lks_status lks_comm_broadcast(lks_comm *comm, void *data, int64_t bytes, int root) {
    lks_status status = check_data(data, bytes);
    if (status != LKS_OK) return status;
    if (root < 0 || root >= comm->size)
        return lks_fail(LKS_EINVAL, "a broadcast from rank %d of %d ranks", root, comm->size);
    if (bytes == 0) return LKS_OK;
    lks_request *request;
    status = start(
        comm,
        &(lks_comm_call){
            .kind = LKS_BROADCAST, .data = data, .count = bytes, .dtype = LKS_U8, .root = root},
        &request);
    return wait_started(comm, status, request);
}

lks_status lks_comm_barrier(lks_comm *comm) {
    lks_request *request;
    lks_status status = start(comm, &(lks_comm_call){.kind = LKS_BARRIER}, &request);
    return wait_started(comm, status, request);
}
