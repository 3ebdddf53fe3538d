/* One compute device: memory, streams, losses, optimizer updates; op.h has the operations of
 * layers. Everything above this room is written once for every device.
 *
 * A device executes calls in the order of their stream; a call returns when the work is queued (the
 * CPU back end: when it is done). Pointers named x, y, dx, ... are device memory of this device.
 * Calls on one device come from one thread at a time.
 *
 * Layout of activations. A batch is [batch, ...sample shape...]. LKS_LAYOUT_ROWS is the logical
 * order, row-major. Samples of rank 3 ([channels, height, width]) may instead be
 * LKS_LAYOUT_CHANNELS_LAST: stored as [batch, height, width, channels]. Convolution, pooling and 2d
 * batch norm work on channels-last; parameters always have PyTorch's logical, row-major shape.
 */
#ifndef LKS_DEVICE_H
#define LKS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

typedef struct lks_device lks_device;
typedef struct lks_stream lks_stream; /* owned by the device */
typedef struct lks_event lks_event;

typedef enum lks_layout { LKS_LAYOUT_ROWS, LKS_LAYOUT_CHANNELS_LAST } lks_layout;

/* ---- the device ---- */

/* In what activations, gradients and the parameters that layers compute with are kept, and products
 * are computed. Master parameters, optimizer states and sums are float32 or better with all. */
typedef enum lks_precision {
    LKS_PRECISION_FP32,
    LKS_PRECISION_TF32, /* float32 in memory; the factors of products are rounded to 10 bits */
    LKS_PRECISION_BF16
} lks_precision;

/* "fp32", "tf32", "bf16", NULL: in the order of lks_precision. */
extern const char *const lks_precision_names[];
/* NULL: fp32. LKS_EINVAL for a name that is none of them. */
lks_status lks_precision_by_name(const char *name, lks_precision *out);

typedef struct lks_device_config {
    const char
        *kind;      /* "auto", "cpu", "cuda"; auto takes a GPU if this build and machine have one */
    int threads;    /* CPU: threads of this rank; 0: as many as its share of the cores
                       (lks_threads_per_rank) */
    int local_rank; /* this rank's place on its host, chooses the GPU */
    int local_size; /* ranks on this host */
    lks_precision precision;
    const lks_logger *logger; /* borrowed for the device's life */
} lks_device_config;
#define LKS_DEVICE_CONFIG_DEFAULT \
    { .kind = "auto", .local_size = 1 }

/* Returns LKS_EINVAL for an unknown kind (naming the known ones), LKS_EUNSUPPORTED for one not
 * built in, LKS_EDEVICE where the device cannot be opened, LKS_ENOMEM. */
lks_status lks_device_create(const lks_device_config *config, lks_device **out);
void lks_device_destroy(lks_device *device);

const char *lks_device_kind(const lks_device *device); /* "cpu" */
/* One line for the start-up table: "AMD EPYC, 2 threads, oneDNN 2.6". Static for the device's life.
 */
const char *lks_device_description(const lks_device *device);
int lks_device_threads(const lks_device *device);
/* Where it sits in its host, as "0000:3B:00.0": ranks of a host with the same place share it. NULL:
 * it is the host. */
const char *lks_device_place(const lks_device *device);
lks_precision lks_device_precision(const lks_device *device);
/* What activations and parameters are: LKS_F32, or LKS_BF16 with LKS_PRECISION_BF16. */
lks_dtype lks_device_dtype(const lks_device *device);
/* Does host code read this device's memory directly? */
bool lks_device_is_host(const lks_device *device);

/* ---- memory: 64-byte aligned (CPU), zero-length is legal and gives a non-NULL pointer ---- */

lks_status lks_device_alloc(lks_device *device, size_t bytes, void **out);
/* All that lks_device_alloc has handed out so far, also what was freed since: the difference over a
 * piece of work says what that took. */
