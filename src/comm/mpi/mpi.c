/* Between hosts. Small reductions, broadcasts and barriers are MPI's own collectives. All others
 * are exchanged part by part, each rank with every other: each reduces its own part of the data,
 * in the order of the ranks, and gathers those of the others. That moves as little as possible,
 * both ways at a time, where Open MPI's non-blocking collectives in place bring everything to rank
 * 0 and back; and it goes on by itself for longer, because what is sent in short messages needs no
 * answer: the system's buffers carry them while this rank computes and does not call MPI. */
#include "comm/mpi/mpi.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#include "comm/mpi/types.h"
#include "comm/reduce.h"

enum {
    SMALL_BYTES = 16 * 1024, /* up to here a tree's few rounds are faster than many messages */
    /* Of a message, where those of a part are not too many: less than Open MPI's 64 KiB of TCP, and
     * what it puts in front, so that it leaves without asking the receiver. */
    MESSAGE_BYTES = 60 * 1024,
    MESSAGES = 256 /* of a part, so that what MPI keeps in copies stays small */
};

typedef enum stage {
    WHOLE,   /* a collective of MPI's */
    SCATTER, /* others' summands of this rank's part come, this rank's of theirs go */
    GATHER   /* others' parts come, this rank's goes */
} stage;

typedef enum direction { RECEIVE, SEND } direction;

typedef struct mpi_backend {
    int limit; /* elements that one MPI call may carry */
    int tag;   /* of the last exchange: the same on all ranks, which start them in one order */
    lks_mpi_types mpi;
} mpi_backend;

typedef struct mpi_request {
    lks_request base;
    lks_comm_call call;
    stage stage;
    int tag;
    MPI_Request *pieces; /* [piece_count] one MPI call each; of them, `left` are not done */
    int *finished;       /* scratch for MPI_Testsome */
    int piece_count, piece_capacity, left;
    int receive_count; /* the first pieces are receives, which MPI lets go of when asked */
    int64_t *begin;    /* [size + 1] rank r's part is elements [begin[r], begin[r + 1]) */
    char *summands;    /* of this rank's part, from every other rank in order */
    size_t summands_capacity;
    const void **sources; /* [size] */
} mpi_request;

/* ---- requests ---- */

static void request_destroy(lks_request *base) {
    mpi_request *request = (mpi_request *)base;
    free(request->pieces);
    free(request->finished);
    free(request->begin);
    free(request->summands);
    free(request->sources);
    free(request);
}

static lks_status request_create(lks_comm *comm, lks_request **out) {
    const size_t size = (size_t)comm->size;
    mpi_request *request = calloc(1, sizeof *request);
    if (request) {
        request->begin = calloc(size + 1, sizeof *request->begin);
        request->sources = calloc(size, sizeof *request->sources);
        if (request->begin && request->sources) {
            *out = &request->base;
            return LKS_OK;
        }
        request_destroy(&request->base);
    }
    return lks_fail(LKS_ENOMEM, "out of memory for a collective over %d ranks", comm->size);
}

static lks_status reserve_pieces(mpi_request *request, int64_t count) {
    if (count <= request->piece_capacity) return LKS_OK;
    MPI_Request *pieces = NULL;
    int *finished = NULL;
    if (count <= INT_MAX) {
        pieces = malloc((size_t)count * sizeof *pieces);
        finished = malloc((size_t)count * sizeof *finished);
    }
    if (!pieces || !finished) {
        free(pieces);
        free(finished);
        return lks_fail(LKS_ENOMEM, "out of memory for a collective of %lld pieces",
                        (long long)count);
    }
    free(request->pieces);
    free(request->finished);
    request->pieces = pieces;
    request->finished = finished;
    request->piece_capacity = (int)count;
    return LKS_OK;
}

static lks_status reserve_summands(mpi_request *request, size_t bytes) {
    if (bytes <= request->summands_capacity) return LKS_OK;
    free(request->summands);
    request->summands_capacity = 0;
    request->summands = malloc(bytes);
    if (!request->summands)
        return lks_fail(LKS_ENOMEM, "out of memory for a reduction of %zu bytes", bytes);
    request->summands_capacity = bytes;
    return LKS_OK;
}

/* For one MPI call; reserved before. */
static MPI_Request *next_piece(mpi_request *request) {
    MPI_Request *piece = &request->pieces[request->piece_count++];
    request->left++;
    *piece = MPI_REQUEST_NULL;
    return piece;
}

