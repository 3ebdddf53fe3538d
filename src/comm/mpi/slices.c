#include "comm/mpi/slices.h"

#include <limits.h>
#include <stdlib.h>

#include "comm/reduce.h"

/* MPI promises tags up to 32767; so many reductions may be under way before one repeats. */
enum { TAG_PAIRS = 16384 };

/* ---- places ---- */

static int64_t part_count(const lks_mpi_slices *slices, int rank) {
    return slices->begin[rank + 1] - slices->begin[rank];
}

static char *part_at(const lks_mpi_slices *slices, int rank) {
    return (char *)slices->call.data +
           (size_t)slices->begin[rank] * lks_dtype_bytes(slices->call.dtype);
}

/* Where `rank`'s slice of this rank's part arrives: one behind the other, without this rank's. */
static char *slice_at(const lks_comm *comm, const lks_mpi_slices *slices, int rank) {
    const int64_t index = rank < comm->rank ? rank : rank - 1;
    return slices->others +
           (size_t)(index * part_count(slices, comm->rank)) * lks_dtype_bytes(slices->call.dtype);
}

static void lay_out(const lks_comm *comm, lks_mpi_slices *slices, const int64_t *counts) {
    int64_t end = 0;
    for (int r = 0; r < comm->size; r++) {
        slices->begin[r] = end;
        if (slices->call.kind == LKS_ALL_REDUCE)
            lks_split(slices->call.count, r, comm->size, &slices->begin[r], &end);
        else
            end += counts[r];
    }
    slices->begin[comm->size] = end;
}

/* ---- memory, kept for the next one ---- */

static lks_status reserve_ranks(const lks_comm *comm, lks_mpi_slices *slices) {
    const size_t size = (size_t)comm->size;
    if (!slices->begin) slices->begin = calloc(size + 1, sizeof *slices->begin);
    if (!slices->sources) slices->sources = calloc(size, sizeof *slices->sources);
    return slices->begin && slices->sources
               ? LKS_OK
               : lks_fail(LKS_ENOMEM, "out of memory for a collective over %d ranks", comm->size);
}

static lks_status reserve_slices(const lks_comm *comm, lks_mpi_slices *slices) {
    const size_t bytes = (size_t)(comm->size - 1) * (size_t)part_count(slices, comm->rank) *
                         lks_dtype_bytes(slices->call.dtype);
    if (bytes <= slices->others_bytes) return LKS_OK;
    free(slices->others);
    slices->others = malloc(bytes);
    slices->others_bytes = slices->others ? bytes : 0;
    return slices->others
               ? LKS_OK
               : lks_fail(LKS_ENOMEM, "out of memory for %zu bytes of the other ranks", bytes);
}

/* Messages of one direction and their answers: this rank's part from or to each other rank, and
 * theirs. */
static lks_status reserve_messages(const lks_comm *comm, lks_mpi_slices *slices) {
    int64_t count = 0;
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank)
            count += part_count(slices, r) / slices->limit + 1 +
                     part_count(slices, comm->rank) / slices->limit + 1;
    if (count <= slices->message_capacity) return LKS_OK;
    MPI_Request *messages = NULL;
    if (count <= INT_MAX)
        messages = realloc(slices->messages, (size_t)count * sizeof *slices->messages);
    if (!messages)
        return lks_fail(LKS_ENOMEM, "out of memory for a collective of %lld messages",
                        (long long)count);
    slices->messages = messages;
    slices->message_capacity = (int)count;
    return LKS_OK;
}

void lks_mpi_slices_free(lks_mpi_slices *slices) {
    free(slices->begin);
    free(slices->sources);
    free(slices->others);
    free(slices->messages);
    *slices = (lks_mpi_slices){0};
}

/* ---- messages ---- */

/* `count` elements to or from another rank; messages of one tag between two ranks keep their order.
 */
static lks_status post(const lks_comm *comm, lks_mpi_slices *slices, bool sends, char *data,
                       int64_t count, int rank) {
    const size_t element = lks_dtype_bytes(slices->call.dtype);
    const int tag = slices->tag + slices->is_gather;
    lks_status status = LKS_OK;
    for (int64_t at = 0; at < count && status == LKS_OK; at += slices->limit) {
        const int n = count - at < slices->limit ? (int)(count - at) : slices->limit;
        char *piece = data + (size_t)at * element;
        MPI_Request *request = &slices->messages[slices->message_count++];
        *request = MPI_REQUEST_NULL;
        status = sends ? lks_comm_check_mpi(
                             MPI_Isend(piece, n, slices->type, rank, tag, comm->mpi, request),
                             "MPI_Isend")
                       : lks_comm_check_mpi(
                             MPI_Irecv(piece, n, slices->type, rank, tag, comm->mpi, request),
                             "MPI_Irecv");
    }
    return status;
}

/* The neighbours first, so that not all ranks begin with the same one. */
static lks_status exchange(const lks_comm *comm, lks_mpi_slices *slices) {
    const int64_t own = part_count(slices, comm->rank);
    lks_status status = LKS_OK;
    slices->message_count = 0;
    for (int i = 1; i < comm->size && status == LKS_OK; i++) {
        const int from = (comm->rank + comm->size - i) % comm->size;
        status =
            slices->is_gather
                ? post(comm, slices, false, part_at(slices, from), part_count(slices, from), from)
                : post(comm, slices, false, slice_at(comm, slices, from), own, from);
    }
    for (int i = 1; i < comm->size && status == LKS_OK; i++) {
        const int to = (comm->rank + i) % comm->size;
        status = slices->is_gather
                     ? post(comm, slices, true, part_at(slices, comm->rank), own, to)
                     : post(comm, slices, true, part_at(slices, to), part_count(slices, to), to);
    }
    return status;
}

lks_status lks_mpi_slices_start(lks_comm *comm, lks_mpi_slices *slices, const lks_comm_call *call,
                                MPI_Datatype type, int limit, uint64_t sequence) {
    slices->call = *call;
    slices->type = type;
    slices->limit = limit;
    slices->tag = (int)(sequence % TAG_PAIRS) * 2;
    slices->is_gather = false;
    lks_status status = reserve_ranks(comm, slices);
    if (status != LKS_OK) return status;
    lay_out(comm, slices, call->counts);
    status = reserve_slices(comm, slices);
    if (status == LKS_OK) status = reserve_messages(comm, slices);
    return status == LKS_OK ? exchange(comm, slices) : status;
}

static void add_up(const lks_comm *comm, const lks_mpi_slices *slices) {
    void *own = part_at(slices, comm->rank);
    for (int r = 0; r < comm->size; r++)
        slices->sources[r] = r == comm->rank ? own : slice_at(comm, slices, r);
    lks_reduce(slices->sources, comm->size, part_count(slices, comm->rank), slices->call.dtype,
               slices->call.op, own);
}

lks_status lks_mpi_slices_progress(lks_comm *comm, lks_mpi_slices *slices, bool *done) {
    int arrived = 0;
    *done = false;
    lks_status status = lks_comm_check_mpi(
        MPI_Testall(slices->message_count, slices->messages, &arrived, MPI_STATUSES_IGNORE),
        "MPI_Testall of a collective");
    if (status != LKS_OK || !arrived) return status;
    *done = slices->is_gather || slices->call.kind == LKS_REDUCE_SCATTER;
    if (!slices->is_gather) add_up(comm, slices);
    if (*done) return LKS_OK;
    slices->is_gather = true;
    return exchange(comm, slices);
}