size_t lks_device_allocated_bytes(const lks_device *device);
void lks_device_free(lks_device *device, void *memory); /* NULL is legal */
/* Host memory from which copies to the device are fast (pinned, on a GPU). */
lks_status lks_device_alloc_host(lks_device *device, size_t bytes, void **out);
void lks_device_free_host(lks_device *device, void *memory);
/* Bytes of the device's memory that nobody uses; INT64_MAX: unknown. Where lks_device_is_host, the
 * host's (lks_memory_available). LKS_EDEVICE. */
lks_status lks_device_available(lks_device *device, int64_t *out);
/* From now on memory of both kinds is counted and has an address, but nothing stands there: copies
 * and zeroing go nowhere. What is built on the device tells what it needs, whether there is room
 * for it or not, and must never run. Before the first allocation. */
void lks_device_measure(lks_device *device);
bool lks_device_is_measuring(const lks_device *device);
/* All that lks_device_alloc_host has handed out so far while the device measures, as
 * lks_device_allocated_bytes. */
size_t lks_device_measured_host_bytes(const lks_device *device);
/* Is this memory of the device, which host code cannot read? Never so where lks_device_is_host. */
bool lks_device_holds(const lks_device *device, const void *memory);

typedef enum lks_copy_kind {
    LKS_COPY_TO_DEVICE,
    LKS_COPY_TO_HOST,
    LKS_COPY_ON_DEVICE
} lks_copy_kind;
lks_status lks_device_copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                           size_t bytes, lks_copy_kind kind);
lks_status lks_device_zero(lks_device *device, lks_stream *stream, void *memory, size_t bytes);

/* ---- streams and events: every crossing between streams is one of these calls ---- */

typedef enum lks_stream_name {
    LKS_STREAM_COMPUTE,
    LKS_STREAM_COMM,
    LKS_STREAM_COPY, /* batches to the device */
    LKS_STREAM_SAVE, /* the state to the host; long copies, which no batch should wait behind */
    LKS_STREAM_COUNT
} lks_stream_name;

lks_stream *lks_device_stream(lks_device *device, lks_stream_name name);
lks_status lks_event_create(lks_device *device, lks_event **out);
/* An event that keeps the time of its last record: when what was queued before it was done. */
lks_status lks_event_create_timed(lks_device *device, lks_event **out);
void lks_event_destroy(lks_event *event);
/* The event completes when everything queued on `stream` so far is done. */
lks_status lks_event_record(lks_event *event, lks_stream *stream);
/* What is queued on `stream` from now on starts after the event's last record. */
lks_status lks_stream_wait(lks_stream *stream, lks_event *event);
/* Has all that the event stands for been done? */
lks_status lks_event_query(lks_event *event, bool *out);
/* Blocks the host until the stream, or the event, is done. */
lks_status lks_stream_synchronize(lks_stream *stream);
lks_status lks_event_synchronize(lks_event *event);
/* From one timed event to another, both of which have completed. LKS_EDEVICE. */
lks_status lks_event_seconds(lks_event *from, lks_event *to, double *out);
/* Who looks meanwhile at what a queue may wait for: other ranks. In the thread that waits. */
typedef struct lks_device_watch {
    /* Again and again while the host waits for the device, `seconds` after that wait began;
     * anything but LKS_OK ends the wait with that status. NULL: the host waits for as long as it
     * takes. */
    lks_status (*look)(void *data, double seconds);
    void (*done)(void *data); /* when such a wait is over */
    void *data;
} lks_device_watch;
void lks_device_set_watch(lks_device *device, lks_device_watch watch);
/* What else the thread that computes has to look after: called in the middle of operations and
 * after each, where the host computes itself and so nothing else runs on its core. NULL: nothing.
 */
typedef void (*lks_device_poll_fn)(void *data);
void lks_device_set_poll(lks_device *device, lks_device_poll_fn poll, void *data);
/* The stream by the name of the device's maker (cudaStream_t), for a library that queues work of
 * its own; NULL on the CPU. */
void *lks_stream_handle(const lks_stream *stream);

/* ---- recordings ----
 *
 * What is queued on a stream between begin and end, and on streams that wait for it, is recorded
 * instead of run. Replaying queues all of it again, with the arguments and addresses of then, for
 * the price of one call. While a stream records, nothing may be allocated, and the host must not
 * wait. */