/* ---- parts and messages ---- */

static int64_t part_count(const mpi_request *request, int rank) {
    return request->begin[rank + 1] - request->begin[rank];
}

static char *part_of(const mpi_request *request, int rank) {
    return (char *)request->call.data +
           (size_t)request->begin[rank] * lks_dtype_bytes(request->call.dtype);
}

/* Another rank's summands of this rank's part. */
static char *summands_of(const lks_comm *comm, const mpi_request *request, int rank) {
    const size_t place = (size_t)(rank < comm->rank ? rank : rank - 1);
    return request->summands +
           place * (size_t)part_count(request, comm->rank) * lks_dtype_bytes(request->call.dtype);
}

static int64_t divide_up(int64_t count, int64_t by) {
    return count / by + (count % by != 0);
}

/* Elements of a message of a part of `count` elements; sender and receiver cut alike. */
static int64_t message_count(const mpi_backend *backend, const mpi_request *request,
                             int64_t count) {
    const int64_t usual = MESSAGE_BYTES / (int64_t)lks_dtype_bytes(request->call.dtype);
    const int64_t least = divide_up(count, MESSAGES);
    const int64_t wanted = least > usual ? least : usual;
    return wanted < backend->limit ? wanted : backend->limit;
}

static int64_t messages_of(const mpi_backend *backend, const mpi_request *request, int rank) {
    const int64_t count = part_count(request, rank);
    return divide_up(count, message_count(backend, request, count));
}

/* A part's `count` elements at `data`, from another rank or to it. */
static lks_status pass_part(lks_comm *comm, mpi_request *request, direction direction, char *data,
                            int64_t count, int other) {
    const mpi_backend *backend = comm->backend;
    const MPI_Datatype type = backend->mpi.types[request->call.dtype];
    const int64_t most = message_count(backend, request, count);
    const size_t bytes = lks_dtype_bytes(request->call.dtype);
    lks_status status = LKS_OK;
    for (int64_t at = 0; at < count && status == LKS_OK; at += most) {
        char *message = data + (size_t)at * bytes;
        const int length = (int)(count - at < most ? count - at : most);
        MPI_Request *piece = next_piece(request);
        if (direction == RECEIVE)
            status = lks_comm_check_mpi(
                MPI_Irecv(message, length, type, other, request->tag, comm->mpi, piece),
                "MPI_Irecv of a collective");
        else
            status = lks_comm_check_mpi(
                MPI_Isend(message, length, type, other, request->tag, comm->mpi, piece),
                "MPI_Isend of a collective");
    }
    return status;
}

/* ---- the exchange ---- */

/* With every other rank, each beginning with its neighbour, so that no rank gets all messages at
 * once. Receives first: what finds one needs no copy. */
static lks_status exchange(lks_comm *comm, mpi_request *request, stage stage) {
    const int rank = comm->rank, size = comm->size;
    lks_status status = LKS_OK;
    request->stage = stage;
    request->piece_count = request->receive_count = 0;
    for (int i = 1; i < size && status == LKS_OK; i++) {
        const int from = (rank - i + size) % size, part = stage == SCATTER ? rank : from;
        char *place = stage == SCATTER ? summands_of(comm, request, from) : part_of(request, from);
        status = pass_part(comm, request, RECEIVE, place, part_count(request, part), from);
        request->receive_count = request->piece_count;
    }
    for (int i = 1; i < size && status == LKS_OK; i++) {
        const int to = (rank + i) % size, part = stage == SCATTER ? to : rank;
        status =
            pass_part(comm, request, SEND, part_of(request, part), part_count(request, part), to);
    }
    return status;
}

/* Of this rank's part, from all others. */
static size_t summands_bytes(const lks_comm *comm, int64_t part_count, lks_dtype dtype) {
    return (size_t)(comm->size - 1) * (size_t)part_count * lks_dtype_bytes(dtype);
}

static size_t reduction_bytes(const lks_comm *comm, int64_t count, lks_dtype dtype) {
    return summands_bytes(comm, divide_up(count, comm->size), dtype);
}

