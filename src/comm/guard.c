#include "comm/guard.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/backend.h"
#include "comm/guard_link.h"

enum { HOST_BYTES = HOST_NAME_MAX + 1 };

/* What the rank's own thread wants of its guard. */
typedef enum order { GUARD, STOP, ABANDON } order;

struct lks_guard {
    lks_comm *comm;
    lks_guard_config config;
    char *hosts;     /* [size][HOST_BYTES] */
    bool tells;      /* this rank speaks where rank 0 cannot */
    double interval; /* seconds between two reports */

    lks_link *links; /* [size] on rank 0, else [1]; NULL where the ranks are not connected */
    int link_count;
    struct pollfd *polled; /* [link_count + 1]; the last one is the bell */
    int bell;              /* an eventfd that wakes the thread */
    pthread_t thread;

    /* Told by the rank's thread. */
    atomic_int order;
    atomic_bool closing; /* all ranks are about to end their guards: connections may close */
    atomic_uint phase;
    atomic_int_least64_t step;
    atomic_uint_least64_t ticks, arrivals;
    atomic_bool waits;

    /* The guard's thread alone. */
    lks_guard_state seen;
    double now;  /* a clock that stands still while this process does not run */
    double sent; /* when it sent its last report */
};

/* ---- what the rank's own thread tells ---- */

lks_guard_phase lks_guard_enter(lks_guard *guard, lks_guard_phase phase) {
    return guard ? (lks_guard_phase)atomic_exchange(&guard->phase, (unsigned)phase)
                 : LKS_GUARD_START;
}

void lks_guard_tick(lks_guard *guard) {
    if (guard) atomic_fetch_add_explicit(&guard->ticks, 1, memory_order_relaxed);
}

void lks_guard_step(lks_guard *guard, int64_t steps_done) {
    if (guard) atomic_store_explicit(&guard->step, steps_done, memory_order_relaxed);
}

void lks_guard_arrive(lks_guard *guard, int64_t collectives) {
    if (guard)
        atomic_fetch_add_explicit(&guard->arrivals, (uint64_t)collectives, memory_order_relaxed);
}

void lks_guard_wait(lks_guard *guard, bool waits) {
    if (guard) atomic_store_explicit(&guard->waits, waits, memory_order_relaxed);
}

/* ---- the thread ---- */

static lks_guard_report describe_self(const lks_guard *w, lks_report_kind kind) {
    return (lks_guard_report){
        .kind = kind,
        .phase = atomic_load(&w->phase),
        .step = atomic_load(&w->step),
        .ticks = atomic_load(&w->ticks),
        .arrivals = atomic_load(&w->arrivals),
        .waits = atomic_load(&w->waits),
    };
}

static void send_all(lks_guard *w, lks_report_kind kind) {
    const lks_guard_report report = describe_self(w, kind);
    for (int i = 0; i < w->link_count; i++)
        lks_link_send(&w->links[i], &report);
}

/* Where the table has the rank at the other end of a link: on rank 0 both are by rank, and the
 * others have one of each. */
static void receive(lks_guard *w, int index) {
    lks_guarded *peer = &w->seen.ranks[index];
    lks_guard_report report;
    lks_link_event event;
    while ((event = lks_link_receive(&w->links[index], &report)) == LKS_LINK_REPORT)
        lks_guard_note(&w->seen, peer, &report, w->now);
    if (event == LKS_LINK_CLOSED && !atomic_load(&w->closing)) peer->ended = true;
}

/* The process may have been stopped together with all others, and be continued: its clock has
 * moved on, and nobody could be heard. So time counts only as far as this thread would have slept.
 */
static void advance_clock(lks_guard *w, double *last) {
    double now = lks_clock_seconds(), passed = now - *last, most = 2 * w->interval;
    w->now += passed < most ? passed : most;
    *last = now;
}

static void listen_for_reports(lks_guard *w) {
    for (int i = 0; i < w->link_count; i++)
        w->polled[i] = (struct pollfd){.fd = w->links[i].socket, .events = POLLIN};
    w->polled[w->link_count] = (struct pollfd){.fd = w->bell, .events = POLLIN};
    double left = w->sent + w->interval - w->now;
    poll(w->polled, (nfds_t)w->link_count + 1, left > 0 ? (int)(1000 * left) + 1 : 0);
}

