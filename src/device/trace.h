/* Where the time of training steps goes.
 *
 * A trace keeps marks on the compute stream's timeline: the clock on a CPU, events on a GPU, which
 * are read when they have long passed, so that nothing waits for them. The time between two marks
 * belongs to the innermost span that was open between them; so the spans of a step add up to the
 * step, and what is nested (a layer in a phase, communication in a layer) counts once.
 *
 * Every room enters and leaves spans through the device that it works on. Where that has no trace,
 * a span costs one comparison.
 */
#ifndef LKS_DEVICE_TRACE_H
#define LKS_DEVICE_TRACE_H

#include "device/device.h"

typedef enum lks_phase {
    LKS_PHASE_OTHER, /* of a step, outside of the others */
    LKS_PHASE_INPUT, /* waiting for samples, and their way to the device */
    LKS_PHASE_FORWARD,
    LKS_PHASE_BACKWARD,
    LKS_PHASE_OPTIMIZER, /* the norm of the gradients and the update */
    LKS_PHASE_COMM,      /* communication that computing waits for, or that takes its place */
    LKS_PHASE_COUNT
} lks_phase;
extern const char *const lks_phase_names[LKS_PHASE_COUNT]; /* "other", "input" ... */

enum { LKS_TRACE_NO_LAYER = -1, LKS_TRACE_TRANSFER_KINDS = 8 };

typedef struct lks_trace lks_trace;

/* For a model of so many layers. LKS_ENOMEM. */
lks_status lks_trace_create(lks_device *device, int layer_count, lks_trace **out);
/* Detaches it first. NULL is legal. */
void lks_trace_destroy(lks_trace *trace);
/* The trace that follows the device's work from now on; NULL: none. Between two steps. */
void lks_device_set_trace(lks_device *device, lks_trace *trace);
bool lks_device_is_traced(const lks_device *device);

/* ---- spans: nothing happens where the device is NULL or has no trace, nor outside of a step ----
 */

void lks_trace_begin_step(lks_device *device);
void lks_trace_end_step(lks_device *device);
/* layer: LKS_TRACE_NO_LAYER or its index. name: of the range that profilers of the device show,
 * where it has such. Every enter has its leave. */
void lks_trace_enter(lks_device *device, lks_phase phase, int layer, const char *name);
void lks_trace_leave(lks_device *device);

/* ---- transfers: they go on beside the spans, on the communication stream's timeline ---- */

/* Begins a transfer of a kind below LKS_TRACE_TRANSFER_KINDS, which its sender defines. Returns its
 * number, 0 where nothing is traced; a transfer ends once, in this step or the next. */
int64_t lks_trace_begin_transfer(lks_device *device, int kind, int64_t bytes);
void lks_trace_end_transfer(lks_device *device, int64_t transfer);

/* ---- results ---- */

typedef struct lks_trace_transfers {
    int64_t count, bytes;
    double seconds; /* under way during steps, where several are at a time counted for the first */
} lks_trace_transfers;

/* Sums over all steps since the last reset, in seconds. */
typedef struct lks_trace_result {
    int64_t steps;
    double step;
    double phases[LKS_PHASE_COUNT]; /* they add up to `step` */
    /* Of `phases`, how long the thread that makes the steps had a core: less where threads share
     * cores. On a CPU; 0 on a GPU, whose host runs ahead of it. */
    double processor[LKS_PHASE_COUNT];
    lks_trace_transfers transfers[LKS_TRACE_TRANSFER_KINDS];
} lks_trace_result;

/* Between two steps; waits for the device. LKS_EDEVICE, LKS_ENOMEM: a mark could not be made. */
lks_status lks_trace_read(lks_trace *trace, lks_trace_result *out);
/* As of the last read. */
double lks_trace_layer_seconds(const lks_trace *trace, lks_phase phase, int layer);
/* Forgets all steps so far. Errors as lks_trace_read. */
lks_status lks_trace_reset(lks_trace *trace);

#endif
