#include "device/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/backend.h"

enum { MAX_DEPTH = 16, BANKS = 2, BANK_BITS = 1 };

const char *const lks_phase_names[LKS_PHASE_COUNT] = {"other",    "input",     "forward",
                                                      "backward", "optimizer", "communication"};

/* From here to the next mark of the step the time belongs to this slot. */
typedef struct mark {
    lks_event *event;
    int slot;
} mark;

typedef struct transfer {
    lks_event *begin, *end;
    int kind;
    int64_t bytes;
    bool begun, ended;
} transfer;

/* The marks of one step. Its events are used again two steps later: by then they have passed, or
 * the host was too far ahead anyway. */
typedef struct bank {
    mark *marks;
    int mark_count, mark_capacity;
    transfer *transfers;
    int transfer_count, transfer_capacity;
} bank;

struct lks_trace {
    lks_device *device;
    int layer_count;
    double *seconds; /* [LKS_PHASE_COUNT][1 + layer_count] */
    int64_t steps;
    lks_trace_transfers transfers[LKS_TRACE_TRANSFER_KINDS];
    double covered; /* seconds from the begin of the step that is added up next: until then
                       transfers of the step before it were under way */
    bank banks[BANKS];
    int current;
    bool in_step;
    double processor[LKS_PHASE_COUNT]; /* of a host's thread */
    int phase;                         /* of the innermost span ... */
    double entered;                    /* ... since this time of the thread's clock */
    int stack[MAX_DEPTH];              /* slots of the open spans */
    int depth;           /* may exceed MAX_DEPTH: deeper spans belong to the last one that fits */
    lks_failure failure; /* after which no marks are made */
};

/* ---- life ---- */

lks_status lks_trace_create(lks_device *device, int layer_count, lks_trace **out) {
    lks_trace *trace = calloc(1, sizeof *trace);
    double *seconds = calloc((size_t)LKS_PHASE_COUNT * (size_t)(layer_count + 1), sizeof *seconds);
    if (!trace || !seconds) {
        free(trace);
        free(seconds);
        return lks_fail(LKS_ENOMEM, "the profile of %d layers: out of host memory", layer_count);
    }
    trace->device = device;
    trace->layer_count = layer_count;
    trace->seconds = seconds;
    *out = trace;
    return LKS_OK;
}

static void free_bank(bank *bank) {
    for (int i = 0; i < bank->mark_capacity; i++)
        lks_event_destroy(bank->marks[i].event);
    for (int i = 0; i < bank->transfer_capacity; i++) {
        lks_event_destroy(bank->transfers[i].begin);
        lks_event_destroy(bank->transfers[i].end);
    }
    free(bank->marks);
    free(bank->transfers);
}

void lks_trace_destroy(lks_trace *trace) {
    if (!trace) return;
    if (trace->device->trace == trace) trace->device->trace = NULL;
    for (int b = 0; b < BANKS; b++)
        free_bank(&trace->banks[b]);
    free(trace->seconds);
    free(trace);
}

void lks_device_set_trace(lks_device *device, lks_trace *trace) {
    device->trace = trace;
}

bool lks_device_is_traced(const lks_device *device) {
    return device && device->trace;
}

/* ---- making marks ----
 *
 * Where it fails, a step goes on without marks; who reads the trace is told why. */

/* `elements` with room for one more behind `count`; new ones are zero. NULL: they are as they were.
 */
static void *grow(void *elements, int count, int *capacity, size_t bytes) {
    enum { FIRST = 64 };
    if (count < *capacity) return elements;
    const int larger = *capacity ? 2 * *capacity : FIRST;
    char *grown = realloc(elements, (size_t)larger * bytes);
    if (!grown) {
        lks_fail(LKS_ENOMEM, "the marks of a profile: out of host memory");
        return NULL;
    }
    memset(grown + (size_t)*capacity * bytes, 0, (size_t)(larger - *capacity) * bytes);
    *capacity = larger;
    return grown;
}

static lks_status record(lks_trace *trace, lks_event **event, lks_stream_name stream) {
    lks_status status = *event ? LKS_OK : lks_event_create_timed(trace->device, event);
    return status ? status : lks_event_record(*event, lks_device_stream(trace->device, stream));
}

/* The thread's clock is a call of the system, so only the phases have it, not the layers. */
static void enter_phase(lks_trace *trace, int phase) {
    if (!lks_device_is_host(trace->device)) return;
    const double now = lks_clock_thread_seconds();
    trace->processor[trace->phase] += now - trace->entered;
    trace->phase = phase;
    trace->entered = now;
}