typedef struct lks_recording lks_recording;

/* False: this device runs what is queued at once, and has nothing to gain. */
bool lks_device_can_record(const lks_device *device);
/* LKS_EUNSUPPORTED, LKS_EDEVICE. */
lks_status lks_recording_begin(lks_stream *stream);
bool lks_stream_is_recording(const lks_stream *stream);
/* Records no more, also where it fails: LKS_EDEVICE where something was queued that cannot be
 * recorded, LKS_ENOMEM. */
lks_status lks_recording_end(lks_stream *stream, lks_recording **out);
lks_status lks_recording_replay(lks_recording *recording, lks_stream *stream);
/* No replay is under way. NULL is legal. */
void lks_recording_destroy(lks_recording *recording);

/* ---- losses ---- */

typedef enum lks_loss_kind {
    LKS_LOSS_CROSS_ENTROPY, /* targets int32 [batch]; width classes */
    LKS_LOSS_MSE,           /* targets float32 [batch, width], here and below */
    LKS_LOSS_L1,
    LKS_LOSS_HUBER,
    LKS_LOSS_BCE_WITH_LOGITS
} lks_loss_kind;

typedef struct lks_loss_desc {
    lks_loss_kind kind;
    int64_t width; /* elements of a sample's output */
    double label_smoothing;
    int64_t ignore_index;
    double delta;
} lks_loss_desc;

/* What a loss adds up, as float64 in this order, on the device. loss / weight is PyTorch's
 * reduction="mean"; correct / counted is the accuracy (classes: argmax == target; bce: (logit > 0)
 * == (target > 0.5) per element; counted stays 0 for regressions). */
typedef enum lks_loss_sum {
    LKS_SUM_LOSS,
    LKS_SUM_WEIGHT,
    LKS_SUM_CORRECT,
    LKS_SUM_COUNTED,
    LKS_LOSS_SUM_COUNT
} lks_loss_sum;

/* Adds this batch's sums to sums[LKS_LOSS_SUM_COUNT]; with dlogits not NULL also writes the
 * gradient of the *summed* loss (not divided by anything; the optimizer divides once by the global
 * weight). logits, dlogits: [batch, width] float32, dlogits may equal logits. Adds in a fixed
 * order: the same bits every time. batch 0 is legal. */
lks_status lks_device_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                           int64_t batch, const float *logits, const void *targets, float *dlogits,
                           double *sums);

/* ---- vectors ---- */

/* to = from as another type: LKS_F32 from LKS_BF16, or the reverse, rounded to the nearest. */
lks_status lks_device_cast(lks_device *device, lks_stream *stream, int64_t count,
                           lks_dtype from_type, const void *from, lks_dtype to_type, void *to);
/* y += x in float32, rounded once (for gradients). Each LKS_F32 or LKS_BF16. */
lks_status lks_device_add(lks_device *device, lks_stream *stream, int64_t count, lks_dtype x_type,
                          const void *x, lks_dtype y_type, void *y);

typedef enum lks_norm_kind {
    LKS_NORM_1,  /* sum |x| */
    LKS_NORM_2,  /* sum x^2: the square of the norm, so that parts can be added */
    LKS_NORM_INF /* max |x| */
} lks_norm_kind;

/* One part of a vector's norm: adds sum |x| or sum x^2 of x[count], LKS_F32 or LKS_BF16, to *norm
 * (device memory, float64, set by the caller before the first part), or raises it to max |x|. Sums
 * in float64 over fixed blocks: the same bits for any number of threads. NaN and infinities show in
 * the result. count 0 changes nothing. */
lks_status lks_device_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind,
                           int64_t count, lks_dtype type, const void *x, double *norm);

/* ---- optimizer updates: one pass over param, grad and states ----
 *
 * Each works on `count` elements, float32 where nothing else is said. The gradient used is grad *
 * grad_scale / *divisor (divisor: device memory, float64: the global weight of the batch), clamped
 * to [-clip_value, clip_value] unless clip_value is 0 or INFINITY; `maximize` negates it. NaN stays
 * NaN. PyTorch 2.x's update rules in float32, with the scalars computed in double. */
