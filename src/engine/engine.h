/* The engine: a static graph of layers on one device, with flat parameters and gradients. It knows
 * of no other rank. */
#ifndef LKS_ENGINE_H
#define LKS_ENGINE_H

#include "base/base.h"
#include "device/op.h"

typedef struct lks_graph lks_graph;

typedef struct lks_graph_config {
    uint64_t seed;                /* of initial parameters and dropout */
    int64_t max_batch;            /* samples of one forward on this rank */
    bool inference_only;          /* no gradients, no saved activations */
    bool input_gradient;          /* backward also gives lks_graph_input_gradient */
    bool float32_grads;           /* gradients of parameters are not rounded to the device's type */
    bool unshared_memory;         /* no two arrays share memory: to check the memory plan */
    lks_all_reduce_fn all_reduce; /* for batch norm with synchronize: true; NULL on one rank */
    void *all_reduce_data;
    /* Which parameters get no gradient, by state_dict name; NULL: all get one. Asked once for each
     * parameter, while the graph is created. */
    bool (*is_frozen)(void *data, const char *name);
    void *is_frozen_data;
    int64_t trainable_multiple; /* the trainable part of the flat buffers is padded to a multiple
                                   of it, so that ranks can share it evenly; 0: no matter */
} lks_graph_config;

/* A parameter, or a buffer (batch norm's running statistics: is_buffer). */
typedef struct lks_param {
    const char *name; /* state_dict name: "conv1.weight", "3.block.0.bias" */
    lks_shape shape;  /* PyTorch's */
    int64_t offset;   /* of its first element in the flat buffer (of parameters, or of buffers) */
    int64_t count;
    int layer; /* index of its layer in the graph, for messages */
    bool frozen;
} lks_param;

/* Builds the graph: shape inference, parameter table, memory plan. layers: as in lockstep/spec.h;
 * input: one sample's shape; loss may be NULL for inference. Initial parameters are PyTorch's
 * default distributions drawn from (seed, parameter, element), so they are the same on every rank
 * and for every number of ranks. Local, not collective. LKS_ESHAPE and LKS_ECONFIG name the layer,
 * its `where`, what came in and what it expects. */
lks_status lks_graph_create(lks_device *device, const lks_layer_spec *layers,
                            const lks_shape *input, const lks_spec *loss,
                            const lks_graph_config *config, lks_graph **out);
void lks_graph_destroy(lks_graph *graph);

const lks_shape *lks_graph_input_shape(const lks_graph *graph);
const lks_shape *lks_graph_output_shape(const lks_graph *graph);
/* Does the loss take class indices (int32 [batch]) or float32 [batch, output count] as targets? */
bool lks_graph_targets_are_classes(const lks_graph *graph);
/* The label that the loss skips (cross_entropy's ignore_index), for the check of labels. */
int64_t lks_graph_ignore_index(const lks_graph *graph);
/* Which layout the engine wants its input in: the loader writes it so. */
lks_layout lks_graph_input_layout(const lks_graph *graph);

/* Flat buffers, on the device, of lks_device_dtype (gradients: lks_graph_grad_type). The trainable
 * parameters stand first, in the order in which backward completes their gradients (last layer
 * first), then the frozen ones; each is aligned to 16 elements; gaps are zero and stay zero.
 * flat_count covers them all, trainable_count those that have gradients, with the padding that the
 * configuration asks for. */
/* Index: the order in which the layers declare them, that of a state_dict. */
int lks_graph_param_count(const lks_graph *graph);
const lks_param *lks_graph_param(const lks_graph *graph, int index);
int64_t lks_graph_flat_count(const lks_graph *graph);
int64_t lks_graph_trainable_count(const lks_graph *graph);
/* The caller supplies the flat buffers: params [flat_count], grads [trainable_count], NULL for
 * inference. They stay the caller's. Must be called once, before anything below; writes the initial
 * parameters, which freezing does not change. */
lks_status lks_graph_bind(lks_graph *graph, void *params, void *grads);
/* The type of `grads`: lks_device_dtype, or as config.float32_grads says. */
lks_dtype lks_graph_grad_type(const lks_graph *graph);
/* The same initial parameters, elements [offset, offset + count) of the flat buffer, to device
 * memory and unrounded. */
lks_status lks_graph_initial_params(lks_graph *graph, int64_t offset, int64_t count, float *out);

/* Asked on the host, in the order of the flat buffer, before the gradients of elements [offset,
 * offset + count) are computed: *out [count] is where they go, device memory, which is left alone
 * afterwards. */
typedef lks_status (*lks_grads_place_fn)(void *data, int64_t offset, int64_t count, void **out);
/* Instead of lks_graph_bind, for a caller that has no memory for all gradients at a time. Gaps and
 * padding are written, too: zeros. */
lks_status lks_graph_bind_placed(lks_graph *graph, void *params, lks_grads_place_fn place,
                                 void *data);
/* The largest count that it is asked for. */
int64_t lks_graph_largest_place(const lks_graph *graph);