/* The innermost span has changed. */
static void put_mark(lks_trace *trace) {
    bank *bank = &trace->banks[trace->current];
    const int top = trace->depth < MAX_DEPTH ? trace->depth : MAX_DEPTH;
    const int slot = top > 0 ? trace->stack[top - 1] : 0, phase = slot / (trace->layer_count + 1);
    if (phase != trace->phase) enter_phase(trace, phase);
    if (trace->failure.status) return;
    mark *marks = grow(bank->marks, bank->mark_count, &bank->mark_capacity, sizeof *marks);
    if (!marks) {
        lks_failure_note(&trace->failure, LKS_ENOMEM);
        return;
    }
    bank->marks = marks;
    mark *next = &marks[bank->mark_count];
    next->slot = slot;
    lks_status status = record(trace, &next->event, LKS_STREAM_COMPUTE);
    if (!status) bank->mark_count++;
    lks_failure_note(&trace->failure, status);
}

/* ---- adding up ---- */

/* Of the time from begin to end, what lies behind `covered`, until which some transfer was under
 * way. */
static void add_uncovered(double begin, double end, double *covered, double *seconds) {
    if (begin < *covered) begin = *covered;
    if (end <= begin) return;
    *seconds += end - begin;
    *covered = end;
}

/* When the step's last mark came, and the first one of the step behind it, INFINITY where there is
 * none: since its first mark. */
static lks_status find_ends(const lks_trace *trace, const bank *bank, double *out_end,
                            double *out_next) {
    const struct bank *next = &trace->banks[1 - (bank - trace->banks)];
    lks_event *first = bank->marks[0].event;
    lks_status status = lks_event_seconds(first, bank->marks[bank->mark_count - 1].event, out_end);
    *out_next = INFINITY;
    if (status || next->mark_count == 0) return status;
    status = lks_event_synchronize(next->marks[0].event);
    return status ? status : lks_event_seconds(first, next->marks[0].event, out_next);
}

/* A transfer may go on in the next step; between two steps no time counts. */
static lks_status add_transfers(lks_trace *trace, const bank *bank) {
    double step_end, next_begin, covered = trace->covered;
    lks_status status = find_ends(trace, bank, &step_end, &next_begin);
    if (status) return status;
    trace->covered = 0;
    for (int i = 0; i < bank->transfer_count; i++) {
        const transfer *moved = &bank->transfers[i];
        double begin, end;
        if (!moved->begun || !moved->ended) continue;
        status = lks_event_synchronize(moved->end);
        if (!status) status = lks_event_seconds(bank->marks[0].event, moved->begin, &begin);
        if (!status) status = lks_event_seconds(bank->marks[0].event, moved->end, &end);
        if (status) return status;
        lks_trace_transfers *sum = &trace->transfers[moved->kind];
        sum->count++;
        sum->bytes += moved->bytes;
        add_uncovered(begin, end < step_end ? end : step_end, &covered, &sum->seconds);
        add_uncovered(begin - next_begin, end - next_begin, &trace->covered, &sum->seconds);
    }
    return LKS_OK;
}

/* Adds a finished step's marks to the sums. */
static void settle(lks_trace *trace, bank *bank) {
    if (bank->mark_count == 0 || trace->failure.status) return;
    lks_status status = lks_event_synchronize(bank->marks[bank->mark_count - 1].event);
    for (int i = 0; i + 1 < bank->mark_count && !status; i++) {
        double seconds = 0;
        status = lks_event_seconds(bank->marks[i].event, bank->marks[i + 1].event, &seconds);
        trace->seconds[bank->marks[i].slot] += seconds;
    }
    if (!status) status = add_transfers(trace, bank);
    trace->steps++;
    bank->mark_count = bank->transfer_count = 0;
    lks_failure_note(&trace->failure, status);
}

static lks_status settle_all(lks_trace *trace) {
    for (int b = 1; b <= BANKS; b++) /* the older one first */
        settle(trace, &trace->banks[(trace->current + b) % BANKS]);
    return lks_failure_tell(&trace->failure);
}

/* ---- spans ---- */

/* The device's trace where a step is under way, else NULL. */
static lks_trace *active(const lks_device *device) {
    return device && device->trace && device->trace->in_step ? device->trace : NULL;
}

