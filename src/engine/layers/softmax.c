#include <inttypes.h>

#include "engine/layers/layers.h"

typedef struct softmax_config {
    int64_t dim;
} softmax_config;

static const lks_option softmax_options[] = {
    {.key = "dim",
     .type = LKS_OPTION_INT,
     .offset = offsetof(softmax_config, dim),
     .text = "-1",
     .low = -LKS_MAX_DIMS,
     .high = LKS_MAX_DIMS,
     .help =
         "Dimension along which the outputs sum to 1, counted as in PyTorch: 0 is the batch (not "
         "allowed), 1 the sample's first, -1 the last."},
    {0},
};

static const lks_option_table softmax_table = {
    .name = "softmax",
    .help = "y = exp(x) / sum exp(x) along one dimension (torch.nn.Softmax).",
    .struct_bytes = sizeof(softmax_config),
    .options = softmax_options,
};

static lks_status plan_softmax(const void *options, const lks_layer_input *input,
                               lks_layer_plan *plan) {
    const softmax_config *config = options;
    const lks_shape *shape = &input->shape;
    char text[LKS_SHAPE_TEXT_BYTES];
    int64_t dim = config->dim < 0 ? shape->rank + config->dim : config->dim - 1;
    if (dim < 0 || dim >= shape->rank)
        return lks_fail(LKS_ESHAPE,
                        "dim %" PRId64 " is not one of 1 .. %d or -1 .. -%d of its input %s",
                        config->dim, shape->rank, shape->rank, lks_shape_text(shape, text));
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (i < dim) outer *= shape->dim[i];
        if (i > dim) inner *= shape->dim[i];
    }
    plan->has_op = true;
    plan->kind = LKS_OP_SOFTMAX;
    plan->desc.softmax =
        (lks_softmax_desc){.outer = outer, .size = shape->dim[dim], .inner = inner};
    return LKS_OK;
}

const lks_layer_kind lks_layer_softmax = {
    .options = &softmax_table,
    .layout = LKS_LAYER_ROWS,
    .plan = plan_softmax,
};
