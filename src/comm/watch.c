#include "comm/watch.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/device_queue.h"

enum { TEXT_BYTES = 448, NOTICE_TAG = 1 };

typedef enum finding {
    NOT_HEARD,
    ANSWERS, /* has been told of a failure and found none */
    WAITS,   /* past its deadline */
    LOST,    /* has an error to tell that another rank is to blame for */
    FAILED   /* has an error of its own to tell */
} finding;

typedef struct notice {
    int32_t finding;
    lks_queue_state device;
    char error[TEXT_BYTES];          /* FAILED, LOST: what happened */
    char unfinished[TEXT_BYTES / 2]; /* the first collective that its device has not finished */
} notice;

typedef struct lks_watch {
    MPI_Comm mpi; /* for notices alone */
    MPI_Request incoming;
    notice arrived;
    notice *heard;         /* [size] what every rank has said, this one included */
    MPI_Request *outgoing; /* [size] */
    lks_rank_place *places;
    double deadline;
    double looked; /* clock */
    bool failed;
    char detail[LKS_ERROR_BYTES];
} lks_watch;

/* ---- the verdict ---- */

static const char *name_rank(const lks_watch *watch, int rank, char *text, size_t bytes) {
    const lks_rank_place *place = &watch->places[rank];
    snprintf(text, bytes, "rank %d (%s%s%s)", rank, place->host_name, place->gpu[0] ? ", GPU " : "",
             place->gpu);
    return text;
}

static int find_rank(const lks_comm *comm, finding finding) {
    for (int r = 0; r < comm->size; r++)
        if (comm->watch->heard[r].finding == (int32_t)finding) return r;
    return -1;
}

static int64_t get_queued(const notice *heard) {
    return heard->device.queued;
}

static int64_t get_reached(const notice *heard) {
    return heard->device.reached;
}

/* By one of these; -1: all have come equally far. */
static int find_furthest_behind(const lks_comm *comm, int64_t (*progress)(const notice *)) {
    const notice *heard = comm->watch->heard;
    int behind = 0, ahead = 0;
    for (int r = 1; r < comm->size; r++) {
        if (progress(&heard[r]) < progress(&heard[behind])) behind = r;
        if (progress(&heard[r]) > progress(&heard[ahead])) ahead = r;
    }
    return progress(&heard[behind]) < progress(&heard[ahead]) ? behind : -1;
}

/* "rank 2 (h1, GPU 0000:3B:00.0) and 3 more" */
static void name_silent_ranks(const lks_comm *comm, char *text, size_t bytes) {
    int first = find_rank(comm, NOT_HEARD), more = 0;
    for (int r = first + 1; r < comm->size; r++)
        if (comm->watch->heard[r].finding == NOT_HEARD) more++;
    name_rank(comm->watch, first, text, bytes);
    const size_t length = strlen(text);
    if (more > 0) snprintf(text + length, bytes - length, " and %d more", more);
}

/* What the ranks that are ahead wait in. */
static const char *waited_in(const lks_comm *comm) {
    const notice *heard = comm->watch->heard;
    for (int r = 0; r < comm->size; r++)
        if ((heard[r].finding == WAITS || heard[r].finding == LOST) && heard[r].unfinished[0])
            return heard[r].unfinished;
    return "a collective";
}

/* What the rank told of its error. */
static void repeat(const lks_comm *comm, int rank) {
    lks_watch *watch = comm->watch;
    const notice *theirs = &watch->heard[rank];
    char who[192];
    snprintf(watch->detail, sizeof watch->detail, "%s: %s%s%s",
             name_rank(watch, rank, who, sizeof who), theirs->error,
             theirs->unfinished[0] ? "; not finished there: " : "", theirs->unfinished);
}