typedef struct lks_update {
    int64_t count;
    float *param;
    const void *grad;
    lks_dtype grad_type; /* LKS_F32 (0) or LKS_BF16 */
    void *copy; /* bfloat16 [count]: gets the updated parameters, rounded; NULL: not wanted */
    const double *divisor;
    double grad_scale, clip_value;
    double lr, weight_decay;
    bool maximize;
    int64_t step; /* of this parameter, the first update is step 1 */
    /* Device memory, read when the update runs: what is decided on the device need not come back
     * from it, and a captured step has its own numbers each time it is replayed. NULL: as above. */
    const double *rates; /* [2]: lr; momentum (adam: beta1), NAN for the configured one */
    const struct lks_update_control *control; /* grad_scale and step; or nothing is updated */
} lks_update;

/* Whether and how a step updates; set by lks_device_decide. */
typedef struct lks_update_control {
    int64_t step;      /* updates made, this one included where there is one */
    int64_t skip;      /* 1: not this time */
    int64_t failed;    /* 1: because a rank has failed */
    double grad_scale; /* 1, or less where the norm is clipped */
    double norm;       /* of the gradients of the mean loss */
} lks_update_control;

typedef struct lks_sgd_update {
    double momentum, dampening;
    bool nesterov;
    float *momentum_buffer; /* NULL when momentum == 0 */
} lks_sgd_update;

typedef struct lks_adam_update {
    double beta1, beta2, eps;
    bool decoupled; /* AdamW */
    float *exp_avg, *exp_avg_sq;
    float *max_exp_avg_sq; /* amsgrad, else NULL */
} lks_adam_update;

typedef struct lks_rmsprop_update {
    double alpha, eps, momentum;
    float *square_avg;
    float *grad_avg;        /* centered, else NULL */
    float *momentum_buffer; /* NULL when momentum == 0 */
} lks_rmsprop_update;

typedef struct lks_adagrad_update {
    double lr_decay, eps;
    float *sum;
} lks_adagrad_update;

/* What moves on from step to step, in device memory: work that is queued again (lks_recording)
 * finds its own numbers there. */
typedef struct lks_step_counters {
    int64_t step;            /* of the whole run: dropout */
    int64_t batches_tracked; /* training batches before this step: batch norm with momentum < 0 */
    int64_t updates;         /* of the optimizer, before this step */
} lks_step_counters;

/* What lks_device_decide knows of a step. */
typedef struct lks_decision {
    lks_norm_kind norm_kind;
    double clip_norm; /* torch.nn.utils.clip_grad_norm_'s max_norm; 0: no clipping */
    /* Device memory. */
    const double *parts; /* [2]: what lks_device_norm made of all gradients' sums; more than 0 where
                            a rank has failed */
    const double *sums;  /* lks_loss_sum of the step */
    double *totals;      /* grow by sums, unless the step is skipped */
    const lks_step_counters *counters;
} lks_decision;

/* Decides on the device: *control (device memory) says that the step is skipped where a rank has
 * failed, or its loss or norm is not finite, and otherwise counts it and clips. */
lks_status lks_device_decide(lks_device *device, lks_stream *stream, const lks_decision *decision,
                             lks_update_control *control);

lks_status lks_device_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                          const lks_sgd_update *sgd);
lks_status lks_device_adam(lks_device *device, lks_stream *stream, const lks_update *update,
                           const lks_adam_update *adam);
lks_status lks_device_rmsprop(lks_device *device, lks_stream *stream, const lks_update *update,
                              const lks_rmsprop_update *rmsprop);
lks_status lks_device_adagrad(lks_device *device, lks_stream *stream, const lks_update *update,
                              const lks_adagrad_update *adagrad);

/* ---- threads of a rank (CPU) ---- */

/* How many threads each rank of a host gets when `local_size` ranks share it: the cores that this
 * rank is bound to, divided among the ranks bound to the same cores. masks: [local_size][words] bit
 * masks of every local rank's cores. At least 1. */
int lks_threads_per_rank(const uint64_t *masks, int words, int local_rank, int local_size);

#endif
