#include "engine/build.h"
#include "engine/layers/layers.h"

static const lks_option residual_options[] = {{0}};

static const lks_option_table residual_table = {
    .name = "residual",
    .help = "y = block(x) + shortcut(x); without a shortcut y = block(x) + x.",
    .options = residual_options,
};

static lks_status compose_residual(lks_builder *builder, const lks_layer_spec *spec,
                                   lks_flow *flow) {
    if (spec->block == NULL) return lks_fail(LKS_ECONFIG, "needs a block: the layers inside it");
    lks_flow shortcut;
    lks_status status = lks_build_fork(builder, flow, &shortcut);
    if (status == LKS_OK) status = lks_build_list(builder, spec->block, "block", flow);
    if (status == LKS_OK && spec->shortcut != NULL)
        status = lks_build_list(builder, spec->shortcut, "shortcut", &shortcut);
    if (status != LKS_OK) return status;

    char block_text[LKS_SHAPE_TEXT_BYTES], shortcut_text[LKS_SHAPE_TEXT_BYTES];
    if (!lks_shape_equal(&flow->shape, &shortcut.shape))
        return lks_fail(LKS_ESHAPE, "its block gives %s but its shortcut %s: they are added",
                        lks_shape_text(&flow->shape, block_text),
                        lks_shape_text(&shortcut.shape, shortcut_text));
    return lks_build_add(builder, flow, &shortcut);
}

const lks_layer_kind lks_layer_residual = {
    .options = &residual_table,
    .compose = compose_residual,
};