/* Asked on the host before forward reads parameters among flat elements [begin, end): when it comes
 * back, what is queued on the compute stream finds them there. The ranges come in descending order.
 */
typedef lks_status (*lks_params_wait_fn)(void *data, int64_t begin, int64_t end);
/* For a caller whose trainable parameters may still be on their way when forward begins; the frozen
 * ones are not asked for. */
void lks_graph_set_params_wait(lks_graph *graph, lks_params_wait_fn wait, void *data);

/* Buffers (running statistics): one flat array owned by the graph, initialised. */
int lks_graph_buffer_count(const lks_graph *graph);
const lks_param *lks_graph_buffer(const lks_graph *graph, int index);
float *lks_graph_buffers(lks_graph *graph);
int64_t lks_graph_buffers_flat_count(const lks_graph *graph);
/* Training batches seen by batch norm (num_batches_tracked); part of a checkpoint. */
int64_t lks_graph_batches_tracked(const lks_graph *graph);
void lks_graph_set_batches_tracked(lks_graph *graph, int64_t count);

/* Bytes of device memory that the plan takes for activations and workspaces, and what they would
 * take without sharing. */
typedef struct lks_graph_memory {
    size_t planned_bytes;
    size_t unshared_bytes;
} lks_graph_memory;
lks_graph_memory lks_graph_get_memory(const lks_graph *graph);

/* Where a batch goes in: device memory owned by the graph; [max_batch, input] float32 in
 * lks_graph_input_layout, and targets int32 [max_batch] or float32 [max_batch, output]. Inputs, and
 * the outputs that the loss takes, are float32 also where the device computes in bfloat16. */
float *lks_graph_input(lks_graph *graph);
void *lks_graph_targets(lks_graph *graph);

typedef struct lks_batch_info {
    int64_t batch;     /* samples of this rank in this call, 0 is legal */
    int64_t step;      /* of the whole run: dropout */
    int64_t first_row; /* place of this rank's first sample in the global batch: dropout */
    bool training;
    bool accumulate; /* gradients are added to what is there (second and later micro-batches) */
    /* Device memory, read when the batch runs: `step` counts from counters->step on, and batch norm
     * counts micro_batch from counters->batches_tracked. NULL: the graph's own count. */
    const lks_step_counters *counters;
    int64_t micro_batch; /* with counters: of the step, from 0 */
} lks_batch_info;

/* One batch through the graph, asynchronously on the compute stream. lks_graph_output is [batch,
 * output shape] in ROWS layout, valid until the next backward or forward.
 *
 * A layer that fails keeps no other rank waiting: forward and backward go on with no samples as far
 * as config.all_reduce, `place`, `ready` and the wait for parameters are concerned, and return the
 * failure at their end; backward of the failed batch, with batch 0, is then legal. A function of
 * the caller's that fails, or returns LKS_ECOMM, ends them at once. */
lks_status lks_graph_forward(lks_graph *graph, const lks_batch_info *info);
const float *lks_graph_output(const lks_graph *graph);
/* Adds to sums (device, float64 [LKS_LOSS_SUM_COUNT]); with info->training also prepares backward.
 */
lks_status lks_graph_loss(lks_graph *graph, const lks_batch_info *info, double *sums);

/* Called during backward on the host as soon as the gradients of flat elements [0, ready_end) are
 * queued on the compute stream; ready_end grows, the last call has trainable_count. Also the place
 * where communication is moved forward. */
typedef lks_status (*lks_grads_ready_fn)(void *data, int64_t ready_end);
lks_status lks_graph_backward(lks_graph *graph, const lks_batch_info *info,
                              lks_grads_ready_fn ready, void *ready_data);

/* With config.input_gradient: the gradient of the summed loss by the input, as the input itself
 * lies in memory, valid after backward until the next forward. NULL otherwise. */
const float *lks_graph_input_gradient(const lks_graph *graph);

/* The layers, for the start-up table and `inspect`. */
typedef struct lks_layer_info {
    const char *name, *type;
    lks_shape output;
    int64_t param_count;
    int64_t multiply_adds; /* of one sample's matrix products and convolutions in forward */
    bool is_synchronized;  /* its statistics are summed over the ranks, forward and backward */
    bool is_norm;          /* batch_norm, layer_norm */
} lks_layer_info;
int lks_graph_layer_count(const lks_graph *graph);
lks_layer_info lks_graph_layer(const lks_graph *graph, int index);

/* ---- the registries, for parsing and the reference page; index from 0, NULL after the last ----
 */
const lks_option_table *lks_layer_options(const char *type);
const char *lks_layer_type(int index);
/* Does the layer have a block (and a shortcut) inside? */
bool lks_layer_is_container(const char *type);
const lks_option_table *lks_loss_options(const char *type);
const char *lks_loss_type(int index);
/* Are its targets class indices? false for an unknown type. */
bool lks_loss_takes_classes(const char *type);

#endif
