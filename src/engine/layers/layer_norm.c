#include <inttypes.h>

#include "engine/layers/layers.h"

typedef struct layer_norm_config {
    lks_int_list normalized_shape;
    double eps;
    bool elementwise_affine, bias;
} layer_norm_config;

static const lks_option layer_norm_options[] = {
    {.key = "normalized_shape",
     .type = LKS_OPTION_INT_LIST,
     .offset = offsetof(layer_norm_config, normalized_shape),
     .low = 1,
     .high = INT32_MAX,
     .optional = true,
     .help = "The last dimensions of the input, over which it normalises; the very last one when "
             "not given."},
    {.key = "eps",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(layer_norm_config, eps),
     .text = "1e-5",
     .low = 0,
     .high = 1,
     .help = "Added to the variance."},
    {.key = "elementwise_affine",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(layer_norm_config, elementwise_affine),
     .text = "true",
     .help = "Whether a learned weight and bias follow."},
    {.key = "bias",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(layer_norm_config, bias),
     .text = "true",
     .help = "Whether elementwise_affine has a bias."},
    {0},
};

static const lks_option_table layer_norm_table = {
    .name = "layer_norm",
    .help = "Normalises each sample over its last dimensions (torch.nn.LayerNorm).",
    .struct_bytes = sizeof(layer_norm_config),
    .options = layer_norm_options,
};

/* The dimensions that are normalised: checked against the end of the input's shape. */
static lks_status normalized_shape(const lks_int_list *list, const lks_shape *input,
                                   lks_shape *out) {
    char text[LKS_SHAPE_TEXT_BYTES];
    if (input->rank < 1) return lks_fail(LKS_ESHAPE, "needs an input of at least one dimension");
    if (list->count == 0) {
        *out = (lks_shape){1, {input->dim[input->rank - 1]}};
        return LKS_OK;
    }
    bool fits = list->count <= input->rank;
    for (int i = 0; fits && i < list->count; i++) {
        out->dim[i] = list->values[i];
        fits = list->values[i] == input->dim[input->rank - list->count + i];
    }
    if (!fits)
        return lks_fail(LKS_ESHAPE, "normalized_shape is not the end of its input's shape %s",
                        lks_shape_text(input, text));
    out->rank = list->count;
    return LKS_OK;
}

static lks_status plan_layer_norm(const void *options, const lks_layer_input *input,
                                  lks_layer_plan *plan) {
    const layer_norm_config *config = options;
    lks_shape normalized = {0};
    int64_t count, width;
    lks_status status = normalized_shape(&config->normalized_shape, &input->shape, &normalized);
    if (status == LKS_OK) status = lks_shape_count(&input->shape, &count);
    if (status == LKS_OK) status = lks_shape_count(&normalized, &width);
    if (status != LKS_OK) return status;

    plan->has_op = true;
    plan->kind = LKS_OP_LAYER_NORM;
    plan->desc.layer_norm = (lks_layer_norm_desc){
        .width = width,
        .rows_per_sample = count / width,
        .eps = config->eps,
        .affine = config->elementwise_affine,
        .bias = config->elementwise_affine && config->bias,
    };
    if (config->elementwise_affine)
        lks_layer_add_param(plan, "weight", &normalized, LKS_INIT_ONE, 0);
    if (config->elementwise_affine && config->bias)
        lks_layer_add_param(plan, "bias", &normalized, LKS_INIT_ZERO, 0);
    return LKS_OK;
}

const lks_layer_kind lks_layer_layer_norm = {
    .options = &layer_norm_table,
    .is_norm = true,
    .layout = LKS_LAYER_ROWS,
    .plan = plan_layer_norm,
};
