#include "comm/mpi/mpi.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi/slices.h"
#include "comm/reduce.h"

enum { DTYPES = LKS_U8 + 1, OPS = LKS_REDUCE_MAX + 1 };

typedef struct mpi_backend {
    int limit;                  /* elements that one MPI call may carry */
    MPI_Datatype types[DTYPES]; /* bfloat16 is ours, the others are MPI's */
    MPI_Op ops[DTYPES][OPS];    /* MPI_OP_NULL where the type is not reduced by MPI */
    uint64_t slices;            /* reductions by lks_mpi_slices so far */
} mpi_backend;

typedef struct mpi_request {
    lks_request base;
    MPI_Request *pieces; /* one MPI call each */
    int piece_count, piece_capacity;
    int *counts, *displacements; /* [size], read by MPI until the pieces are done */
    /* After a reduce-scatter in place MPI leaves this rank's part at the start of the data. */
    void *part;
    const void *part_from;
    size_t part_bytes;
    bool is_sliced; /* made by `slices`, without pieces */
    lks_mpi_slices slices;
} mpi_request;

/* ---- operations that MPI lacks: maxima that keep a NaN ---- */

static void reduce_as(lks_dtype dtype, lks_reduce_op op, const void *in, void *inout, int count) {
    lks_reduce((const void *[]){in, inout}, 2, count, dtype, op, inout);
}

static void max_f32(void *in, void *inout, int *count, MPI_Datatype *type) {
    (void)type;
    reduce_as(LKS_F32, LKS_REDUCE_MAX, in, inout, *count);
}

static void max_f64(void *in, void *inout, int *count, MPI_Datatype *type) {
    (void)type;
    reduce_as(LKS_F64, LKS_REDUCE_MAX, in, inout, *count);
}

static const struct {
    lks_dtype dtype;
    lks_reduce_op op;
    MPI_User_function *function;
} own_ops[] = {
    {LKS_F32, LKS_REDUCE_MAX, max_f32},
    {LKS_F64, LKS_REDUCE_MAX, max_f64},
};
enum { OWN_OPS = sizeof own_ops / sizeof own_ops[0] };

static lks_status create_types_and_ops(mpi_backend *mpi) {
    mpi->types[LKS_F32] = MPI_FLOAT;
    mpi->types[LKS_F64] = MPI_DOUBLE;
    mpi->types[LKS_I32] = MPI_INT32_T;
    mpi->types[LKS_I64] = MPI_INT64_T;
    mpi->types[LKS_U8] = MPI_UINT8_T;
    mpi->ops[LKS_F32][LKS_REDUCE_SUM] = MPI_SUM;
    mpi->ops[LKS_F64][LKS_REDUCE_SUM] = MPI_SUM;
    mpi->ops[LKS_I64][LKS_REDUCE_SUM] = MPI_SUM;
    mpi->ops[LKS_I64][LKS_REDUCE_MAX] = MPI_MAX;
    MPI_Datatype *bf16 = &mpi->types[LKS_BF16];
    lks_status status =
        lks_comm_check_mpi(MPI_Type_contiguous(2, MPI_BYTE, bf16), "MPI_Type_contiguous");
    if (status == LKS_OK) status = lks_comm_check_mpi(MPI_Type_commit(bf16), "MPI_Type_commit");
    for (int i = 0; i < OWN_OPS && status == LKS_OK; i++)
        status = lks_comm_check_mpi(
            MPI_Op_create(own_ops[i].function, 1, &mpi->ops[own_ops[i].dtype][own_ops[i].op]),
            "MPI_Op_create");
    return status;
}

static void free_backend(mpi_backend *mpi) {
    if (!mpi) return;
    for (int i = 0; i < OWN_OPS; i++) {
        MPI_Op *op = &mpi->ops[own_ops[i].dtype][own_ops[i].op];
        if (*op != MPI_OP_NULL) MPI_Op_free(op);
    }
    if (mpi->types[LKS_BF16] != MPI_DATATYPE_NULL) MPI_Type_free(&mpi->types[LKS_BF16]);
    free(mpi);
}

/* ---- requests ---- */

static void request_destroy(lks_request *base) {
    mpi_request *request = (mpi_request *)base;
    lks_mpi_slices_free(&request->slices);
    free(request->pieces);
    free(request->counts);
    free(request);
}

static lks_status request_create(lks_comm *comm, lks_request **out) {
    mpi_request *request = calloc(1, sizeof *request);
    int *counts = calloc((size_t)comm->size, 2 * sizeof *counts);
    if (!request || !counts) {
        free(request);
        free(counts);
        return lks_fail(LKS_ENOMEM, "out of memory for a collective over %d ranks", comm->size);
    }
    request->counts = counts;
    request->displacements = counts + comm->size;
    *out = &request->base;
    return LKS_OK;
}

