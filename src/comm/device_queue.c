#include "comm/device_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watch.h"
#include "device/trace.h"

enum {
    /* So many requests are there before one is used again: mostly the device is done with it then,
     * and need not be asked often. */
    KEPT_REQUESTS = 32
};

typedef struct device_request {
    lks_request base;
    lks_event *filled; /* on the compute stream: the data are there */
    lks_event *done;   /* on the communication stream */
    int64_t number;    /* of this rank's collectives on device memory, from 1; 0: not used yet, or
                          recorded, so that its events tell nothing */
    lks_collective kind;
    size_t bytes;
    const char *label;
    int64_t label_number;
    struct device_request *made_before;
} device_request;

typedef struct lks_device_queue {
    lks_stream *compute, *communication;
    lks_request *idle, *idle_last; /* the longest idle one first */
    device_request *all;
    int request_count;
    int64_t queued;   /* collectives so far */
    int64_t recorded; /* collectives so far */
} lks_device_queue;

/* ---- requests ---- */

static lks_status create_request(lks_comm *comm, device_request **out) {
    lks_device_queue *queue = comm->queue;
    device_request *request = calloc(1, sizeof *request);
    if (!request) return lks_fail(LKS_ENOMEM, "out of memory for a collective");
    request->base.on_device = true;
    request->made_before = queue->all;
    queue->all = request;
    queue->request_count++;
    *out = request;
    lks_status status = lks_event_create(comm->device, &request->filled);
    return status == LKS_OK ? lks_event_create(comm->device, &request->done) : status;
}

/* Of a device that has failed nothing is known. */
static bool is_done(lks_event *event) {
    bool done;
    return lks_event_query(event, &done) != LKS_OK || done;
}

/* May the longest idle request be used again? Not before the device is done with it: its events
 * tell, after a failure, which collective is unfinished. A recorded one's tell nothing, and while a
 * recording is made none may be asked. */
static bool may_reuse(const lks_device_queue *queue) {
    const device_request *oldest = (const device_request *)queue->idle;
    if (!oldest || queue->request_count < KEPT_REQUESTS) return false;
    return oldest->number == 0 ||
           (!lks_stream_is_recording(queue->compute) && is_done(oldest->done));
}

static lks_status take_request(lks_comm *comm, device_request **out) {
    lks_device_queue *queue = comm->queue;
    if (!may_reuse(queue)) return create_request(comm, out);
    *out = (device_request *)queue->idle;
    queue->idle = queue->idle->next;
    return LKS_OK;
}

static void give_back_request(lks_device_queue *queue, lks_request *request) {
    request->next = NULL;
    *(queue->idle ? &queue->idle_last->next : &queue->idle) = request;
    queue->idle_last = request;
}

static void destroy_requests(lks_device_queue *queue) {
    while (queue->all) {
        device_request *request = queue->all;
        queue->all = request->made_before;
        lks_event_destroy(request->filled);
        lks_event_destroy(request->done);
        free(request);
    }
}

static void describe(const device_request *request, char *text, size_t bytes) {
    char size[LKS_BYTES_TEXT_BYTES], number[24] = "";
    if (request->label_number >= 0)
        snprintf(number, sizeof number, " %lld", (long long)request->label_number);
    snprintf(text, bytes, "%s of %s%s%s%s", lks_collective_name(request->kind),
             lks_bytes_text(request->bytes, size), request->label ? ", " : "",
             request->label ? request->label : "", request->label ? number : "");
}

static void add_place(lks_status status, const device_request *request) {
    char what[LKS_ERROR_BYTES];
    describe(request, what, sizeof what);
    lks_fail_in(status, "%s", what);
}

/* ---- collectives ---- */

bool lks_device_queue_takes(const lks_comm *comm, const lks_comm_call *call) {
    return comm->queue && call->data && lks_device_holds(comm->device, call->data) &&
           comm->device_ops->takes(comm, call);
}

static lks_status enqueue(lks_comm *comm, const lks_comm_call *call, device_request *request) {
    lks_device_queue *queue = comm->queue;
    lks_status status = lks_event_record(request->filled, queue->compute);
    if (status == LKS_OK) status = lks_stream_wait(queue->communication, request->filled);
    const int64_t traced =
        lks_trace_begin_transfer(comm->device, (int)call->kind, (int64_t)request->bytes);
    if (status == LKS_OK) status = comm->device_ops->enqueue(comm, call, queue->communication);
    lks_trace_end_transfer(comm->device, traced);
    return status == LKS_OK ? lks_event_record(request->done, queue->communication) : status;
}

