#include "engine/build.h"
#include "engine/layers/layers.h"

static const lks_option sequential_options[] = {{0}};

static const lks_option_table sequential_table = {
    .name = "sequential",
    .help = "The layers of its block, one after the other (torch.nn.Sequential).",
    .options = sequential_options,
};

/* The inner layers are named as those of a nested nn.Sequential: 3.0.weight. */
static lks_status compose_sequential(lks_builder *builder, const lks_layer_spec *spec,
                                     lks_flow *flow) {
    if (spec->shortcut != NULL)
        return lks_fail(LKS_ECONFIG, "takes no shortcut, that is residual's");
    if (spec->block == NULL) return lks_fail(LKS_ECONFIG, "needs a block: the layers inside it");
    return lks_build_list(builder, spec->block, NULL, flow);
}

const lks_layer_kind lks_layer_sequential = {
    .options = &sequential_table,
    .compose = compose_sequential,
};
