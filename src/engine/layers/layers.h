/* Every type of layer, one file each. Included by the registry and by the layers' files. */
#ifndef LKS_ENGINE_LAYERS_H
#define LKS_ENGINE_LAYERS_H

#include "engine/layer.h"

extern const lks_layer_kind lks_layer_linear;
extern const lks_layer_kind lks_layer_conv2d;
extern const lks_layer_kind lks_layer_max_pool2d;
extern const lks_layer_kind lks_layer_avg_pool2d;
extern const lks_layer_kind lks_layer_adaptive_avg_pool2d;
extern const lks_layer_kind lks_layer_batch_norm;
extern const lks_layer_kind lks_layer_layer_norm;
extern const lks_layer_kind lks_layer_dropout;
extern const lks_layer_kind lks_layer_relu;
extern const lks_layer_kind lks_layer_leaky_relu;
extern const lks_layer_kind lks_layer_gelu;
extern const lks_layer_kind lks_layer_silu;
extern const lks_layer_kind lks_layer_tanh;
extern const lks_layer_kind lks_layer_sigmoid;
extern const lks_layer_kind lks_layer_softmax;
extern const lks_layer_kind lks_layer_flatten;
extern const lks_layer_kind lks_layer_sequential;
extern const lks_layer_kind lks_layer_residual;

#endif
