#include <inttypes.h>

#include "engine/layers/layers.h"

typedef struct batch_norm_config {
    int64_t num_features;
    double eps, momentum;
    bool affine, track_running_stats, synchronize;
} batch_norm_config;

static const lks_option batch_norm_options[] = {
    {.key = "num_features",
     .type = LKS_OPTION_INT,
     .offset = offsetof(batch_norm_config, num_features),
     .low = 1,
     .high = INT32_MAX,
     .optional = true,
     .help = "Channels of the input, checked when given; taken from the input otherwise."},
    {.key = "eps",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(batch_norm_config, eps),
     .text = "1e-5",
     .low = 0,
     .high = 1,
     .help = "Added to the variance."},
    {.key = "momentum",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(batch_norm_config, momentum),
     .text = "0.1",
     .low = -1,
     .high = 1,
     .help = "Weight of a new batch in the running statistics; negative: their plain average over "
             "all batches (PyTorch's None)."},
    {.key = "affine",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(batch_norm_config, affine),
     .text = "true",
     .help = "Whether a learned weight and bias follow."},
    {.key = "track_running_stats",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(batch_norm_config, track_running_stats),
     .text = "true",
     .help = "Whether evaluation uses running statistics instead of the batch's own."},
    {.key = "synchronize",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(batch_norm_config, synchronize),
     .text = "true",
     .help = "Whether the statistics are of the global batch (torch.nn.SyncBatchNorm) instead of "
             "each rank's own part."},
    {0},
};

static const lks_option_table batch_norm_table = {
    .name = "batch_norm",
    .help = "Normalises each channel over the batch (torch.nn.BatchNorm1d and BatchNorm2d, by its "
            "input's shape).",
    .struct_bytes = sizeof(batch_norm_config),
    .options = batch_norm_options,
};

static lks_status check_input(const batch_norm_config *config, const lks_shape *shape) {
    char text[LKS_SHAPE_TEXT_BYTES];
    if (shape->rank < 1 || shape->rank > 3)
        return lks_fail(LKS_ESHAPE,
                        "takes [channels], [channels, length] or [channels, height, width], but "
                        "its input is %s",
                        lks_shape_text(shape, text));
    if (config->num_features != 0 && config->num_features != shape->dim[0])
        return lks_fail(LKS_ESHAPE,
                        "num_features is %" PRId64 ", but its input %s has %" PRId64 " channels",
                        config->num_features, lks_shape_text(shape, text), shape->dim[0]);
    return LKS_OK;
}

static lks_status plan_batch_norm(const void *options, const lks_layer_input *input,
                                  lks_layer_plan *plan) {
    const batch_norm_config *config = options;
    const lks_shape *shape = &input->shape;
    lks_status status = check_input(config, shape);
    if (status != LKS_OK) return status;
    lks_shape channels = {1, {shape->dim[0]}};
    int64_t count;
    status = lks_shape_count(shape, &count);
    if (status != LKS_OK) return status;

    plan->has_op = true;
    plan->kind = LKS_OP_BATCH_NORM;
    plan->synchronize = config->synchronize;
    plan->desc.batch_norm = (lks_batch_norm_desc){
        .channels = shape->dim[0],
        .spatial = count / shape->dim[0],
        .layout =
            shape->rank == 2 && shape->dim[1] != 1 ? LKS_LAYOUT_ROWS : LKS_LAYOUT_CHANNELS_LAST,
        .eps = config->eps,
        .momentum = config->momentum,
        .affine = config->affine,
        .track_running_stats = config->track_running_stats,
    };
    if (config->affine) {
        lks_layer_add_param(plan, "weight", &channels, LKS_INIT_ONE, 0);
        lks_layer_add_param(plan, "bias", &channels, LKS_INIT_ZERO, 0);
    }
    if (config->track_running_stats) {
        lks_layer_add_buffer(plan, "running_mean", &channels, LKS_INIT_ZERO);
        lks_layer_add_buffer(plan, "running_var", &channels, LKS_INIT_ONE);
    }
    return LKS_OK;
}

const lks_layer_kind lks_layer_batch_norm = {
    .options = &batch_norm_table,
    .is_norm = true,
    .layout = LKS_LAYER_CHANNELS_LAST,
    .plan = plan_batch_norm,
};