static lks_status reserve_pieces(mpi_request *request, int64_t count) {
    if (count <= request->piece_capacity) return LKS_OK;
    MPI_Request *pieces = NULL;
    if (count <= INT_MAX)
        pieces = realloc(request->pieces, (size_t)count * sizeof *request->pieces);
    if (!pieces)
        return lks_fail(LKS_ENOMEM, "out of memory for a collective of %lld pieces",
                        (long long)count);
    request->pieces = pieces;
    request->piece_capacity = (int)count;
    return LKS_OK;
}

static MPI_Request *next_piece(mpi_request *request) {
    MPI_Request *piece = &request->pieces[request->piece_count++];
    *piece = MPI_REQUEST_NULL;
    return piece;
}

/* ---- starting ---- */

static void *element_at(const lks_comm_call *transfer, int64_t index) {
    return (char *)transfer->data + (size_t)index * lks_dtype_bytes(transfer->dtype);
}

static int64_t pieces_of(int64_t count, int limit) {
    return count / limit + (count % limit != 0);
}

static lks_status start_all_reduce(lks_comm *comm, mpi_request *request,
                                   const lks_comm_call *transfer) {
    const mpi_backend *mpi = comm->backend;
    lks_status status = reserve_pieces(request, pieces_of(transfer->count, mpi->limit));
    for (int64_t at = 0; at < transfer->count && status == LKS_OK; at += mpi->limit) {
        int64_t left = transfer->count - at;
        status = lks_comm_check_mpi(
            MPI_Iallreduce(MPI_IN_PLACE, element_at(transfer, at),
                           left < mpi->limit ? (int)left : mpi->limit, mpi->types[transfer->dtype],
                           mpi->ops[transfer->dtype][transfer->op], comm->mpi, next_piece(request)),
            "MPI_Iallreduce");
    }
    return status;
}

/* Elements [first, first + count) of `root`'s part, at most `limit` of them: reduced to `root`, or
 * sent from it. */
static lks_status start_rooted_piece(lks_comm *comm, mpi_request *request,
                                     const lks_comm_call *transfer, int64_t first, int count,
                                     int root) {
    const mpi_backend *mpi = comm->backend;
    void *data = element_at(transfer, first);
    MPI_Datatype type = mpi->types[transfer->dtype];
    if (transfer->kind != LKS_REDUCE_SCATTER)
        return lks_comm_check_mpi(
            MPI_Ibcast(data, count, type, root, comm->mpi, next_piece(request)), "MPI_Ibcast");
    bool is_root = root == comm->rank;
    return lks_comm_check_mpi(MPI_Ireduce(is_root ? MPI_IN_PLACE : data, is_root ? data : NULL,
                                          count, type, mpi->ops[transfer->dtype][transfer->op],
                                          root, comm->mpi, next_piece(request)),
                              "MPI_Ireduce");
}

/* One part of a transfer in pieces, all with the same root. */
static lks_status start_rooted(lks_comm *comm, mpi_request *request, const lks_comm_call *transfer,
                               int64_t first, int64_t count, int root) {
    int limit = ((const mpi_backend *)comm->backend)->limit;
    lks_status status = LKS_OK;
    for (int64_t at = 0; at < count && status == LKS_OK; at += limit) {
        int64_t left = count - at;
        status = start_rooted_piece(comm, request, transfer, first + at,
                                    left < limit ? (int)left : limit, root);
    }
    return status;
}

static lks_status start_broadcast(lks_comm *comm, mpi_request *request,
                                  const lks_comm_call *transfer) {
    const mpi_backend *mpi = comm->backend;
    lks_status status = reserve_pieces(request, pieces_of(transfer->count, mpi->limit));
    if (status != LKS_OK) return status;
    return start_rooted(comm, request, transfer, 0, transfer->count, transfer->root);
}

/* Reduce-scatters and all-gathers whose displacements do not fit MPI's ints: rank by rank. */
static lks_status start_parts_one_by_one(lks_comm *comm, mpi_request *request,
                                         const lks_comm_call *transfer) {
    const mpi_backend *mpi = comm->backend;
    int64_t pieces = 0, first = 0;
    for (int r = 0; r < comm->size; r++)
        pieces += pieces_of(transfer->counts[r], mpi->limit);
    lks_status status = reserve_pieces(request, pieces);
    for (int r = 0; r < comm->size && status == LKS_OK; r++) {
        status = start_rooted(comm, request, transfer, first, transfer->counts[r], r);
        first += transfer->counts[r];
    }
    return status;
}

