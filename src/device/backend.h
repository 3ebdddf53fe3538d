/* What a device back end provides; included by src/device alone. */
#ifndef LKS_DEVICE_BACKEND_H
#define LKS_DEVICE_BACKEND_H

#include "device/op.h"
#include "device/trace.h"

/* How one kind of operation is made and run. A back end's operation embeds lks_op as its first
 * member. The wrappers in op.c have checked: batch within 0 .. max_batch, and the description
 * (lks_op_check). */
typedef struct lks_op_type {
    /* Called by lks_op_make. type: of activations, their gradients and parameters, LKS_F32 or
     * LKS_BF16. To choose among several ways, it makes an operation of another type. */
    lks_status (*create)(lks_device *device, lks_dtype type, const void *desc, int64_t max_batch,
                         lks_op **out);
    lks_status (*forward)(lks_op *op, lks_stream *stream,
                          const lks_op_args *args); /* NULL: nothing to do */
    lks_status (*backward)(lks_op *op, lks_stream *stream, const lks_op_args *args);
    void (*destroy)(lks_op *op);
} lks_op_type;

struct lks_op {
    const lks_op_type *type;
    lks_device *device;
    int64_t max_batch;
    lks_op_needs needs;
};

typedef struct lks_memory_ops {
    lks_status (*alloc)(lks_device *device, size_t bytes, void **out);
    void (*free)(lks_device *device, void *memory);
    lks_status (*alloc_host)(lks_device *device, size_t bytes, void **out);
    void (*free_host)(lks_device *device, void *memory);
    lks_status (*available)(lks_device *device, int64_t *out);   /* NULL: the host's */
    bool (*holds)(const lks_device *device, const void *memory); /* NULL: is_host */
    lks_status (*copy)(lks_device *device, lks_stream *stream, void *to, const void *from,
                       size_t bytes, lks_copy_kind kind);
    lks_status (*zero)(lks_device *device, lks_stream *stream, void *memory, size_t bytes);
} lks_memory_ops;

typedef struct lks_stream_ops {
    lks_stream *(*stream)(lks_device *device, lks_stream_name name);
    lks_status (*event_create)(lks_device *device, bool timed, lks_event **out);
    void (*event_destroy)(lks_event *event);
    lks_status (*event_record)(lks_event *event, lks_stream *stream);
    lks_status (*stream_wait)(lks_stream *stream, lks_event *event);
    lks_status (*stream_synchronize)(lks_stream *stream);
    lks_status (*event_synchronize)(lks_event *event);
    lks_status (*event_seconds)(lks_event *from, lks_event *to, double *out);
    /* NULL: whatever is queued has been done. */
    lks_status (*stream_query)(lks_stream *stream, bool *out);
    lks_status (*event_query)(lks_event *event, bool *out);
    void *(*stream_handle)(const lks_stream *stream); /* NULL: there is none */
    /* All four or none. */
    lks_status (*recording_begin)(lks_stream *stream);
    lks_status (*recording_end)(lks_stream *stream, lks_recording **out);
    lks_status (*recording_replay)(lks_recording *recording, lks_stream *stream);
    void (*recording_destroy)(lks_recording *recording);
} lks_stream_ops;

/* Named, nested ranges of the calling thread, which the device maker's profiler shows. */
typedef struct lks_range_ops {
    void (*push)(const char *name);
    void (*pop)(void);
} lks_range_ops;

/* What device.h says of lks_device_loss, and so on, is said of these. */
typedef lks_status lks_loss_fn(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                               int64_t batch, const float *logits, const void *targets,
                               float *dlogits, double *sums);
typedef lks_status lks_cast_fn(lks_device *device, lks_stream *stream, int64_t count,
                               lks_dtype from_type, const void *from, lks_dtype to_type, void *to);
typedef lks_status lks_add_fn(lks_device *device, lks_stream *stream, int64_t count,
                              lks_dtype x_type, const void *x, lks_dtype y_type, void *y);
typedef lks_status lks_norm_fn(lks_device *device, lks_stream *stream, lks_norm_kind kind,
                               int64_t count, lks_dtype type, const void *x, double *norm);
typedef lks_status lks_decide_fn(lks_device *device, lks_stream *stream,
                                 const lks_decision *decision, lks_update_control *control);