static void note_self(lks_guard *w) {
    const lks_guard_report own = describe_self(w, LKS_REPORT_ALIVE);
    if (!w->links || w->comm->rank == 0) lks_guard_note(&w->seen, &w->seen.ranks[0], &own, w->now);
}

/* So that what was sent last is read, and not lost with the connection: until the others have
 * closed it, or for a moment. */
static void let_others_go(lks_guard *w) {
    double deadline = lks_clock_seconds() + 0.5;
    int open;
    do {
        open = 0;
        for (int i = 0; i < w->link_count; i++) {
            lks_guard_report ignored;
            while (lks_link_receive(&w->links[i], &ignored) == LKS_LINK_REPORT)
                ;
            open += w->links[i].socket >= 0;
        }
        if (open > 0) poll(NULL, 0, 5);
    } while (open > 0 && lks_clock_seconds() < deadline);
}

/* Without rank 0 nobody can spread the news, so ranks end one by one, and with the first of them
 * the launcher may end the others: who tells goes first. Rank 0 may yet wake up, and is not to
 * blame those whom it then finds gone. */
static void end_without_first(lks_guard *w, const char *message) {
    send_all(w, LKS_REPORT_ABANDON);
    if (w->tells || !w->links)
        w->config.tell(w->config.data, message);
    else
        poll(NULL, 0, (int)(2000 * w->interval));
}

/* message: NULL where another rank has told it. */
static void end_job(lks_guard *w, const char *message) {
    if (w->comm->rank == 0 && w->links) {
        send_all(w, LKS_REPORT_END);
        if (message) w->config.tell(w->config.data, message);
        let_others_go(w);
    } else if (message) {
        end_without_first(w, message);
    }
    w->config.end(w->config.data);
}

static void *stand_guard(void *data) {
    lks_guard *w = data;
    double last = lks_clock_seconds();
    w->sent = -w->interval;
    while (atomic_load(&w->order) == GUARD) {
        if (w->now - w->sent >= w->interval) {
            send_all(w, LKS_REPORT_ALIVE);
            w->sent = w->now;
        }
        listen_for_reports(w);
        advance_clock(w, &last);
        for (int i = 0; i < w->link_count; i++)
            receive(w, i);
        note_self(w);
        lks_strbuf message = {0};
        bool told = lks_guard_end_is_told(&w->seen);
        bool failed = !told && lks_guard_judge(&w->seen, w->now, &message);
        const char *text = message.failed ? "a rank is missing" : message.text;
        if (told || failed) end_job(w, failed ? text : NULL);
        lks_strbuf_free(&message);
        if (told || failed) return NULL;
    }
    if (atomic_load(&w->order) == ABANDON) send_all(w, LKS_REPORT_ABANDON);
    return NULL;
}

/* ---- creation ---- */

static void free_guard(lks_guard *w) {
    if (!w) return;
    for (int i = 0; i < w->link_count; i++)
        lks_link_close(&w->links[i]);
    if (w->bell >= 0) close(w->bell);
    free(w->links);
    free(w->polled);
    free(w->seen.ranks);
    free(w->hosts);
    free(w);
}

static lks_status allocate(lks_comm *comm, const lks_guard_config *config, lks_guard **out) {
    size_t size = (size_t)comm->size;
    lks_guard *w = *out = calloc(1, sizeof *w);
    if (!w) goto failed;
    w->comm = comm;
    w->config = *config;
    w->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->hosts = calloc(size, HOST_BYTES);
    w->links = calloc(size, sizeof *w->links);
    w->polled = calloc(size + 1, sizeof *w->polled);
    w->seen.ranks = calloc(size, sizeof *w->seen.ranks);
    if (w->bell < 0) return lks_fail(LKS_ECOMM, "the guard: no eventfd: %s", strerror(errno));
    if (w->hosts && w->links && w->polled && w->seen.ranks) return LKS_OK;

failed:
    return lks_fail(LKS_ENOMEM, "the guard over %d ranks: out of memory", comm->size);
}