static void open_span(lks_trace *trace, int slot, const char *name) {
    const lks_range_ops *ranges = trace->device->backend->ranges;
    if (trace->depth < MAX_DEPTH) trace->stack[trace->depth] = slot;
    trace->depth++;
    put_mark(trace);
    if (ranges) ranges->push(name);
}

static void close_span(lks_trace *trace) {
    const lks_range_ops *ranges = trace->device->backend->ranges;
    if (ranges) ranges->pop();
    trace->depth--;
    put_mark(trace);
}

void lks_trace_begin_step(lks_device *device) {
    lks_trace *trace = device->trace;
    if (!trace) return;
    trace->current = (trace->current + 1) % BANKS;
    settle(trace, &trace->banks[trace->current]);
    trace->in_step = true;
    trace->depth = 0;
    trace->phase = LKS_PHASE_OTHER;
    trace->entered = lks_clock_thread_seconds();
    open_span(trace, LKS_PHASE_OTHER * (trace->layer_count + 1), "step");
}

void lks_trace_end_step(lks_device *device) {
    lks_trace *trace = active(device);
    if (!trace) return;
    while (trace->depth > 0)
        close_span(trace);
    enter_phase(trace, LKS_PHASE_OTHER);
    trace->in_step = false;
}

void lks_trace_enter(lks_device *device, lks_phase phase, int layer, const char *name) {
    lks_trace *trace = active(device);
    if (trace) open_span(trace, (int)phase * (trace->layer_count + 1) + 1 + layer, name);
}

void lks_trace_leave(lks_device *device) {
    lks_trace *trace = active(device);
    if (trace) close_span(trace);
}

/* ---- transfers ---- */

/* A transfer's number says where it stands: its index from 1, and the bank. */
int64_t lks_trace_begin_transfer(lks_device *device, int kind, int64_t bytes) {
    lks_trace *trace = active(device);
    if (!trace || trace->failure.status) return 0;
    bank *bank = &trace->banks[trace->current];
    transfer *transfers =
        grow(bank->transfers, bank->transfer_count, &bank->transfer_capacity, sizeof *transfers);
    if (!transfers) {
        lks_failure_note(&trace->failure, LKS_ENOMEM);
        return 0;
    }
    bank->transfers = transfers;
    transfer *next = &transfers[bank->transfer_count++];
    next->kind = kind;
    next->bytes = bytes;
    next->ended = false;
    lks_status status = record(trace, &next->begin, LKS_STREAM_COMM);
    next->begun = status == LKS_OK;
    lks_failure_note(&trace->failure, status);
    return (int64_t)bank->transfer_count << BANK_BITS | trace->current;
}

void lks_trace_end_transfer(lks_device *device, int64_t number) {
    lks_trace *trace = device ? device->trace : NULL;
    if (!trace || !number || trace->failure.status) return;
    const bank *bank = &trace->banks[number % BANKS];
    const int index = (int)(number >> BANK_BITS) - 1;
    if (index >= bank->transfer_count) return; /* its step has been added up without it */
    transfer *moved = &bank->transfers[index];
    lks_status status = record(trace, &moved->end, LKS_STREAM_COMM);
    moved->ended = status == LKS_OK;
    lks_failure_note(&trace->failure, status);
}

/* ---- results ---- */

lks_status lks_trace_read(lks_trace *trace, lks_trace_result *out) {
    lks_status status = settle_all(trace);
    *out = (lks_trace_result){.steps = trace->steps};
    memcpy(out->transfers, trace->transfers, sizeof out->transfers);
    memcpy(out->processor, trace->processor, sizeof out->processor);
    for (int phase = 0; phase < LKS_PHASE_COUNT; phase++) {
        for (int layer = LKS_TRACE_NO_LAYER; layer < trace->layer_count; layer++)
            out->phases[phase] += lks_trace_layer_seconds(trace, (lks_phase)phase, layer);
        out->step += out->phases[phase];
    }
    return status;
}

double lks_trace_layer_seconds(const lks_trace *trace, lks_phase phase, int layer) {
    return trace->seconds[(int)phase * (trace->layer_count + 1) + 1 + layer];
}

lks_status lks_trace_reset(lks_trace *trace) {
    lks_status status = settle_all(trace);
    memset(trace->seconds, 0,
           (size_t)LKS_PHASE_COUNT * (size_t)(trace->layer_count + 1) * sizeof *trace->seconds);
    memset(trace->transfers, 0, sizeof trace->transfers);
    memset(trace->processor, 0, sizeof trace->processor);
    trace->steps = 0;
    return status;
}
