/* The CPU back end: streams are trivial (every call is done when it returns). Included by
 * src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_H
#define LKS_DEVICE_CPU_H

#include "device/backend.h"
#include "device/cpu/onednn.h"

typedef struct lks_cpu_device {
    lks_device base;
    lks_stream streams[LKS_STREAM_COUNT];
    lks_onednn onednn;
} lks_cpu_device;

extern const lks_device_backend lks_cpu_backend;

static inline lks_step_counters lks_cpu_counters(const lks_op_args *args) {
    return args->counters ? *args->counters : (lks_step_counters){0};
}

/* On float32 or bfloat16, of which those that may be widened give LKS_EUNSUPPORTED for what oneDNN
 * does not compute on this processor, or is not worth a kernel. oneDNN: onednn.c and the files
 * named after their operation. */
extern const lks_op_type lks_cpu_linear;
extern const lks_op_type lks_cpu_conv2d;
/* plain OpenMP C */
extern const lks_op_type lks_cpu_pool2d;
extern const lks_op_type lks_cpu_batch_norm;
extern const lks_op_type lks_cpu_layer_norm;
extern const lks_op_type lks_cpu_softmax;
extern const lks_op_type lks_cpu_eltwise;
extern const lks_op_type lks_cpu_dropout;
extern const lks_op_type lks_cpu_relayout;
extern const lks_op_type lks_cpu_add;
extern const lks_op_type lks_cpu_fork;

/* eltwise.c: y = max(0, y), NaN stays; count elements of `type`. */
void lks_cpu_relu(const lks_device *device, lks_dtype type, int64_t count, void *y);

/* A linear layer, convolution, batch norm or softmax on float32 as one on bfloat16: its operands
 * are widened before and rounded after it. */
lks_status lks_cpu_widened_create(lks_device *device, lks_op_kind kind, const lks_op_type *type,
                                  const void *desc, int64_t max_batch, lks_op **out);

lks_loss_fn lks_cpu_loss;
lks_cast_fn lks_cpu_cast;
lks_add_fn lks_cpu_vector_add;
lks_norm_fn lks_cpu_norm;
lks_decide_fn lks_cpu_decide;
lks_sgd_fn lks_cpu_sgd;
lks_adam_fn lks_cpu_adam;
lks_rmsprop_fn lks_cpu_rmsprop;
lks_adagrad_fn lks_cpu_adagrad;

#endif
