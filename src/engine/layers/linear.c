#include <inttypes.h>
#include <math.h>

#include "engine/layers/layers.h"

typedef struct linear_config {
    int64_t in_features, out_features;
    bool bias;
} linear_config;

static const lks_option linear_options[] = {
    {.key = "out_features",
     .type = LKS_OPTION_INT,
     .offset = offsetof(linear_config, out_features),
     .low = 1,
     .high = INT32_MAX,
     .help = "Width of the output."},
    {.key = "in_features",
     .type = LKS_OPTION_INT,
     .offset = offsetof(linear_config, in_features),
     .low = 1,
     .high = INT32_MAX,
     .optional = true,
     .help = "Width of the input, checked when given; taken from the input otherwise."},
    {.key = "bias",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(linear_config, bias),
     .text = "true",
     .help = "Whether a learned number is added to every output."},
    {0},
};

static const lks_option_table linear_table = {
    .name = "linear",
    .help = "y = x W^T + b over the last dimension (torch.nn.Linear).",
    .struct_bytes = sizeof(linear_config),
    .options = linear_options,
};

static lks_status plan_linear(const void *options, const lks_layer_input *input,
                              lks_layer_plan *plan) {
    const linear_config *config = options;
    char text[LKS_SHAPE_TEXT_BYTES];
    int rank = input->shape.rank;
    if (rank < 1) return lks_fail(LKS_ESHAPE, "needs an input of at least one dimension");
    int64_t width = input->shape.dim[rank - 1];
    if (config->in_features != 0 && config->in_features != width)
        return lks_fail(LKS_ESHAPE,
                        "in_features is %" PRId64 ", but the last dimension of its input %s is not",
                        config->in_features, lks_shape_text(&input->shape, text));
    lks_shape rows = input->shape;
    rows.rank = rank - 1;
    int64_t rows_per_sample;
    lks_status status = lks_shape_count(&rows, &rows_per_sample);
    if (status != LKS_OK) return status;

    plan->has_op = true;
    plan->kind = LKS_OP_LINEAR;
    plan->output.dim[rank - 1] = config->out_features;
    plan->desc.linear = (lks_linear_desc){
        .in_features = width,
        .out_features = config->out_features,
        .rows_per_sample = rows_per_sample,
        .bias = config->bias,
    };
    /* torch.nn.Linear.reset_parameters: Kaiming's uniform with a = sqrt(5), which is this bound. */
    double bound = 1.0 / sqrt((double)width);
    lks_layer_add_param(plan, "weight", &(lks_shape){2, {config->out_features, width}},
                        LKS_INIT_UNIFORM, bound);
    if (config->bias)
        lks_layer_add_param(plan, "bias", &(lks_shape){1, {config->out_features}}, LKS_INIT_UNIFORM,
                            bound);
    return LKS_OK;
}

const lks_layer_kind lks_layer_linear = {
    .options = &linear_table,
    .layout = LKS_LAYER_ROWS,
    .plan = plan_linear,
};