static lks_status start_parts(lks_comm *comm, mpi_request *request, const lks_comm_call *transfer) {
    const mpi_backend *mpi = comm->backend;
    if (transfer->count > mpi->limit) return start_parts_one_by_one(comm, request, transfer);

    lks_status status = reserve_pieces(request, 1);
    if (status != LKS_OK) return status;
    int first = 0;
    for (int r = 0; r < comm->size; r++) {
        request->counts[r] = (int)transfer->counts[r];
        request->displacements[r] = first;
        first += request->counts[r];
    }
    MPI_Datatype type = mpi->types[transfer->dtype];
    if (transfer->kind == LKS_ALL_GATHER)
        return lks_comm_check_mpi(
            MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, transfer->data, request->counts,
                            request->displacements, type, comm->mpi, next_piece(request)),
            "MPI_Iallgatherv");
    request->part = element_at(transfer, request->displacements[comm->rank]);
    request->part_from = transfer->data;
    request->part_bytes = (size_t)request->counts[comm->rank] * lks_dtype_bytes(transfer->dtype);
    return lks_comm_check_mpi(MPI_Ireduce_scatter(MPI_IN_PLACE, transfer->data, request->counts,
                                                  type, mpi->ops[transfer->dtype][transfer->op],
                                                  comm->mpi, next_piece(request)),
                              "MPI_Ireduce_scatter");
}

static lks_status start(lks_comm *comm, lks_request *base, const lks_comm_call *transfer) {
    mpi_request *request = (mpi_request *)base;
    mpi_backend *mpi = comm->backend;
    const bool reduces = transfer->kind == LKS_ALL_REDUCE || transfer->kind == LKS_REDUCE_SCATTER;
    request->piece_count = 0;
    request->part_bytes = 0;
    request->is_sliced = reduces && transfer->dtype == LKS_BF16;
    if (request->is_sliced)
        return lks_mpi_slices_start(comm, &request->slices, transfer, mpi->types[LKS_BF16],
                                    mpi->limit, mpi->slices++);
    switch (transfer->kind) {
    case LKS_ALL_REDUCE:
        return start_all_reduce(comm, request, transfer);
    case LKS_REDUCE_SCATTER:
    case LKS_ALL_GATHER:
        return start_parts(comm, request, transfer);
    case LKS_BROADCAST:
        return start_broadcast(comm, request, transfer);
    case LKS_BARRIER:
        break;
    }
    lks_status status = reserve_pieces(request, 1);
    if (status != LKS_OK) return status;
    return lks_comm_check_mpi(MPI_Ibarrier(comm->mpi, next_piece(request)), "MPI_Ibarrier");
}

static lks_status look_at_pieces(mpi_request *request, bool *out_done) {
    int done = 0;
    lks_status status = lks_comm_check_mpi(
        MPI_Testall(request->piece_count, request->pieces, &done, MPI_STATUSES_IGNORE),
        "MPI_Testall of a collective");
    if (done && request->part_bytes > 0)
        memmove(request->part, request->part_from, request->part_bytes);
    *out_done = done;
    return status;
}

static lks_status progress(lks_comm *comm, bool *moved) {
    *moved = false;
    for (lks_request *base = comm->active; base; base = base->next) {
        mpi_request *request = (mpi_request *)base;
        if (base->done) continue;
        lks_status status = request->is_sliced
                                ? lks_mpi_slices_progress(comm, &request->slices, &base->done)
                                : look_at_pieces(request, &base->done);
        if (status != LKS_OK) return status;
        if (base->done) *moved = true;
    }
    return LKS_OK;
}

static void close_backend(lks_comm *comm) {
    free_backend(comm->backend);
    comm->backend = NULL;
}

static lks_status open_backend(lks_comm *comm) {
    mpi_backend *mpi = calloc(1, sizeof *mpi);
    lks_status status = LKS_ENOMEM;
    if (mpi) {
        mpi->limit = INT_MAX;
        mpi->types[LKS_BF16] = MPI_DATATYPE_NULL;
        for (int d = 0; d < DTYPES; d++)
            mpi->ops[d][LKS_REDUCE_SUM] = mpi->ops[d][LKS_REDUCE_MAX] = MPI_OP_NULL;
        status = create_types_and_ops(mpi);
    }
    int failed = status, worst = LKS_OK;
    lks_status agreed = lks_comm_check_mpi(
        MPI_Allreduce(&failed, &worst, 1, MPI_INT, MPI_MAX, comm->mpi), "MPI_Allreduce");
    if (agreed == LKS_OK && worst != LKS_OK)
        agreed = lks_fail((lks_status)worst, "a rank cannot set up MPI's types and operations: %s",
                          lks_status_text((lks_status)worst));
    if (agreed != LKS_OK) {
        free_backend(mpi);
        return agreed;
    }
    comm->backend = mpi;
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
};

void lks_comm_mpi_limit(lks_comm *comm, int elements) {
    ((mpi_backend *)comm->backend)->limit = elements;
}
