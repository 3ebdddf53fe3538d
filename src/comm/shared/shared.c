#include "comm/shared/shared.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "comm/reduce.h"

enum {
    SLOTS = 4,               /* chunks under way at a time */
    SLOT_BYTES = 256 * 1024, /* of a chunk; rings of 1 MiB were fastest of 128 KiB to 4 MiB */
    SMALL_BYTES = 4096,      /* an all-reduce up to here is added up by every rank for itself */
    LINE_BYTES = 128         /* no two ranks write to one cache line, nor to adjacent ones */
};

typedef enum stage { STAGE, REDUCE, FINISH, STAGES } stage;

/* At the start of a rank's segment: how many chunks it has brought through each stage. */
typedef struct counters {
    _Atomic uint64_t done[STAGES];
} counters;

typedef struct shared_request {
    lks_request base;
    lks_comm_call transfer;
    const struct plan *plan;
    size_t element_bytes;
    int64_t slice;       /* elements of a part that one chunk moves */
    int64_t *begin;      /* [size + 1] rank r's part is elements [begin[r], begin[r + 1]) */
    uint64_t first, end; /* its chunks in the sequence */
} shared_request;

/* This rank's next chunk of a stage, and the request that it belongs to (NULL: not started yet). */
typedef struct cursor {
    uint64_t chunk;
    shared_request *request;
} cursor;

typedef struct shared_backend {
    MPI_Win window;
    char **segments;      /* [size] every rank's counters and ring */
    const void **sources; /* [size] scratch of a reduction */
    uint64_t chunks;      /* length of the sequence so far */
    cursor at[STAGES];
    uint64_t all_done[STAGES]; /* chunks that all ranks had done when last looked at */
} shared_backend;

/* ---- places ---- */

static counters *counters_of(const shared_backend *shared, int rank) {
    return (counters *)(void *)shared->segments[rank];
}

static char *slot_of(const shared_backend *shared, int rank, uint64_t chunk) {
    return shared->segments[rank] + LINE_BYTES + chunk % SLOTS * SLOT_BYTES;
}

/* Where rank's slot holds its slice of part `part`. */
static char *slice_in_slot(const shared_backend *shared, const shared_request *request, int rank,
                           uint64_t chunk, int part) {
    return slot_of(shared, rank, chunk) +
           (size_t)part * (size_t)request->slice * request->element_bytes;
}

/* Where the data hold the slice of part `part` that a chunk moves, and its bytes (0: none). */
static char *slice_in_data(const shared_request *request, uint64_t chunk, int part, size_t *bytes) {
    int64_t from = request->begin[part] + (int64_t)(chunk - request->first) * request->slice;
    int64_t left = request->begin[part + 1] - from;
    int64_t count = left < 0 ? 0 : left < request->slice ? left : request->slice;
    *bytes = (size_t)count * request->element_bytes;
    return (char *)request->transfer.data + (size_t)from * request->element_bytes;
}

/* ---- what each kind of transfer does with a chunk ---- */

typedef void chunk_function(const lks_comm *comm, const shared_request *request, uint64_t chunk);

/* The work of the three stages; NULL: none. `reduce` finds all slots staged, `finish` all reduced.
 */
typedef struct plan {
    chunk_function *stage, *reduce, *finish;
} plan;

static void stage_others(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    for (int part = 0; part < comm->size; part++) {
        size_t bytes;
        const char *slice = slice_in_data(request, chunk, part, &bytes);
        if (part == comm->rank || bytes == 0) continue;
        memcpy(slice_in_slot(comm->backend, request, comm->rank, chunk, part), slice, bytes);
    }
}

static void reduce_own(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    const shared_backend *shared = comm->backend;
    size_t bytes;
    char *own = slice_in_data(request, chunk, comm->rank, &bytes);
    if (bytes == 0) return;
    for (int r = 0; r < comm->size; r++)
        shared->sources[r] =
            r == comm->rank ? own : slice_in_slot(shared, request, r, chunk, comm->rank);
    lks_reduce(shared->sources, comm->size, (int64_t)(bytes / request->element_bytes),
               request->transfer.dtype, request->transfer.op, own);
}

/* The sum goes to the place of this rank's own slice in its slot, which staging left free. */
static void reduce_own_and_publish(const lks_comm *comm, const shared_request *request,
                                   uint64_t chunk) {
    size_t bytes;
    reduce_own(comm, request, chunk);
    const char *own = slice_in_data(request, chunk, comm->rank, &bytes);
    if (bytes == 0) return;
    memcpy(slice_in_slot(comm->backend, request, comm->rank, chunk, comm->rank), own, bytes);
}

static void copy_sums(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    for (int part = 0; part < comm->size; part++) {
        size_t bytes;
        char *slice = slice_in_data(request, chunk, part, &bytes);
        if (part == comm->rank || bytes == 0) continue;
        memcpy(slice, slice_in_slot(comm->backend, request, part, chunk, part), bytes);
    }
}

