/* oneDNN as the CPU back end uses it: the one place that knows how its API v2 (2.x) differs from
 * v3.
 *
 * A use goes in three steps: describe the operands as plain tensors and get a primitive descriptor;
 * make a task from it, a primitive whose memory objects exist once and for all; run the task as
 * often as wanted, setting only pointers. Running allocates nothing. */
#ifndef LKS_DEVICE_CPU_ONEDNN_H
#define LKS_DEVICE_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

#include "base/base.h"

/* The CPU engine and the stream on which every primitive runs. */
typedef struct lks_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} lks_onednn;

/* LKS_EDEVICE with what oneDNN says. On failure nothing is left to close. */
lks_status lks_onednn_open(lks_onednn *onednn);
void lks_onednn_close(lks_onednn *onednn);

/* LKS_OK, or LKS_EDEVICE saying "oneDNN: `what`: <name of the status>"; running out of memory is
 * LKS_ENOMEM, and what oneDNN does not compute on this processor LKS_EUNSUPPORTED. */
lks_status lks_onednn_check(dnnl_status_t status, const char *what);

/* ---- operands ---- */

/* An array of LKS_F32 or LKS_BF16: sizes and strides in elements, in oneDNN's logical order ([n, c,
 * h, w] also where memory is channels-last). rank 0: the operand does not exist. Sums are float32
 * with either type. */
typedef struct lks_onednn_tensor {
    lks_dtype type;
    int rank;
    dnnl_dims_t size;
    dnnl_dims_t stride;
    bool any; /* oneDNN chooses the layout, strides are ignored */
} lks_onednn_tensor;

/* A row-major array of these sizes. */
lks_onednn_tensor lks_onednn_rows(lks_dtype type, int rank, const int64_t *size);
/* The matrix [rows, columns] that stands transposed in memory: [columns, rows], row-major. */
lks_onednn_tensor lks_onednn_transposed(lks_dtype type, int64_t rows, int64_t columns);

/* Bytes of the operand `arg` (DNNL_ARG_...) in the layout that the primitive descriptor has for it.
 */
size_t lks_onednn_operand_bytes(const_dnnl_primitive_desc_t desc, int arg);

/* ---- primitive descriptors; the caller destroys them with dnnl_primitive_desc_destroy ---- */

/* y = a b + bias; with `add` the product is added to y. Matrices of rank 2; bias [1, n] or none.
 * (No ReLU: oneDNN's gives 0 for NaN.) */
typedef struct lks_onednn_matmul {
    lks_onednn_tensor a, b, bias, y;
    bool add;
} lks_onednn_matmul;

lks_status lks_onednn_matmul_desc(const lks_onednn *onednn, const lks_onednn_matmul *matmul,
                                  dnnl_primitive_desc_t *out);

/* x, y: [n, c, h, w]; weights: [o, i, kh, kw] or [groups, o, i, kh, kw]; bias [o] or none. Dilation
 * as in PyTorch: 1 is none. */
typedef struct lks_onednn_conv {
    lks_onednn_tensor x, weights, bias, y;
    dnnl_dims_t stride, dilation, padding;
} lks_onednn_conv;

lks_status lks_onednn_conv_forward_desc(const lks_onednn *onednn, const lks_onednn_conv *conv,
                                        dnnl_primitive_desc_t *out);
/* Gradients of x, and of the weights; `hint` is the forward descriptor. No bias. */
lks_status lks_onednn_conv_backward_data_desc(const lks_onednn *onednn, const lks_onednn_conv *conv,
                                              const_dnnl_primitive_desc_t hint,
                                              dnnl_primitive_desc_t *out);
lks_status lks_onednn_conv_backward_weights_desc(const lks_onednn *onednn,
                                                 const lks_onednn_conv *conv,
                                                 const_dnnl_primitive_desc_t hint,
                                                 dnnl_primitive_desc_t *out);

/* ---- tasks ---- */

enum { LKS_ONEDNN_MAX_OPERANDS = 4 };

typedef struct lks_onednn_task {
    dnnl_primitive_t primitive;
    bool reference; /* all that oneDNN has for this is its plain loops, correct and very slow */
    int count;
    dnnl_exec_arg_t operand[LKS_ONEDNN_MAX_OPERANDS];
} lks_onednn_task;

/* A task of the descriptor's primitive with operands `args` (DNNL_ARG_..., ended by 0). */
lks_status lks_onednn_task_create(const lks_onednn *onednn, const_dnnl_primitive_desc_t desc,
                                  const int *args, lks_onednn_task *out);

typedef enum lks_onednn_way {
    LKS_ONEDNN_TO,      /* from the plain array to the descriptor's layout */
    LKS_ONEDNN_FROM,    /* back */
    LKS_ONEDNN_FROM_ADD /* back, added to what is there */
} lks_onednn_way;

/* A task that copies between the array `plain` and the layout that `desc` has for its operand
 * `arg`; its operands are source and destination. Where both layouts are the same *out is all zero:
 * nothing needs to be copied (but LKS_ONEDNN_FROM_ADD always makes a task). */
lks_status lks_onednn_reorder_create(const lks_onednn *onednn, const lks_onednn_tensor *plain,
                                     const_dnnl_primitive_desc_t desc, int arg, lks_onednn_way way,
                                     lks_onednn_task *out);
/* A zeroed task is legal. */
void lks_onednn_task_destroy(lks_onednn_task *task);

/* Runs a task with one pointer for each operand, in the order of `args` at its creation. */
lks_status lks_onednn_run(const lks_onednn *onednn, const lks_onednn_task *task,
                          const void *const *pointers, const char *what);

#endif