typedef lks_status lks_sgd_fn(lks_device *device, lks_stream *stream, const lks_update *update,
                              const lks_sgd_update *sgd);
typedef lks_status lks_adam_fn(lks_device *device, lks_stream *stream, const lks_update *update,
                               const lks_adam_update *adam);
typedef lks_status lks_rmsprop_fn(lks_device *device, lks_stream *stream, const lks_update *update,
                                  const lks_rmsprop_update *rmsprop);
typedef lks_status lks_adagrad_fn(lks_device *device, lks_stream *stream, const lks_update *update,
                                  const lks_adagrad_update *adagrad);

typedef struct lks_math_ops {
    lks_loss_fn *loss;
    lks_cast_fn *cast;
    lks_add_fn *add;
    lks_norm_fn *norm;
    lks_decide_fn *decide;
    lks_sgd_fn *sgd;
    lks_adam_fn *adam;
    lks_rmsprop_fn *rmsprop;
    lks_adagrad_fn *adagrad;
} lks_math_ops;

/* LKS_OP_CAST of every back end, by its cast. */
extern const lks_op_type lks_op_cast;

/* Makes an operation of such a type on elements of `dtype`. Its create's errors. */
lks_status lks_op_make(const lks_op_type *type, lks_device *device, lks_dtype dtype,
                       const void *desc, int64_t max_batch, lks_op **out);

/* Does the description make sense? LKS_EINVAL, LKS_EUNSUPPORTED. */
lks_status lks_op_check(lks_op_kind kind, const void *desc);

/* Where an operation's backward puts the gradient of parameter `index`; NULL: not wanted. */
static inline float *lks_op_dparam(const lks_op_args *args, int index) {
    return args->dparams ? (float *)args->dparams[index] : NULL;
}

/* One line of the table of back ends (backends.c, the only file that knows which ones this build
 * has). */
typedef struct lks_device_backend {
    const char *kind;
    /* LKS_EUNSUPPORTED: nothing of this kind on this machine (then `auto` goes on to the next). */
    lks_status (*create)(const lks_device_config *config, lks_device **out);
    void (*destroy)(lks_device *device);
    bool is_host;
    const lks_memory_ops *memory;
    const lks_stream_ops *streams;
    const lks_range_ops *ranges; /* NULL: there is no such profiler */
    const lks_math_ops *math;
    const lks_op_type *const *ops; /* [LKS_OP_KIND_COUNT] */
    /* Does the kind take this activation in its description? Asked of kinds that have one, for
     * others than ReLU, which all of them take; NULL: none does. */
    bool (*fuses)(const lks_device *device, lks_op_kind kind, const void *desc,
                  lks_activation activation);
    /* Do norms take an x2 to add (lks_op_add)? */
    bool adds;
    /* lks_op_chain for two operations of one kind; NULL: none can. */
    bool (*chain)(const lks_device *device, lks_op_kind kind, void *first, void *second);
    /* What an operation on lks_device_dtype becomes; NULL: lks_op_make of the kind's type. */
    lks_status (*create_op)(lks_device *device, lks_op_kind kind, const void *desc,
                            int64_t max_batch, lks_op **out);
} lks_device_backend;

/* A back end's device embeds this as its first member. */
struct lks_device {
    const lks_device_backend *backend;
    int threads;
    lks_precision precision;
    const lks_logger *logger;
    size_t allocated_bytes, host_bytes; /* host_bytes: while it measures */
    bool measures;
    lks_trace *trace; /* attached, or NULL */
    lks_device_watch watch;
    lks_device_poll_fn poll;
    void *poll_data;
    char description[160];
    char place[32]; /* "": the host */
};

/* In the middle of operations that take longer than a millisecond, in the thread that called them.
 */
static inline void lks_device_poll(const lks_device *device) {
    if (device->poll) device->poll(device->poll_data);
}

/* A back end's stream, event and recording embed these as their first members. */
struct lks_stream {
    lks_device *device;
    bool records;
};

struct lks_event {
    lks_device *device;
};

struct lks_recording {
    lks_device *device;
};

/* The back ends of this build in the order in which `auto` tries them, ended by NULL. */
extern const lks_device_backend *const lks_device_backends[];

/* Every kind that some build has, ended by NULL: tells a misspelt kind from one that is not built
 * in. */
extern const char *const lks_device_kinds[];

#endif
