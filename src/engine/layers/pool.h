/* What max_pool2d and avg_pool2d share. */
#ifndef LKS_ENGINE_POOL_H
#define LKS_ENGINE_POOL_H

#include "engine/layers/window.h"

typedef struct lks_pool_config {
    lks_window window; /* stride 0: the kernel's size; dilation 0: 1 */
    bool count_include_pad;
} lks_pool_config;

lks_status lks_pool_plan(const lks_pool_config *config, lks_pool_kind kind,
                         const lks_layer_input *input, lks_layer_plan *plan);

#endif