static const char *host_of(const lks_guard *w, int rank) {
    return w->hosts + (size_t)rank * HOST_BYTES;
}

static lks_status share_hosts(lks_guard *w) {
    char *own = w->hosts + (size_t)w->comm->rank * HOST_BYTES;
    gethostname(own, HOST_BYTES - 1);
    return lks_comm_check_mpi(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, w->hosts,
                                            HOST_BYTES, MPI_BYTE, w->comm->mpi),
                              "MPI_Allgather");
}

/* Whom this rank watches: rank 0 all of them, the others rank 0; without connections itself. */
static void fill_table(lks_guard *w, double timeout) {
    int rank = w->comm->rank, first = w->links ? 0 : rank;
    bool all = w->links && rank == 0;
    w->seen.count = all ? w->comm->size : 1;
    w->seen.timeout = timeout;
    w->seen.judges_progress = all || !w->links;
    w->interval = timeout / 20 < 0.05 ? 0.05 : timeout / 20 > 1 ? 1 : timeout / 20;
    for (int i = 0; i < w->seen.count; i++)
        w->seen.ranks[i] = (lks_guarded){.rank = first + i, .host = host_of(w, first + i)};
    bool with_rank_0 = strcmp(host_of(w, rank), host_of(w, 0)) == 0;
    w->tells = w->comm->local_rank == (with_rank_0 ? 1 : 0);
}

/* Without connections the ranks can still watch themselves. Collective. */
static lks_status connect_ranks(lks_guard *w, const lks_logger *logger) {
    lks_status status = w->comm->size > 1 ? lks_links_open(w->comm, w->links) : LKS_OK;
    w->link_count = w->comm->size == 1 ? 0 : w->comm->rank == 0 ? w->comm->size : 1;
    if (status == LKS_OK && w->comm->size > 1) return LKS_OK;
    for (int i = 0; i < w->link_count; i++)
        lks_link_close(&w->links[i]);
    free(w->links);
    w->links = NULL;
    w->link_count = 0;
    if (w->comm->size > 1)
        lks_log(logger, LKS_LOG_WARNING,
                "the ranks watch each only for itself, and cannot say who is missing: %s",
                lks_last_error());
    return LKS_OK;
}

static void stop_thread(lks_guard *w, order order) {
    const uint64_t ring = 1;
    atomic_store(&w->order, order);
    (void)!write(w->bell, &ring, sizeof ring);
    pthread_join(w->thread, NULL);
}

/* Collective. */
static lks_status start_thread(lks_guard *w, double timeout) {
    fill_table(w, timeout);
    lks_status started = lks_thread_start(stand_guard, w, &w->thread);
    lks_status status = lks_comm_agree(w->comm, started);
    if (status == LKS_OK || started != LKS_OK) return status;
    atomic_store(&w->closing, true);
    stop_thread(w, STOP);
    return status;
}

lks_status lks_guard_create(lks_comm *comm, const lks_guard_config *config,
                            const lks_logger *logger, lks_guard **out) {
    *out = NULL;
    double timeout = config->timeout;
    lks_status status = lks_comm_broadcast(comm, &timeout, sizeof timeout, 0);
    if (status != LKS_OK || !(timeout > 0)) return status;
    lks_guard *w = NULL;
    status = lks_comm_agree(comm, config->tell && config->end
                                      ? allocate(comm, config, &w)
                                      : lks_fail(LKS_EINVAL, "the guard: tell and end are needed"));
    if (status == LKS_OK) status = share_hosts(w);
    if (status == LKS_OK) status = connect_ranks(w, logger);
    if (status == LKS_OK) status = start_thread(w, timeout);
    if (status != LKS_OK) {
        free_guard(w);
        return status;
    }
    lks_comm_set_guard(comm, w);
    *out = w;
    return LKS_OK;
}

void lks_guard_destroy(lks_guard *w) {
    if (!w) return;
    atomic_store(&w->closing, true);
    (void)lks_comm_barrier(w->comm); /* from here on nobody minds a closed connection */
    lks_comm_set_guard(w->comm, NULL);
    stop_thread(w, STOP);
    free_guard(w);
}

void lks_guard_abandon(lks_guard *w) {
    if (w) stop_thread(w, ABANDON);
}