/* Writes watch->detail. */
static void judge(const lks_comm *comm) {
    lks_watch *watch = comm->watch;
    const char *at = waited_in(comm);
    char who[192];
    if (find_rank(comm, FAILED) >= 0) {
        repeat(comm, find_rank(comm, FAILED));
        return;
    }
    if (find_rank(comm, NOT_HEARD) >= 0) {
        name_silent_ranks(comm, who, sizeof who);
        snprintf(watch->detail, sizeof watch->detail,
                 "%s did not finish and did not answer: the others waited in %s", who, at);
        return;
    }
    if (find_rank(comm, LOST) >= 0) {
        repeat(comm, find_rank(comm, LOST));
        return;
    }
    const int host = find_furthest_behind(comm, get_queued);
    const int behind = host >= 0 ? host : find_furthest_behind(comm, get_reached);
    if (behind < 0)
        snprintf(watch->detail, sizeof watch->detail,
                 "nothing has happened for %g s in %s, which every rank has queued: a GPU, or the "
                 "network between them, does not go on",
                 watch->deadline, at);
    else
        snprintf(watch->detail, sizeof watch->detail,
                 "%s is behind the others: they have waited for %g s in %s, which %s has not "
                 "come to",
                 name_rank(watch, behind, who, sizeof who), watch->deadline, at,
                 host >= 0 ? "it" : "its GPU");
}

/* ---- notices ---- */

static lks_status listen(const lks_comm *comm) {
    lks_watch *watch = comm->watch;
    return lks_comm_check_mpi(MPI_Irecv(&watch->arrived, (int)sizeof watch->arrived, MPI_BYTE,
                                        MPI_ANY_SOURCE, NOTICE_TAG, watch->mpi, &watch->incoming),
                              "MPI_Irecv");
}

/* Has another notice come? MPI may have failed with the rank that failed: then nothing comes. */
static bool hear(const lks_comm *comm) {
    lks_watch *watch = comm->watch;
    MPI_Status from;
    int arrived = 0;
    if (watch->incoming == MPI_REQUEST_NULL ||
        MPI_Test(&watch->incoming, &arrived, &from) != MPI_SUCCESS || !arrived)
        return false;
    watch->heard[from.MPI_SOURCE] = watch->arrived;
    (void)listen(comm);
    return true;
}

static bool is_complete(const lks_comm *comm) {
    return find_rank(comm, NOT_HEARD) < 0;
}

/* Nobody waits for these sends: who does not receive them is the one that has failed. */
static void tell_all(const lks_comm *comm, finding finding, const char *error) {
    lks_watch *watch = comm->watch;
    notice *mine = &watch->heard[comm->rank];
    mine->finding = (int32_t)finding;
    snprintf(mine->error, sizeof mine->error, "%s", error);
    mine->device = lks_device_queue_state(comm, mine->unfinished, sizeof mine->unfinished);
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank)
            (void)MPI_Isend(mine, (int)sizeof *mine, MPI_BYTE, r, NOTICE_TAG, watch->mpi,
                            &watch->outgoing[r]);
}

/* From a rank's finding, or the first notice, to the verdict of all. */
static lks_status end(lks_comm *comm, finding finding, const char *error) {
    /* Ranks that go on look at notices some thousand times a second, but in a long piece of work
     * between two waits. After an error nobody's silence matters. */
    static const double error_seconds = 0.5;
    lks_watch *watch = comm->watch;
    const double silence_seconds = watch->deadline < 3 ? watch->deadline : 3;
    watch->failed = true; /* first: what is called below may look, too */
    tell_all(comm, finding, error);
    const double began = lks_clock_seconds();
    while (!is_complete(comm)) {
        const double limit = find_rank(comm, FAILED) >= 0 ? error_seconds : silence_seconds;
        if (hear(comm)) continue;
        if (lks_clock_seconds() - began > limit) break;
        sched_yield();
    }
    judge(comm);
    if (comm->queue) comm->device_ops->stop(comm);
    return lks_watch_status(comm);
}

/* ---- looking ---- */

lks_status lks_watch_status(const lks_comm *comm) {
    const lks_watch *watch = comm->watch;
    return watch && watch->failed ? lks_fail(LKS_ECOMM, "%s", watch->detail) : LKS_OK;
}

lks_status lks_watch_look(lks_comm *comm, double waited) {
    /* Looking costs a few microseconds, and waits are many. */
    static const double interval_seconds = 0.5e-3;
    lks_watch *watch = comm->watch;
    if (!watch) return LKS_OK;
    if (watch->failed) return lks_watch_status(comm);
    const double now = lks_clock_seconds();
    if (now - watch->looked < interval_seconds) return LKS_OK;
    watch->looked = now;
    if (hear(comm)) return end(comm, ANSWERS, "");
    bool elsewhere;
    if (comm->queue && comm->device_ops->check(comm, &elsewhere) != LKS_OK)
        return end(comm, elsewhere ? LOST : FAILED, lks_last_error());
    return waited > watch->deadline ? end(comm, WAITS, "") : LKS_OK;
}

