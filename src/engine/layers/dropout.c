#include "engine/layers/layers.h"

typedef struct dropout_config {
    double p;
} dropout_config;

static const lks_option dropout_options[] = {
    {.key = "p",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(dropout_config, p),
     .text = "0.5",
     .low = 0,
     .high = 1,
     .help = "Probability with which an element becomes zero in training."},
    {0},
};

static const lks_option_table dropout_table = {
    .name = "dropout",
    .help = "Zeroes random elements in training and scales the others by 1 / (1 - p) "
            "(torch.nn.Dropout).",
    .struct_bytes = sizeof(dropout_config),
    .options = dropout_options,
};

static lks_status plan_dropout(const void *options, const lks_layer_input *input,
                               lks_layer_plan *plan) {
    const dropout_config *config = options;
    int64_t count;
    lks_status status = lks_shape_count(&input->shape, &count);
    if (status != LKS_OK) return status;
    plan->has_op = config->p > 0;
    plan->kind = LKS_OP_DROPOUT;
    plan->desc.dropout = (lks_dropout_desc){
        .count = count,
        .p = config->p,
        .key = lks_philox_key_make(input->seed, LKS_RANDOM_DROPOUT, (uint32_t)input->layer),
    };
    return LKS_OK;
}

const lks_layer_kind lks_layer_dropout = {
    .options = &dropout_table,
    .layout = LKS_LAYER_ANY_LAYOUT,
    .plan = plan_dropout,
};
