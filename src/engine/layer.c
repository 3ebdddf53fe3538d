/* What the layers' files share. */
#include "engine/layer.h"

#include <assert.h>

static void add(lks_layer_plan *plan, const lks_layer_param *param) {
    assert(plan->param_count < LKS_LAYER_MAX_PARAMS);
    plan->params[plan->param_count++] = *param;
}

void lks_layer_add_param(lks_layer_plan *plan, const char *suffix, const lks_shape *shape,
                         lks_init_rule init, double bound) {
    add(plan, &(lks_layer_param){.suffix = suffix, .shape = *shape, .init = init, .bound = bound});
}

void lks_layer_add_buffer(lks_layer_plan *plan, const char *suffix, const lks_shape *shape,
                          lks_init_rule init) {
    add(plan,
        &(lks_layer_param){.suffix = suffix, .shape = *shape, .init = init, .is_buffer = true});
}

lks_status lks_layer_plan_activation(const lks_layer_input *input, lks_activation activation,
                                     double alpha, lks_layer_plan *plan) {
    int64_t count;
    lks_status status = lks_shape_count(&input->shape, &count);
    if (status != LKS_OK) return status;
    plan->has_op = true;
    plan->kind = LKS_OP_ELTWISE;
    plan->desc.eltwise =
        (lks_eltwise_desc){.count = count, .activation = activation, .alpha = alpha};
    return LKS_OK;
}

lks_status lks_layer_check_image(const lks_layer_input *input) {
    char text[LKS_SHAPE_TEXT_BYTES];
    if (input->shape.rank != 3)
        return lks_fail(LKS_ESHAPE, "takes images [channels, height, width], but its input is %s",
                        lks_shape_text(&input->shape, text));
    return LKS_OK;
}