lks_status lks_watch_fail(lks_comm *comm) {
    if (comm->watch->failed) return lks_watch_status(comm);
    char error[TEXT_BYTES];
    bool elsewhere = false;
    snprintf(error, sizeof error, "%s", lks_last_error());
    if (comm->queue) (void)comm->device_ops->check(comm, &elsewhere); /* why it failed */
    return end(comm, elsewhere ? LOST : FAILED, error);
}

bool lks_comm_is_failure_shared(const lks_comm *comm) {
    const lks_watch *watch = comm->watch;
    for (int r = 0; watch && watch->failed && r < comm->rank; r++)
        if (watch->heard[r].finding != NOT_HEARD) return true;
    return false;
}

void lks_comm_set_deadline(lks_comm *comm, double seconds) {
    if (comm->watch) comm->watch->deadline = seconds;
}

const lks_rank_place *lks_watch_places(const lks_comm *comm) {
    return comm->watch->places;
}

/* ---- creation ---- */

static void free_watch(lks_watch *watch) {
    if (!watch) return;
    free(watch->heard);
    free(watch->outgoing);
    free(watch->places);
    free(watch);
}

static lks_watch *allocate_watch(int size) {
    lks_watch *watch = calloc(1, sizeof *watch);
    if (!watch) return NULL;
    watch->heard = calloc((size_t)size, sizeof *watch->heard);
    watch->outgoing = calloc((size_t)size, sizeof(MPI_Request));
    watch->places = calloc((size_t)size, sizeof *watch->places);
    if (watch->heard && watch->outgoing && watch->places) return watch;
    free_watch(watch);
    return NULL;
}

/* Tells all ranks where this one is. */
static lks_status share_places(const lks_comm *comm) {
    lks_watch *watch = comm->watch;
    lks_rank_place *mine = &watch->places[comm->rank];
    const char *gpu = lks_device_place(comm->device);
    int host = comm->rank;
    lks_status status =
        lks_comm_check_mpi(MPI_Bcast(&host, 1, MPI_INT, 0, comm->host), "MPI_Bcast");
    if (status != LKS_OK) return status;
    *mine = (lks_rank_place){.host = host};
    if (gethostname(mine->host_name, sizeof mine->host_name - 1) != 0)
        snprintf(mine->host_name, sizeof mine->host_name, "unknown host");
    snprintf(mine->gpu, sizeof mine->gpu, "%s", gpu ? gpu : "");
    const char *host_id = getenv("NCCL_HOSTID");
    snprintf(mine->host_id, sizeof mine->host_id, "%s", host_id ? host_id : "");
    return lks_comm_check_mpi(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, watch->places,
                                            (int)sizeof *mine, MPI_BYTE, comm->mpi),
                              "MPI_Allgather");
}

lks_status lks_watch_create(lks_comm *comm) {
    lks_watch *watch = allocate_watch(comm->size);
    lks_status status = lks_comm_agree(
        comm, watch ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory for a communicator"));
    if (status == LKS_OK)
        status = lks_comm_check_mpi(MPI_Comm_dup(comm->mpi, &watch->mpi), "MPI_Comm_dup");
    if (status != LKS_OK) {
        free_watch(watch);
        return status;
    }
    MPI_Comm_set_errhandler(watch->mpi, MPI_ERRORS_RETURN);
    watch->deadline = LKS_COMM_DEADLINE_SECONDS;
    watch->incoming = MPI_REQUEST_NULL;
    comm->watch = watch;
    status = lks_comm_agree(comm, listen(comm));
    return status == LKS_OK ? share_places(comm) : status;
}

void lks_watch_destroy(lks_comm *comm) {
    lks_watch *watch = comm->watch;
    if (!watch) return;
    comm->watch = NULL;
    if (watch->incoming != MPI_REQUEST_NULL) {
        MPI_Cancel(&watch->incoming);
        MPI_Request_free(&watch->incoming);
    }
    if (!watch->failed) MPI_Comm_free(&watch->mpi);
    free_watch(watch);
}