static void stage_whole(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    memcpy(slot_of(comm->backend, comm->rank, chunk), request->transfer.data,
           (size_t)request->transfer.count * request->element_bytes);
}

static void reduce_whole(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    const shared_backend *shared = comm->backend;
    const lks_comm_call *transfer = &request->transfer;
    for (int r = 0; r < comm->size; r++)
        shared->sources[r] = slot_of(shared, r, chunk);
    lks_reduce(shared->sources, comm->size, transfer->count, transfer->dtype, transfer->op,
               transfer->data);
}

/* A gathered slice has its rank's slot for itself. */
static void stage_own(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    size_t bytes;
    const char *own = slice_in_data(request, chunk, comm->rank, &bytes);
    if (bytes > 0) memcpy(slot_of(comm->backend, comm->rank, chunk), own, bytes);
}

static void copy_staged(const lks_comm *comm, const shared_request *request, uint64_t chunk) {
    for (int part = 0; part < comm->size; part++) {
        size_t bytes;
        char *slice = slice_in_data(request, chunk, part, &bytes);
        if (part == comm->rank || bytes == 0) continue;
        memcpy(slice, slot_of(comm->backend, part, chunk), bytes);
    }
}

static const plan all_reduce_plan = {stage_others, reduce_own_and_publish, copy_sums};
static const plan small_all_reduce_plan = {stage_whole, reduce_whole, NULL};
static const plan reduce_scatter_plan = {stage_others, reduce_own, NULL};
static const plan gather_plan = {stage_own, copy_staged, NULL};
static const plan barrier_plan = {NULL, NULL, NULL};

/* ---- the sequence ---- */

/* Have all ranks done the first `chunks` chunks of a stage? */
static bool all_did(const lks_comm *comm, stage stage, uint64_t chunks) {
    shared_backend *shared = comm->backend;
    if (shared->all_done[stage] >= chunks) return true;
    uint64_t least = UINT64_MAX;
    for (int r = 0; r < comm->size; r++) {
        const counters *theirs = counters_of(shared, r);
        uint64_t done = atomic_load_explicit(&theirs->done[stage], memory_order_acquire);
        if (done < least) least = done;
    }
    shared->all_done[stage] = least;
    return least >= chunks;
}

static bool is_ready(const lks_comm *comm, stage stage) {
    const shared_backend *shared = comm->backend;
    const cursor *at = &shared->at[stage];
    if (!at->request) return false;
    switch (stage) {
    case STAGE: /* nobody reads the slot's last chunk any more */
        return at->chunk < SLOTS || all_did(comm, FINISH, at->chunk - SLOTS + 1);
    case REDUCE:
        return at->chunk < shared->at[STAGE].chunk && all_did(comm, STAGE, at->chunk + 1);
    default:
        return at->chunk < shared->at[REDUCE].chunk &&
               (!at->request->plan->finish || all_did(comm, REDUCE, at->chunk + 1));
    }
}

/* Brings this rank's next chunk through a stage. */
static void step(const lks_comm *comm, stage stage) {
    shared_backend *shared = comm->backend;
    cursor *at = &shared->at[stage];
    shared_request *request = at->request;
    chunk_function *const work[STAGES] = {request->plan->stage, request->plan->reduce,
                                          request->plan->finish};
    if (work[stage]) work[stage](comm, request, at->chunk);
    at->chunk++;
    /* Release: what was written to the slot, and what was read from others', comes before. */
    atomic_store_explicit(&counters_of(shared, comm->rank)->done[stage], at->chunk,
                          memory_order_release);
    if (at->chunk < request->end) return;
    at->request = (shared_request *)request->base.next;
    if (stage == FINISH) request->base.done = true;
}

static lks_status progress(lks_comm *comm, bool *moved) {
    *moved = false;
    for (bool stepped = true; stepped;) {
        stepped = false;
        /* The last stage first: it frees slots. */
        for (int s = FINISH; s >= STAGE; s--) {
            if (!is_ready(comm, (stage)s)) continue;
            step(comm, (stage)s);
            stepped = *moved = true;
        }
    }
    return LKS_OK;
}

/* ---- starting ---- */

/* Lays out the parts, chooses the plan, and returns into how many slices a slot is cut. */
static int lay_out(const lks_comm *comm, shared_request *request, const lks_comm_call *transfer) {
    lks_comm_lay_out(comm, transfer, request->begin);
    switch (transfer->kind) {
    case LKS_ALL_REDUCE:
        if ((size_t)transfer->count * request->element_bytes <= SMALL_BYTES) {
            request->plan = &small_all_reduce_plan;
            return 1;
        }
        request->plan = &all_reduce_plan;
        return comm->size;
    case LKS_REDUCE_SCATTER:
        request->plan = &reduce_scatter_plan;
        return comm->size;
    case LKS_BARRIER:
        request->plan = &barrier_plan;
        return 1;
    default:
        request->plan = &gather_plan;
        return 1;
    }
}

static int64_t largest_part(const lks_comm *comm, const shared_request *request) {
    int64_t largest = 1; /* a barrier is one empty chunk */
    for (int r = 0; r < comm->size; r++) {
        int64_t count = request->begin[r + 1] - request->begin[r];
        if (count > largest) largest = count;
    }
    return largest;
}