/* All memory is reserved before the first message, so that nothing but MPI can fail later. */
static lks_status start_exchange(lks_comm *comm, mpi_request *request) {
    mpi_backend *backend = comm->backend;
    const lks_comm_call *call = &request->call;
    lks_comm_lay_out(comm, call, request->begin);
    int64_t others = 0;
    for (int r = 0; r < comm->size; r++)
        others += r == comm->rank ? 0 : messages_of(backend, request, r);
    const int64_t own = (comm->size - 1) * messages_of(backend, request, comm->rank);
    lks_status status = reserve_pieces(request, own + others);
    if (status == LKS_OK && call->kind != LKS_ALL_GATHER)
        status = reserve_summands(
            request, summands_bytes(comm, part_count(request, comm->rank), call->dtype));
    if (status != LKS_OK) return status;
    /* MPI promises tags up to 32767. An exchange has one tag for both stages, whose messages
     * between two ranks come in their order. */
    backend->tag = (backend->tag + 1) % 32768;
    request->tag = backend->tag;
    return exchange(comm, request, call->kind == LKS_ALL_GATHER ? GATHER : SCATTER);
}

static void reduce_own(const lks_comm *comm, mpi_request *request) {
    char *own = part_of(request, comm->rank);
    const int64_t count = part_count(request, comm->rank);
    for (int r = 0; r < comm->size; r++)
        request->sources[r] = r == comm->rank ? own : summands_of(comm, request, r);
    if (count > 0)
        lks_reduce(request->sources, comm->size, count, request->call.dtype, request->call.op, own);
}

/* ---- MPI's own collectives ---- */

static lks_status start_broadcast(lks_comm *comm, mpi_request *request) {
    const mpi_backend *backend = comm->backend;
    const lks_comm_call *call = &request->call;
    const size_t bytes = lks_dtype_bytes(call->dtype);
    lks_status status = reserve_pieces(request, divide_up(call->count, backend->limit));
    for (int64_t at = 0; at < call->count && status == LKS_OK; at += backend->limit) {
        const int64_t left = call->count - at;
        status = lks_comm_check_mpi(MPI_Ibcast((char *)call->data + (size_t)at * bytes,
                                               (int)(left < backend->limit ? left : backend->limit),
                                               backend->mpi.types[call->dtype], call->root,
                                               comm->mpi, next_piece(request)),
                                    "MPI_Ibcast");
    }
    return status;
}

/* Also of a reduce-scatter, whose sums then have the bits that an all-reduce gives. */
static lks_status start_small_reduction(lks_comm *comm, mpi_request *request) {
    const lks_mpi_types *mpi = &((const mpi_backend *)comm->backend)->mpi;
    const lks_comm_call *call = &request->call;
    lks_status status = reserve_pieces(request, 1);
    if (status != LKS_OK) return status;
    return lks_comm_check_mpi(
        MPI_Iallreduce(MPI_IN_PLACE, call->data, (int)call->count, mpi->types[call->dtype],
                       mpi->ops[call->dtype][call->op], comm->mpi, next_piece(request)),
        "MPI_Iallreduce");
}

/* MPI's reductions add two numbers at a time, and would round a sum of bfloat16 as often. */
static bool is_small(const mpi_backend *backend, const lks_comm_call *call) {
    return call->dtype != LKS_BF16 && call->count <= backend->limit &&
           (size_t)call->count * lks_dtype_bytes(call->dtype) <= SMALL_BYTES;
}

static lks_status start(lks_comm *comm, lks_request *base, const lks_comm_call *call) {
    mpi_request *request = (mpi_request *)base;
    request->call = *call;
    request->stage = WHOLE;
    request->piece_count = request->receive_count = request->left = 0;
    switch (call->kind) {
    case LKS_ALL_REDUCE:
    case LKS_REDUCE_SCATTER:
        return is_small(comm->backend, call) ? start_small_reduction(comm, request)
                                             : start_exchange(comm, request);
    case LKS_ALL_GATHER:
        return start_exchange(comm, request);
    case LKS_BROADCAST:
        return start_broadcast(comm, request);
    case LKS_BARRIER:
        break;
    }
    lks_status status = reserve_pieces(request, 1);
    if (status != LKS_OK) return status;
    return lks_comm_check_mpi(MPI_Ibarrier(comm->mpi, next_piece(request)), "MPI_Ibarrier");
}

/* ---- moving on ---- */

/* Of a request whose pieces are all done. */
static lks_status end_stage(lks_comm *comm, mpi_request *request) {
    if (request->stage == SCATTER) {
        reduce_own(comm, request);
        if (request->call.kind == LKS_ALL_REDUCE) return exchange(comm, request, GATHER);
    }
    request->base.done = true;
    return LKS_OK;
}

