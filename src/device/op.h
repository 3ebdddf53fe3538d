/* Operations of layers on a device: planned once for a layer, run every step. */
#ifndef LKS_DEVICE_OP_H
#define LKS_DEVICE_OP_H

#include "device/device.h"

typedef struct lks_op lks_op;

typedef enum lks_activation {
    LKS_ACTIVATION_NONE,
    LKS_ACTIVATION_RELU,
    LKS_ACTIVATION_LEAKY_RELU, /* x > 0 ? x : alpha x */
    LKS_ACTIVATION_GELU,       /* x/2 (1 + erf(x/sqrt 2)) */
    LKS_ACTIVATION_GELU_TANH,  /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    LKS_ACTIVATION_SILU,
    LKS_ACTIVATION_TANH,
    LKS_ACTIVATION_SIGMOID
} lks_activation;

/* y[rows, out] = act(x[rows, in] weight[out, in]^T + bias[out]); rows = batch * rows_per_sample.
 * params: weight, bias. ROWS.
 *
 * Two in a row (lks_op_chain) share the work at what lies between them: where the second one's
 * x_activation is the activation of the first, the second's dx is the gradient of what goes into
 * that activation, and the first, with slope_done, takes it as such. */
typedef struct lks_linear_desc {
    int64_t in_features, out_features;
    int64_t rows_per_sample;
    bool bias;
    lks_activation activation; /* fused into the product, where lks_op_fuse says so */
    bool slope_done;
    lks_activation x_activation;
} lks_linear_desc;

/* Cross-correlation as torch.nn.Conv2d: weight [out, in/groups, kh, kw], bias [out]. Pairs are
 * (height, width). CHANNELS_LAST. */
typedef struct lks_conv2d_desc {
    int64_t in_channels, out_channels, groups;
    int64_t in_size[2], out_size[2];
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    bool bias;
    lks_activation activation; /* NONE or RELU */
} lks_conv2d_desc;

typedef enum lks_pool_kind { LKS_POOL_MAX, LKS_POOL_AVG, LKS_POOL_ADAPTIVE_AVG } lks_pool_kind;

/* CHANNELS_LAST. ADAPTIVE_AVG uses the sizes alone: out cell i averages in [floor(i*in/out),
 * ceil((i+1)*in/out)). */
typedef struct lks_pool2d_desc {
    lks_pool_kind kind;
    int64_t channels;
    int64_t in_size[2], out_size[2];
    int64_t kernel[2], stride[2], padding[2], dilation[2]; /* dilation: max only */
    bool count_include_pad;                                /* avg only */
} lks_pool2d_desc;

/* Sums `count` float64 values in device memory over the ranks that take part, in place: after what
 * is queued on `stream`, before what will be. */
typedef lks_status (*lks_all_reduce_fn)(void *data, double *values, int64_t count,
                                        lks_stream *stream);

/* torch.nn.BatchNorm1d/2d over channels: params weight[c], bias[c] if affine; buffers
 * running_mean[c], running_var[c] if track_running_stats. x is [batch, spatial, channels]
 * (channels-last, or spatial 1), or [batch, channels, spatial] in ROWS layout. In training the
 * statistics are the batch's (biased variance; the running variance is updated with the unbiased
 * one), summed over all ranks when the call's all_reduce is set. momentum < 0: cumulative average,
 * needs batches_tracked. */
typedef struct lks_batch_norm_desc {
    int64_t channels, spatial;
    lks_layout layout; /* CHANNELS_LAST also for spatial == 1 */
    double eps, momentum;
    bool affine, track_running_stats;
    bool adds_x2;              /* to what it has normalised; dx2 is the gradient there */
    lks_activation activation; /* NONE or RELU; of the sum */
} lks_batch_norm_desc;

/* Normalises each row of `width` numbers; rows = batch * rows_per_sample. params: weight[width],
 * bias[width]. ROWS. */
typedef struct lks_layer_norm_desc {
    int64_t width, rows_per_sample;
    double eps;
    bool affine, bias;
    bool adds_x2; /* to x, and normalises the sum, whose gradient is dx and dx2 */
} lks_layer_norm_desc;

/* Softmax along the middle of [batch * outer, size, inner]. ROWS. */
typedef struct lks_softmax_desc {
    int64_t outer, size, inner;
} lks_softmax_desc;

/* Any layout. */
typedef struct lks_eltwise_desc {
    int64_t count; /* elements of a sample */
    lks_activation activation;
    double alpha; /* leaky_relu's slope */
} lks_eltwise_desc;

/* In training: y = keep ? x / (1 - p) : 0, where keep of element e of global sample s in step t is:
 * word (e % 4) of Philox block e / 4 + s * ceil(count / 4) with high = t, under `key`, is >= p as a
 * uniform. Otherwise y = x. Any layout (e: physical index). */
typedef struct lks_dropout_desc {
    int64_t count;
    double p;
    lks_philox_key key;
} lks_dropout_desc;

/* Copies between the two layouts of [channels, height, width]. */
typedef struct lks_relayout_desc {
    int64_t channels, spatial;
    lks_layout from, to;
} lks_relayout_desc;