static lks_status start(lks_comm *comm, lks_request *base, const lks_comm_call *transfer) {
    shared_backend *shared = comm->backend;
    shared_request *request = (shared_request *)base;
    request->transfer = *transfer;
    request->transfer.counts = NULL;
    request->element_bytes = lks_dtype_bytes(transfer->dtype);
    int slices = lay_out(comm, request, transfer);
    request->slice = (int64_t)((size_t)SLOT_BYTES / (size_t)slices / request->element_bytes);
    int64_t largest = largest_part(comm, request);
    request->first = shared->chunks;
    request->end = shared->chunks + (uint64_t)((largest - 1) / request->slice + 1);
    shared->chunks = request->end;
    for (int s = STAGE; s < STAGES; s++) {
        if (!shared->at[s].request) shared->at[s].request = request;
    }
    bool moved;
    return progress(comm, &moved);
}

static void request_destroy(lks_request *base) {
    shared_request *request = (shared_request *)base;
    free(request->begin);
    free(request);
}

static lks_status request_create(lks_comm *comm, lks_request **out) {
    shared_request *request = calloc(1, sizeof *request);
    int64_t *begin = calloc((size_t)comm->size + 1, sizeof *begin);
    if (!request || !begin) {
        free(request);
        free(begin);
        return lks_fail(LKS_ENOMEM, "out of memory for a collective over %d ranks", comm->size);
    }
    request->begin = begin;
    *out = &request->base;
    return LKS_OK;
}

/* ---- opening ---- */

static void free_backend(shared_backend *shared) {
    if (!shared) return;
    free(shared->segments);
    free(shared->sources);
    free(shared);
}

static shared_backend *allocate_backend(int size) {
    shared_backend *shared = calloc(1, sizeof *shared);
    if (!shared) return NULL;
    shared->segments = calloc((size_t)size, sizeof *shared->segments);
    shared->sources = calloc((size_t)size, sizeof *shared->sources);
    if (shared->segments && shared->sources) return shared;
    free_backend(shared);
    return NULL;
}

/* LKS_OK where every rank gives true. */
static lks_status agree(const lks_comm *comm, bool good, lks_status failure, const char *what) {
    int mine = good, all = 0;
    lks_status status = lks_comm_check_mpi(
        MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_LAND, comm->mpi), "MPI_Allreduce");
    if (status != LKS_OK) return status;
    return all ? LKS_OK : lks_fail(failure, "%s", what);
}

/* Collective. */
static void unmap_segments(shared_backend *shared) {
    MPI_Win_unlock_all(shared->window);
    MPI_Win_free(&shared->window);
}

/* Maps the segments of all ranks; a window that only some ranks got cannot be freed. Each rank
 * touches its own first, so that its pages are near it.
 */
static lks_status map_segments(lks_comm *comm, shared_backend *shared) {
    size_t bytes = LINE_BYTES + (size_t)SLOTS * SLOT_BYTES;
    char *mine = NULL;
    int code = MPI_Win_allocate_shared((MPI_Aint)bytes, 1, MPI_INFO_NULL, comm->host, &mine,
                                       &shared->window);
    lks_status status = agree(comm, code == MPI_SUCCESS, LKS_ECOMM,
                              "MPI_Win_allocate_shared failed: is /dev/shm full?");
    if (status != LKS_OK) return status;
    MPI_Win_set_errhandler(shared->window, MPI_ERRORS_RETURN);
    bool mapped = true;
    for (int r = 0; r < comm->size; r++) {
        MPI_Aint segment_bytes;
        int unit;
        mapped = mapped && MPI_Win_shared_query(shared->window, r, &segment_bytes, &unit,
                                                &shared->segments[r]) == MPI_SUCCESS;
    }
    memset(mine, 0, bytes);
    MPI_Win_lock_all(MPI_MODE_NOCHECK, shared->window);
    MPI_Win_sync(shared->window);
    status = agree(comm, mapped, LKS_ECOMM, "MPI_Win_shared_query failed");
    if (status != LKS_OK) unmap_segments(shared);
    return status;
}

static void close_backend(lks_comm *comm) {
    shared_backend *shared = comm->backend;
    unmap_segments(shared);
    free_backend(shared);
    comm->backend = NULL;
}

static lks_status open_backend(lks_comm *comm) {
    shared_backend *shared = allocate_backend(comm->size);
    lks_status status = agree(comm, shared != NULL, LKS_ENOMEM, "out of memory");
    if (status == LKS_OK) status = map_segments(comm, shared);
    if (status != LKS_OK) {
        free_backend(shared);
        return status;
    }
    comm->backend = shared;
    return LKS_OK;
}

const lks_comm_ops lks_comm_shared_ops = {
    .name = "shared memory",
    .open = open_backend,
    .close = close_backend,
    .request_create = request_create,
    .request_destroy = request_destroy,
    .start = start,
    .progress = progress,
};
