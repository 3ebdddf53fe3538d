/* What a type of layer is: its options, and how it becomes an operation of the device. One file in
 * layers/ for each type, one line in registry.c. Included by src/engine alone.
 *
 * A plain layer is a pure function from its options and its input's shape to a plan; the builder
 * (build.c) does the rest: names, parameters, layouts, fusion, memory. A container builds the lists
 * of layers inside it.
 */
#ifndef LKS_ENGINE_LAYER_H
#define LKS_ENGINE_LAYER_H

#include "base/base.h"
#include "device/op.h"

/* The description of an operation of any kind. */
typedef union lks_op_desc {
    lks_linear_desc linear;
    lks_conv2d_desc conv2d;
    lks_pool2d_desc pool2d;
    lks_batch_norm_desc batch_norm;
    lks_layer_norm_desc layer_norm;
    lks_softmax_desc softmax;
    lks_eltwise_desc eltwise;
    lks_dropout_desc dropout;
    lks_relayout_desc relayout;
    lks_add_desc add; /* of a fork as well */
    lks_cast_desc cast;
} lks_op_desc;

typedef enum lks_init_rule {
    LKS_INIT_ZERO,
    LKS_INIT_ONE,
    LKS_INIT_UNIFORM /* in [-bound, bound) */
} lks_init_rule;

typedef struct lks_layer_param {
    const char *suffix; /* "weight"; a string literal */
    lks_shape shape;
    lks_init_rule init;
    double bound;
    bool is_buffer;
} lks_layer_param;

/* In which layout a layer takes an image and leaves its output. Samples of other ranks have one
 * layout only. */
typedef enum lks_layer_layout {
    LKS_LAYER_ROWS,
    LKS_LAYER_CHANNELS_LAST,
    LKS_LAYER_ANY_LAYOUT
} lks_layer_layout;

enum { LKS_LAYER_MAX_PARAMS = 4 };

typedef struct lks_layer_input {
    lks_shape shape; /* of one sample */
    uint64_t seed;
    int layer; /* index in the graph: the stream of the layer's random numbers */
} lks_layer_input;

/* What a layer asks for. The builder hands it in zeroed except `output`, which is the input's
 * shape. */
typedef struct lks_layer_plan {
    lks_shape output;
    bool has_op; /* false: the output is the input, perhaps under another shape */
    lks_op_kind kind;
    lks_op_desc desc;
    bool synchronize; /* statistics are summed over the ranks */
    /* In the order in which the operation takes them: parameters first, then buffers. */
    lks_layer_param params[LKS_LAYER_MAX_PARAMS];
    int param_count;
} lks_layer_plan;

struct lks_builder; /* build.h */
struct lks_flow;

typedef struct lks_layer_kind {
    const lks_option_table *options; /* its name is the type's name */
    lks_layer_layout layout;         /* of a plain layer */
    bool is_norm;                    /* it normalises its input */
    /* A plain layer. On failure the detail says what does not fit; the builder puts the layer's
     * name in front of it. */
    lks_status (*plan)(const void *config, const lks_layer_input *input, lks_layer_plan *plan);
    /* A container; then `plan` is NULL. */
    lks_status (*compose)(struct lks_builder *builder, const lks_layer_spec *spec,
                          struct lks_flow *flow);
} lks_layer_kind;

/* NULL for an unknown type. */
const lks_layer_kind *lks_layer_find(const char *type);
/* LKS_ECONFIG for an unknown type, with the nearest known one; NULL counts as unknown. */
lks_status lks_layer_unknown(const char *type);

/* Appends a parameter or a buffer to the plan. */
void lks_layer_add_param(lks_layer_plan *plan, const char *suffix, const lks_shape *shape,
                         lks_init_rule init, double bound);
void lks_layer_add_buffer(lks_layer_plan *plan, const char *suffix, const lks_shape *shape,
                          lks_init_rule init);
/* Plans an activation function over the whole input, in any layout. */
lks_status lks_layer_plan_activation(const lks_layer_input *input, lks_activation activation,
                                     double alpha, lks_layer_plan *plan);
/* LKS_ESHAPE unless the input is an image [channels, height, width]. */
lks_status lks_layer_check_image(const lks_layer_input *input);

/* ---- losses: registry in loss.c ---- */

/* A loss with its options. */
typedef struct lks_loss {
    lks_loss_desc desc;
    bool targets_are_classes;
} lks_loss;

/* LKS_ECONFIG for an unknown loss or a bad option, LKS_ESHAPE where the loss cannot take `output`.
 */
lks_status lks_loss_make(const lks_spec *spec, const lks_shape *output, lks_loss *out);

#endif
