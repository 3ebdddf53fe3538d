#include <inttypes.h>

#include "engine/layers/layers.h"

typedef struct flatten_config {
    int64_t start_dim, end_dim;
} flatten_config;

static const lks_option flatten_options[] = {
    {.key = "start_dim",
     .type = LKS_OPTION_INT,
     .offset = offsetof(flatten_config, start_dim),
     .text = "1",
     .low = -LKS_MAX_DIMS,
     .high = LKS_MAX_DIMS,
     .help = "First dimension to join, counted as in PyTorch: 1 is the sample's first."},
    {.key = "end_dim",
     .type = LKS_OPTION_INT,
     .offset = offsetof(flatten_config, end_dim),
     .text = "-1",
     .low = -LKS_MAX_DIMS,
     .high = LKS_MAX_DIMS,
     .help = "Last dimension to join; -1 is the last."},
    {0},
};

static const lks_option_table flatten_table = {
    .name = "flatten",
    .help = "Joins dimensions into one (torch.nn.Flatten).",
    .struct_bytes = sizeof(flatten_config),
    .options = flatten_options,
};

static lks_status plan_flatten(const void *options, const lks_layer_input *input,
                               lks_layer_plan *plan) {
    const flatten_config *config = options;
    const lks_shape *shape = &input->shape;
    char text[LKS_SHAPE_TEXT_BYTES];
    int64_t first = config->start_dim < 0 ? shape->rank + config->start_dim : config->start_dim - 1;
    int64_t last = config->end_dim < 0 ? shape->rank + config->end_dim : config->end_dim - 1;
    if (first < 0 || last >= shape->rank || first > last)
        return lks_fail(LKS_ESHAPE,
                        "start_dim %" PRId64 " and end_dim %" PRId64
                        " are no dimensions of its input %s (1 is the first, -1 the last)",
                        config->start_dim, config->end_dim, lks_shape_text(shape, text));
    lks_shape output = {0};
    for (int i = 0; i < shape->rank; i++) {
        if (i <= first || i > last)
            output.dim[output.rank++] = shape->dim[i];
        else
            output.dim[output.rank - 1] *= shape->dim[i];
    }
    plan->output = output;
    return LKS_OK;
}

const lks_layer_kind lks_layer_flatten = {
    .options = &flatten_table,
    .layout = LKS_LAYER_ROWS,
    .plan = plan_flatten,
};