static lks_status advance(lks_comm *comm, mpi_request *request, bool *moved) {
    int count = 0;
    lks_status status = LKS_OK;
    if (request->left > 0)
        status = lks_comm_check_mpi(MPI_Testsome(request->piece_count, request->pieces, &count,
                                                 request->finished, MPI_STATUSES_IGNORE),
                                    "MPI_Testsome of a collective");
    if (status != LKS_OK) return status;
    request->left -= count;
    if (count > 0) *moved = true;
    if (request->left > 0) return LKS_OK;
    *moved = true;
    return end_stage(comm, request);
}

/* As long as something moves: one call of MPI takes little of what has come. A call that finds
 * nothing done may have moved what the next one finds. */
static lks_status progress(lks_comm *comm, bool *moved) {
    lks_status status = LKS_OK;
    *moved = false;
    for (int idle = 0; idle < 2 && status == LKS_OK; idle++) {
        bool some = false;
        for (lks_request *base = comm->active; base && status == LKS_OK; base = base->next)
            if (!base->done) status = advance(comm, (mpi_request *)base, &some);
        if (!some) continue;
        *moved = true;
        idle = -1;
    }
    return status;
}

/* ---- giving up ---- */

/* MPI's own collectives cannot be cancelled, nor sends with every MPI. */
static void cancel_receives(mpi_request *request) {
    for (int i = 0; i < request->receive_count; i++)
        if (request->pieces[i] != MPI_REQUEST_NULL) (void)MPI_Cancel(&request->pieces[i]);
}

static bool is_released(mpi_request *request) {
    bool released = true;
    for (int i = 0; i < request->piece_count; i++) {
        int done;
        if (request->pieces[i] == MPI_REQUEST_NULL) continue;
        (void)MPI_Test(&request->pieces[i], &done, MPI_STATUS_IGNORE);
        released = released && request->pieces[i] == MPI_REQUEST_NULL;
    }
    return released;
}

/* A receive that nothing has come for ends at once. All else gets a moment: ranks that have not
 * failed still take and send what they have begun. */
static void abandon(lks_comm *comm) {
    static const double moment_seconds = 1;
    const double began = lks_clock_seconds();
    bool left = true;
    for (lks_request *base = comm->active; base; base = base->next)
        if (!base->done) cancel_receives((mpi_request *)base);
    while (left) {
        left = false;
        for (lks_request *base = comm->active; base; base = base->next) {
            base->done = base->done || is_released((mpi_request *)base);
            left = left || !base->done;
        }
        if (lks_clock_seconds() - began > moment_seconds) return;
        sched_yield();
    }
}

/* ---- opening ---- */

static void free_backend(mpi_backend *backend) {
    if (!backend) return;
    lks_mpi_types_free(&backend->mpi);
    free(backend);
}

static void close_backend(lks_comm *comm) {
    free_backend(comm->backend);
    comm->backend = NULL;
}

static lks_status open_backend(lks_comm *comm) {
    mpi_backend *backend = calloc(1, sizeof *backend);
    lks_status status = LKS_ENOMEM;
    if (backend) {
        backend->limit = INT_MAX;
        status = lks_mpi_types_create(&backend->mpi);
    }
    int failed = status, worst = LKS_OK;
    lks_status agreed = lks_comm_check_mpi(
        MPI_Allreduce(&failed, &worst, 1, MPI_INT, MPI_MAX, comm->mpi), "MPI_Allreduce");
    if (agreed == LKS_OK && worst != LKS_OK)
        agreed = lks_fail((lks_status)worst, "a rank cannot set up MPI's types and operations: %s",
                          lks_status_text((lks_status)worst));
    if (agreed != LKS_OK) {
        free_backend(backend);
        return agreed;
    }
    comm->backend = backend;
    return LKS_OK;
}

const lks_comm_ops lks_comm_mpi_ops = {
    .name = "MPI",
    .open = open_backend,
    .close = close_backend,
    .request_create = request_create,
    .request_destroy = request_destroy,
    .start = start,
    .progress = progress,
    .abandon = abandon,
    .reduction_bytes = reduction_bytes,
};

void lks_comm_mpi_limit(lks_comm *comm, int elements) {
    ((mpi_backend *)comm->backend)->limit = elements;
}