lks_status lks_device_queue_start(lks_comm *comm, const lks_comm_call *call, lks_request **out) {
    lks_device_queue *queue = comm->queue;
    device_request *request = NULL;
    lks_status status = take_request(comm, &request);
    if (status == LKS_OK) {
        const bool records = lks_stream_is_recording(queue->compute);
        *(records ? &queue->recorded : &queue->queued) += 1;
        request->number = records ? 0 : queue->queued;
        request->kind = call->kind;
        request->bytes = (size_t)call->count * lks_dtype_bytes(call->dtype);
        request->label = comm->label;
        request->label_number = comm->label_number;
        status = enqueue(comm, call, request);
        if (status != LKS_OK) add_place(status, request);
    }
    if (status != LKS_OK) return lks_watch_fail(comm);
    *out = &request->base;
    return LKS_OK;
}

lks_status lks_device_queue_wait(lks_comm *comm, lks_request *base) {
    const device_request *request = (const device_request *)base;
    lks_status status = lks_watch_status(comm);
    if (status == LKS_OK && lks_stream_wait(comm->queue->compute, request->done) != LKS_OK)
        status = lks_watch_fail(comm);
    give_back_request(comm->queue, base);
    return status;
}

/* ---- how far the device is ---- */

/* The first collective that is not finished; NULL: all are. They are done in the order of their
 * numbers. */
static const device_request *find_unfinished(const lks_device_queue *queue) {
    const device_request *first = NULL;
    for (const device_request *r = queue->all; r; r = r->made_before) {
        if (r->number == 0 || (first && first->number < r->number)) continue;
        if (!is_done(r->done)) first = r;
    }
    return first;
}

lks_queue_state lks_device_queue_state(const lks_comm *comm, char *text, size_t bytes) {
    const lks_device_queue *queue = comm->queue;
    text[0] = '\0';
    if (!queue) return (lks_queue_state){0};
    const device_request *first = find_unfinished(queue);
    if (!first) return (lks_queue_state){queue->queued, queue->queued};
    describe(first, text, bytes);
    return (lks_queue_state){queue->queued, first->number - !is_done(first->filled)};
}

int64_t lks_device_queue_recorded(const lks_comm *comm) {
    return comm->queue->recorded;
}

void lks_device_queue_replayed(lks_comm *comm, int64_t collectives) {
    comm->queue->queued += collectives;
}

/* ---- opening and closing ---- */

/* While the host waits for the device: does the device wait for other ranks? Whoever has work of
 * its own to do there is the one for whom they wait. */
static lks_status look_at_wait(void *data, double seconds) {
    static const double long_seconds = 0.1; /* other waits are too short for anybody to ask */
    lks_comm *comm = data;
    if (seconds > long_seconds) {
        const device_request *first = find_unfinished(comm->queue);
        lks_guard_wait(comm->guard, first && is_done(first->filled));
    }
    return lks_watch_look(comm, seconds);
}

static void end_wait(void *data) {
    const lks_comm *comm = data;
    lks_guard_wait(comm->guard, false);
}

