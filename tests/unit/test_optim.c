/* Optimizers: making them, what they keep, and what is refused. Their numbers are tests/parity's.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"

static lks_device *device;
static lks_shard_plan *plan;

enum { COUNT = 100, PADDED = 128, HELD = 64 }; /* rank 1 of 2, in two buckets of 64 */

static int setup(void **state) {
    (void)state;
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    return lks_device_create(&config, &device) != LKS_OK ||
           lks_shard_plan_create(COUNT, 256, 256, 1, 1, 2, &plan) != LKS_OK;
}

static int teardown(void **state) {
    (void)state;
    lks_shard_plan_destroy(plan);
    lks_device_destroy(device);
    return 0;
}

static lks_optimizer *make(const char *type, const char *options) {
    const lks_optimizer_groups groups = {.spec = {type, options, NULL}, .group_count = 1};
    lks_optimizer *optimizer = NULL;
    if (lks_optimizer_create(device, &groups, plan, &optimizer)) fail_msg("%s", lks_last_error());
    return optimizer;
}

static void check_states(const char *type, const char *options, const char *names) {
    lks_optimizer *optimizer = make(type, options);
    char found[128] = "";
    int count = lks_optimizer_state_array_count(optimizer);
    for (int i = 0; i < count; i++) {
        strcat(strcat(found, lks_optimizer_state_name(optimizer, i)), " ");
        const float *state = lks_optimizer_state(optimizer, i);
        for (int e = 0; e < HELD; e++)
            assert_true(state[e] == 0);
    }
    assert_string_equal(found, names);
    assert_int_equal(lks_optimizer_state_bytes(optimizer), (size_t)count * HELD * sizeof(float));
    lks_optimizer_destroy(optimizer);
}

static void only_the_state_that_is_needed_is_kept(void **state) {
    (void)state;
    assert_int_equal(plan->padded_count, PADDED);
    assert_int_equal(plan->state_count, HELD);
    check_states("sgd", "", "");
    check_states("sgd", "momentum=0.9", "momentum_buffer ");
    check_states("adam", "", "exp_avg exp_avg_sq ");
    check_states("adamw", NULL, "exp_avg exp_avg_sq ");
    check_states("adamw", "amsgrad=true", "exp_avg exp_avg_sq max_exp_avg_sq ");
    check_states("rmsprop", "", "square_avg ");
    check_states("rmsprop", "momentum=0.9", "square_avg momentum_buffer ");
    check_states("rmsprop", "centered=true", "square_avg grad_avg ");
    check_states("rmsprop", "centered=true momentum=0.9", "square_avg momentum_buffer grad_avg ");
    check_states("adagrad", "", "sum ");
    lks_optimizer_destroy(NULL);
}

static void the_hyper_parameters_are_pytorchs(void **state) {
    (void)state;
    lks_optimizer *optimizer = make("sgd", "");
    assert_string_equal(lks_optimizer_name(optimizer), "sgd");
    assert_string_equal(lks_optimizer_hyper(optimizer),
                        "lr=0.001 momentum=0 dampening=0 weight_decay=0 nesterov=false "
                        "maximize=false");
    lks_optimizer_destroy(optimizer);
    optimizer = make("adamw", "lr=3e-4 maximize=true");
    assert_string_equal(lks_optimizer_hyper(optimizer),
                        "lr=0.0003 betas=[0.9,0.999] eps=1e-08 weight_decay=0.01 amsgrad=false "
                        "maximize=true");
    assert_true(lks_optimizer_base_lr(optimizer, 0) == 3e-4);
    /* The text makes the same optimizer again. */
    lks_optimizer *again = make("adamw", lks_optimizer_hyper(optimizer));
    assert_string_equal(lks_optimizer_hyper(again), lks_optimizer_hyper(optimizer));
    lks_optimizer_destroy(again);
    lks_optimizer_destroy(optimizer);
    optimizer = make("adam", "");
    assert_non_null(strstr(lks_optimizer_hyper(optimizer), "weight_decay=0 "));
    lks_optimizer_destroy(optimizer);
    optimizer = make("rmsprop", "");
    assert_string_equal(lks_optimizer_hyper(optimizer),
                        "lr=0.01 alpha=0.99 eps=1e-08 weight_decay=0 momentum=0 centered=false "
                        "maximize=false");
    lks_optimizer_destroy(optimizer);
    optimizer = make("adagrad", "");
    assert_string_equal(lks_optimizer_hyper(optimizer),
                        "lr=0.01 lr_decay=0 weight_decay=0 initial_accumulator_value=0 eps=1e-10 "
                        "maximize=false");
    lks_optimizer_destroy(optimizer);
}

static lks_status begin_step(lks_optimizer *optimizer, double lr) {
    const lks_group_rates rates = {.lr = lr, .momentum = NAN};
    return lks_optimizer_begin_step(optimizer, &rates);
}

static lks_status step_bucket(lks_optimizer *optimizer, int bucket, float *params,
                              const float *grads, const lks_grad_scale *scale) {
    const lks_shard_arrays shard = {.params = params, .grads = grads};
    return lks_optimizer_step_bucket(optimizer, bucket, &shard, scale);
}

