/* Every optimizer against torch.optim over 50 steps of random gradients. */
#include "optim/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parity/golden.h"

enum { STEPS = 50, MAX_GROUPS = 2 };

/* Of the largest element of an array. Both sides round in float32 (units of 6e-8) in slightly
 * different orders, and a parameter sums 50 updates; the worst array is 2.5e-7 away. Element by
 * element the same does not hold: where terms of unlike sign have cancelled, the rounding of the
 * terms is large beside what is left of them. */
static const double TOLERANCE = 1e-6;

#define assert_ok(call)                                                                        \
    do {                                                                                       \
        lks_status status_ = (call);                                                           \
        if (status_ != LKS_OK) fail_msg("%s: %s", lks_status_text(status_), lks_last_error()); \
    } while (0)

typedef struct parity_case {
    lks_h5_file *file;
    char name[32]; /* its group */
    char what[256];
    lks_optimizer *optimizer;
    float *params; /* padded */
    int64_t count;
    int groups;
} parity_case;

/* One array of a step's group against what is here. */
static void compare_array(const parity_case *c, const char *group, const char *array,
                          const float *got) {
    char what[384];
    snprintf(what, sizeof what, "%s (%s/%s)", c->what, group, array);
    float *want = golden_floats(c->file, golden_path(group, array), NULL);
    golden_compare(what, got, want, c->count, TOLERANCE);
    free(want);
}

/* After the steps that the file keeps. */
static void compare(const parity_case *c, int step) {
    char group[64];
    snprintf(group, sizeof group, "%s/step%d", c->name, step);
    if (!lks_h5_exists(c->file, group)) return;
    compare_array(c, group, "param", c->params);
    for (int i = 0; i < lks_optimizer_state_array_count(c->optimizer); i++)
        compare_array(c, group, lks_optimizer_state_name(c->optimizer, i),
                      lks_optimizer_state(c->optimizer, i));
}

/* An attribute [STEPS][groups]. */
static void read_rates(const parity_case *c, const char *name, double out[STEPS * MAX_GROUPS]) {
    int count;
    assert_ok(lks_h5_read_attr_f64(c->file, c->name, name, out, STEPS * MAX_GROUPS, &count));
    assert_int_equal(count, STEPS * c->groups);
}

static void run_steps(parity_case *c, lks_device *device, int64_t padded) {
    const double divisor = 4; /* the sum over a batch of 4 */
    double lr[STEPS * MAX_GROUPS], momentum[STEPS * MAX_GROUPS];
    float *gradients = golden_floats(c->file, "gradients", NULL);
    void *grads, *device_divisor;
    assert_ok(lks_device_alloc(device, (size_t)padded * sizeof(float), &grads));
    assert_ok(lks_device_alloc(device, sizeof divisor, &device_divisor));
    memcpy(device_divisor, &divisor, sizeof divisor);
    memset(grads, 0, (size_t)padded * sizeof(float));
    const lks_grad_scale scale = {.divisor = device_divisor, .scale = 1};
    read_rates(c, "lr", lr);
    read_rates(c, "momentum", momentum);
    for (int step = 0; step < STEPS; step++) {
        lks_group_rates rates[MAX_GROUPS];
        for (int g = 0; g < c->groups; g++) {
            const int at = step * c->groups + g;
            rates[g] = (lks_group_rates){.lr = lr[at], .momentum = momentum[at]};
            if (step > 0) continue; /* the first are those that were configured */
            assert_true(lks_optimizer_base_lr(c->optimizer, g) == lr[at]);
            const double configured = lks_optimizer_momentum(c->optimizer, g);
            assert_true(configured == momentum[at] || (isnan(configured) && isnan(momentum[at])));
        }
        for (int64_t i = 0; i < c->count; i++)
            ((float *)grads)[i] = 4 * gradients[step * c->count + i]; /* exact: a power of two */
        assert_ok(lks_optimizer_step(c->optimizer, rates, c->params, grads, &scale));
        assert_int_equal(lks_optimizer_steps(c->optimizer), step + 1);
        compare(c, step + 1);
    }
    lks_device_free(device, device_divisor);
    lks_device_free(device, grads);
    free(gradients);
}

static void run_case(lks_device *device, lks_h5_file *file, int index) {
    parity_case c = {.file = file};
    snprintf(c.name, sizeof c.name, "case%d", index);
    char *type = golden_text(file, c.name, "type"), *options = golden_text(file, c.name, "options");
    char *second = golden_text(file, c.name, "second");
    snprintf(c.what, sizeof c.what, "%s %s / %s", type, options, second);
    lks_shape shape;
    float *initial = golden_floats(file, "initial", &shape);
    c.count = shape.dim[0];
    c.groups = second[0] ? 2 : 1;

    const int64_t split = golden_int(file, "/", "split");
    const lks_group_range range = {.offset = split, .count = c.count - split, .group = 1};
    const char *const overrides[] = {NULL, second};
    const lks_optimizer_groups groups = {.spec = {type, options, NULL},
                                         .group_count = c.groups,
                                         .overrides = overrides,
                                         .ranges = &range,
                                         .range_count = c.groups - 1};
    lks_shard_plan *plan;
    void *params;
    assert_ok(lks_shard_plan_create(c.count, 128, 64, 1, 0, 1, &plan)); /* three buckets */
    assert_int_equal(plan->bucket_count, 3);
    assert_ok(lks_device_alloc(device, (size_t)plan->padded_count * sizeof(float), &params));
    memset(params, 0, (size_t)plan->padded_count * sizeof(float));
    memcpy(params, initial, (size_t)c.count * sizeof(float));
    c.params = params;
    assert_ok(lks_optimizer_create(device, &groups, plan, &c.optimizer));
    run_steps(&c, device, plan->padded_count);

    lks_optimizer_destroy(c.optimizer);
    lks_device_free(device, params);
    lks_shard_plan_destroy(plan);
    free(initial);
    free(second);
    free(options);
    free(type);
}

static void every_case_is_pytorchs(void **state) {
    (void)state;
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    lks_device *device;
    assert_ok(lks_device_create(&config, &device));
    lks_h5_file *file = golden_open("optim.h5");
    int cases = (int)golden_int(file, "/", "cases");
    assert_true(cases > 70);
    for (int i = 0; i < cases; i++)
        run_case(device, file, i);
    assert_ok(lks_h5_close(file));
    lks_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_is_pytorchs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