/* add: y = act(x + x2), in backward dx = dx2 = the gradient of the sum. The join of a residual
 * block. Its mirror, the fork, has no forward and no activation; in backward dx = dy + dy2. */
typedef struct lks_add_desc {
    int64_t count;
    lks_activation activation; /* NONE or RELU */
} lks_add_desc;

/* y = x as another type of elements, in backward dx = dy: the way into and out of what the device
 * computes in. float32 and bfloat16; rounds to the nearest. Any layout. */
typedef struct lks_cast_desc {
    int64_t count;
    lks_dtype from, to;
} lks_cast_desc;

typedef enum lks_op_kind {
    LKS_OP_LINEAR,
    LKS_OP_CONV2D,
    LKS_OP_POOL2D,
    LKS_OP_BATCH_NORM,
    LKS_OP_LAYER_NORM,
    LKS_OP_SOFTMAX,
    LKS_OP_ELTWISE,
    LKS_OP_DROPOUT,
    LKS_OP_RELAYOUT,
    LKS_OP_ADD,
    LKS_OP_FORK,
    LKS_OP_CAST,
    LKS_OP_KIND_COUNT
} lks_op_kind;

/* What an operation needs of the memory plan; sizes at its max_batch. */
typedef struct lks_op_needs {
    size_t saved_bytes;    /* written by forward, read by backward of the same batch */
    size_t scratch_bytes;  /* used within one call */
    bool backward_needs_x; /* x must still hold forward's input in backward; x2 need never */
    bool backward_needs_y;
    bool in_place;          /* forward may run with y == x (then backward must not need x) */
    bool backward_in_place; /* backward may run with dx == dy */
} lks_op_needs;

/* The operands of one call. Those that an operation does not have are NULL. */
typedef struct lks_op_args {
    int64_t batch; /* samples, 0 <= batch <= max_batch; 0 only zeroes gradients that are not
                      accumulated */
    bool training;
    bool accumulate;                   /* backward adds to dparams instead of overwriting them */
    const lks_step_counters *counters; /* device memory, read when the call runs, and added to step
                                          and batches_tracked below; NULL: zeros */
    int64_t step;                      /* dropout: of the whole run */
    int64_t first_row; /* dropout: the place of this call's first sample in the global batch */

    const void *x, *x2;
    void *y;
    const void *const *params;
    void *const *buffers;    /* batch norm: running_mean, running_var */
    int64_t batches_tracked; /* batch norm with momentum < 0: training batches before this one */
    void *dy;                /* backward may overwrite it */
    const void *dy2;         /* fork: the second consumer's gradient */
    void *dx;                /* NULL: not wanted */
    void *dx2;               /* of x2; may equal dy, or with add and layer norm dx */
    void *const *dparams;    /* NULL, or an entry NULL: not wanted (frozen parameters) */
    void *saved, *scratch;
    const lks_op *x_op;  /* backward of a linear with x_activation: the operation that made x, */
    const void *x_saved; /* and what it saved */
    lks_all_reduce_fn all_reduce; /* batch norm: NULL for statistics of this rank's samples alone */
    void *all_reduce_data;
} lks_op_args;

/* Before an operation is created: may it apply the activation to its output? Then `desc`, the
 * struct of the kind, says so afterwards. The result is that of an LKS_OP_ELTWISE behind it,
 * rounded no more often. */
bool lks_op_fuse(lks_device *device, lks_op_kind kind, void *desc, lks_activation activation);
typedef enum lks_add_place { LKS_ADD_IN_FRONT, LKS_ADD_BEHIND } lks_add_place;
/* The same for an LKS_OP_ADD in front of the operation or behind it: may it take the other summand
 * as x2, and add by itself? */
bool lks_op_add(lks_device *device, lks_op_kind kind, void *desc, lks_add_place place);
/* The same for two operations of which the second is alone in taking the first one's y as its x:
 * may its backward do a part of the first one's? Then both descriptions say so, and backward of the
 * second one wants x_op and x_saved. */
bool lks_op_chain(lks_device *device, lks_op_kind first_kind, void *first, lks_op_kind second_kind,
                  void *second);

/* Plans an operation for at most max_batch samples. `desc` is the struct of the kind, copied.
 * Activations, their gradients (x, y, dx, dy) and params are of lks_device_dtype (but of a cast);
 * dparams and buffers are float32, as is all arithmetic beyond a product's factors. Smaller batches
 * reuse the plan (a back end may plan a new batch size when it first sees it). LKS_EUNSUPPORTED,
 * LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_op_create(lks_device *device, lks_op_kind kind, const void *desc, int64_t max_batch,
                         lks_op **out);
void lks_op_destroy(lks_op *op);
const lks_op_needs *lks_op_get_needs(const lks_op *op);
lks_status lks_op_forward(lks_op *op, lks_stream *stream, const lks_op_args *args);
/* Uses what forward of the same batch left in x, y and saved, as lks_op_needs says. */
lks_status lks_op_backward(lks_op *op, lks_stream *stream, const lks_op_args *args);

#endif