static void one_step_moves_this_ranks_shards_alone(void **state) {
    (void)state;
    lks_optimizer *optimizer = make("sgd", "lr=0.5");
    float params[PADDED], grads[PADDED];
    const double divisor = 2;
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 1};
    const lks_group_rates still = {.lr = 0, .momentum = NAN};
    for (int i = 0; i < PADDED; i++) {
        params[i] = 10;
        grads[i] = (float)i;
    }
    assert_int_equal(begin_step(optimizer, 0.25), LKS_OK);
    assert_int_equal(lks_optimizer_steps(optimizer), 1);
    assert_int_equal(step_bucket(optimizer, 1, params + 96, grads + 96, &scale), LKS_OK);
    for (int i = 0; i < PADDED; i++) /* exact in float32 */
        assert_true(params[i] == (i >= 96 ? 10 - 0.25f * (float)i / 2 : 10));
    assert_int_equal(step_bucket(optimizer, 0, params + 32, grads + 32, &scale), LKS_OK);
    for (int i = 0; i < 96; i++)
        assert_true(params[i] == (i >= 32 && i < 64 ? 10 - 0.25f * (float)i / 2 : 10));
    lks_optimizer_set_steps(optimizer, 41);
    assert_int_equal(lks_optimizer_step(optimizer, &still, params, grads, &scale), LKS_OK);
    assert_int_equal(lks_optimizer_steps(optimizer), 42);
    assert_int_equal(begin_step(optimizer, NAN), LKS_EINVAL);
    assert_int_equal(begin_step(optimizer, -1), LKS_EINVAL);
    assert_int_equal(lks_optimizer_steps(optimizer), 42);
    lks_optimizer_destroy(optimizer);
}

static void refuse(const char *type, const char *options, const char *words) {
    const lks_optimizer_groups groups = {.spec = {type, options, "run.yaml:7"}, .group_count = 1};
    lks_optimizer *optimizer = NULL;
    lks_status status = lks_optimizer_create(device, &groups, plan, &optimizer);
    if (status != LKS_ECONFIG) fail_msg("%s %s: %s", type, options, lks_status_text(status));
    if (!strstr(lks_last_error(), words) || strncmp(lks_last_error(), "run.yaml:7: ", 12) != 0)
        fail_msg("\"%s\" does not say \"%s\"", lks_last_error(), words);
    assert_null(optimizer);
}

static void bad_configurations_are_refused(void **state) {
    (void)state;
    refuse("adamm", "", "unknown optimizer \"adamm\": did you mean \"adam");
    refuse("qqqqqqqq", "", "expected one of sgd, adam, adamw, rmsprop, adagrad");
    refuse("sgd", "lr=-1", "lr: -1");
    refuse("sgd", "lr=inf", "lr: inf");
    refuse("sgd", "lr=nan", "lr");
    refuse("sgd", "momentum=-0.1", "momentum");
    refuse("sgd", "weight_decay=-0.1", "weight_decay");
    refuse("sgd", "nesterov=true", "needs momentum > 0");
    refuse("sgd", "nesterov=true momentum=0.9 dampening=0.1", "dampening is 0.1");
    refuse("sgd", "betas=[0.9,0.99]", "betas");
    refuse("adamw", "betas=[0.9,1]", "betas");
    refuse("adamw", "betas=[-0.1,0.9]", "betas");
    refuse("adamw", "betas=0.9", "betas");
    refuse("adamw", "eps=-1e-8", "eps");
    refuse("adam", "momentum=0.9", "momentum");
    refuse("rmsprop", "alpha=1", "alpha");
    refuse("rmsprop", "alpha=-0.1", "alpha");
    refuse("rmsprop", "momentum=-0.1", "momentum");
    refuse("rmsprop", "eps=-1", "eps");
    refuse("rmsprop", "weight_decay=nan", "weight_decay");
    refuse("adagrad", "lr_decay=-0.1", "lr_decay");
    refuse("adagrad", "initial_accumulator_value=-1", "initial_accumulator_value");
    refuse("adagrad", "initial_accumulator_value=inf", "initial_accumulator_value");
    refuse("adagrad", "eps=-1", "eps");

    lks_optimizer *optimizer = NULL;
    const lks_optimizer_groups nothing = {.group_count = 1};
    assert_int_equal(lks_optimizer_create(device, NULL, plan, &optimizer), LKS_EINVAL);
    assert_int_equal(lks_optimizer_create(device, &nothing, plan, &optimizer), LKS_EINVAL);
}

static void the_registry_is_complete(void **state) {
    (void)state;
    int count = 0;
    while (lks_optimizer_type(count)) {
        const char *type = lks_optimizer_type(count++);
        assert_string_equal(lks_optimizer_options(type)->name, type);
        assert_non_null(lks_options_find(lks_optimizer_options(type), "lr"));
    }
    assert_int_equal(count, 5);
    assert_null(lks_optimizer_type(-1));
    assert_null(lks_optimizer_options("sgdd"));
    assert_null(lks_optimizer_options(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_state_that_is_needed_is_kept),
        cmocka_unit_test(the_hyper_parameters_are_pytorchs),
        cmocka_unit_test(one_step_moves_this_ranks_shards_alone),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(the_registry_is_complete),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