static lks_status create_queue(lks_comm *comm) {
    lks_device_queue *queue = calloc(1, sizeof *queue);
    lks_status status = lks_comm_agree(
        comm, queue ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory for collectives on the device"));
    if (status != LKS_OK) {
        free(queue);
        return status;
    }
    queue->compute = lks_device_stream(comm->device, LKS_STREAM_COMPUTE);
    queue->communication = lks_device_stream(comm->device, LKS_STREAM_COMM);
    comm->queue = queue;
    lks_device_set_watch(comm->device, (lks_device_watch){look_at_wait, end_wait, comm});
    return LKS_OK;
}

/* The first of the back ends that opens. */
static lks_status open_backend(lks_comm *comm) {
    lks_status status = lks_fail(LKS_EUNSUPPORTED, "this build has no NCCL");
    for (int i = 0; lks_comm_device_backends[i]; i++) {
        comm->device_ops = lks_comm_device_backends[i];
        status = comm->device_ops->open(comm);
        if (status == LKS_OK) return LKS_OK;
    }
    comm->device_ops = NULL;
    return status;
}

/* Milliseconds of an all-reduce of `bytes` of device memory through the host; negative where there
 * is no room for them. Collective. */
static double measure_host_path(lks_comm *comm, size_t bytes) {
    enum { RUNS = 3 };
    lks_stream *compute = lks_device_stream(comm->device, LKS_STREAM_COMPUTE);
    void *data = NULL;
    double began = 0;
    lks_status status = lks_device_alloc(comm->device, bytes, &data);
    if (status == LKS_OK) status = lks_device_zero(comm->device, compute, data, bytes);
    status = lks_comm_agree(comm, status);
    for (int run = -1; run < RUNS && status == LKS_OK; run++) { /* the first one allocates */
        if (run == 0) began = lks_clock_seconds();
        status = lks_comm_all_reduce(comm, data, (int64_t)(bytes / sizeof(float)), LKS_F32,
                                     LKS_REDUCE_SUM);
        if (status == LKS_OK) status = lks_stream_synchronize(compute);
    }
    const double seconds = (lks_clock_seconds() - began) / RUNS;
    lks_device_free(comm->device, data);
    return status == LKS_OK ? seconds * 1e3 : -1;
}

static void warn_of_host_path(lks_comm *comm, const char *why) {
    enum { MEASURED_BYTES = 4 << 20 };
    char cost[96] = "", size[LKS_BYTES_TEXT_BYTES], reason[LKS_ERROR_BYTES];
    snprintf(reason, sizeof reason, "%s", why);
    const double ms = measure_host_path(comm, MEASURED_BYTES);
    if (ms >= 0)
        snprintf(cost, sizeof cost, "; an all-reduce of %s takes %.2f ms",
                 lks_bytes_text(MEASURED_BYTES, size), ms);
    lks_log(comm->logger, LKS_LOG_WARNING,
            "%s: gradients and parameters go through the host's memory%s", reason, cost);
}

/* By NCCL's own rule. */
static bool share_gpu(const lks_rank_place *a, const lks_rank_place *b) {
    return a->host == b->host && strcmp(a->gpu, b->gpu) == 0 && strcmp(a->host_id, b->host_id) == 0;
}

/* Two ranks on one GPU, which NCCL refuses; -1: none. */
static int find_shared_gpu(const lks_comm *comm, int *other) {
    const lks_rank_place *places = lks_watch_places(comm);
    for (int a = 0; a < comm->size; a++)
        for (int b = 0; b < a; b++)
            if (share_gpu(&places[a], &places[b])) {
                *other = a;
                return b;
            }
    return -1;
}

static bool all_have_gpus(const lks_comm *comm) {
    for (int r = 0; r < comm->size; r++)
        if (!lks_watch_places(comm)[r].gpu[0]) return false;
    return true;
}

/* All ranks see the same places, and so decide alike. */
lks_status lks_device_queue_open(lks_comm *comm) {
    int other;
    if (!all_have_gpus(comm)) return LKS_OK;
    const int sharing = find_shared_gpu(comm, &other);
    if (sharing >= 0) {
        const lks_rank_place *place = &lks_watch_places(comm)[sharing];
        char why[192];
        snprintf(why, sizeof why, "ranks %d and %d share GPU %s of %s, which NCCL does not allow",
                 sharing, other, place->gpu, place->host_name);
        warn_of_host_path(comm, why);
        return LKS_OK;
    }
    lks_status status = open_backend(comm);
    if (status == LKS_ECOMM) return status;
    if (status != LKS_OK) {
        warn_of_host_path(comm, lks_last_error());
        return LKS_OK;
    }
    status = create_queue(comm);
    if (status == LKS_OK) return LKS_OK;
    comm->device_ops->close(comm);
    comm->device_ops = NULL;
    return status;
}

void lks_device_queue_close(lks_comm *comm) {
    if (!comm->queue) return;
    (void)lks_stream_synchronize(comm->queue->communication);
    lks_device_set_watch(comm->device, (lks_device_watch){0});
    comm->device_ops->close(comm);
    destroy_requests(comm->queue);
    free(comm->queue);
    comm->queue = NULL;
    comm->device_ops = NULL;
}
