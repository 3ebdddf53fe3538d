/* The registry of layers: a new type is a file in layers/ and a line here. */
#include "engine/layer.h"

#include <string.h>

#include "engine/engine.h"
#include "engine/layers/layers.h"

static const lks_layer_kind *const layer_kinds[] = {
    &lks_layer_linear,
    &lks_layer_conv2d,
    &lks_layer_max_pool2d,
    &lks_layer_avg_pool2d,
    &lks_layer_adaptive_avg_pool2d,
    &lks_layer_batch_norm,
    &lks_layer_layer_norm,
    &lks_layer_dropout,
    &lks_layer_relu,
    &lks_layer_leaky_relu,
    &lks_layer_gelu,
    &lks_layer_silu,
    &lks_layer_tanh,
    &lks_layer_sigmoid,
    &lks_layer_softmax,
    &lks_layer_flatten,
    &lks_layer_sequential,
    &lks_layer_residual,
};

enum { LAYER_KIND_COUNT = sizeof layer_kinds / sizeof layer_kinds[0] };

const lks_layer_kind *lks_layer_find(const char *type) {
    for (int i = 0; type != NULL && i < LAYER_KIND_COUNT; i++) {
        if (strcmp(layer_kinds[i]->options->name, type) == 0) return layer_kinds[i];
    }
    return NULL;
}

lks_status lks_layer_unknown(const char *type) {
    if (type == NULL) return lks_fail(LKS_ECONFIG, "a layer without a type");
    const char *names[LAYER_KIND_COUNT];
    for (int i = 0; i < LAYER_KIND_COUNT; i++)
        names[i] = layer_kinds[i]->options->name;
    return lks_fail_unknown("layer type", type, names, LAYER_KIND_COUNT);
}

const lks_option_table *lks_layer_options(const char *type) {
    const lks_layer_kind *found = lks_layer_find(type);
    return found != NULL ? found->options : NULL;
}

const char *lks_layer_type(int index) {
    return index >= 0 && index < LAYER_KIND_COUNT ? layer_kinds[index]->options->name : NULL;
}

bool lks_layer_is_container(const char *type) {
    const lks_layer_kind *found = lks_layer_find(type);
    return found != NULL && found->compose != NULL;
}
