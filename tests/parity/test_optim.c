/* Every optimizer against torch.optim over 50 steps of random gradients. */
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"
#include "parity/golden.h"

enum { STEPS = 50, MAX_GROUPS = 2 };

/* Of the largest element of an array. Both sides round in float32 (units of 6e-8) in slightly
 * different orders, and a parameter sums 50 updates; the worst array is 2.5e-7 away. Element by
 * element the same does not hold: where terms of unlike sign have cancelled, the rounding of the
 * terms is large beside what is left of them. */
static const double TOLERANCE = 1e-6;

typedef struct parity_case {
    lks_device *device;
    lks_h5_file *file;
    char name[32]; /* its group */
    char what[256];
    lks_optimizer *optimizer;
    void *params; /* on the device, padded */
    int64_t count;
    int groups;
} parity_case;

/* One array of a step's group against what is on the device. */
static void compare_array(const parity_case *c, const char *group, const char *array,
                          const void *there) {
    char what[384];
    const size_t bytes = (size_t)c->count * sizeof(float);
    float *got = malloc(bytes);
    assert_non_null(got);
    check_download(c->device, got, there, bytes);
    snprintf(what, sizeof what, "%s (%s/%s)", c->what, group, array);
    float *want = golden_floats(c->file, golden_path(group, array), NULL);
    golden_compare(what, got, want, c->count, TOLERANCE);
    free(want);
    free(got);
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
    check_ok(lks_h5_read_attr_f64(c->file, c->name, name, out, STEPS * MAX_GROUPS, &count));
    assert_int_equal(count, STEPS * c->groups);
}

/* Device memory of `padded` float32: `count` of `from`, then zeros. */
static void *padded_copy(lks_device *device, const float *from, int64_t count, int64_t padded) {
    float *host = calloc((size_t)padded, sizeof *host);
    assert_non_null(host);
    if (from) memcpy(host, from, (size_t)count * sizeof *host);
    void *memory = check_device_copy(device, host, (size_t)padded * sizeof *host);
    free(host);
    return memory;
}

static void run_steps(parity_case *c, int64_t padded) {
    const double divisor = 4; /* the sum over a batch of 4 */
    double lr[STEPS * MAX_GROUPS], momentum[STEPS * MAX_GROUPS];
    float *gradients = golden_floats(c->file, "gradients", NULL);
    void *grads = padded_copy(c->device, NULL, 0, padded);
    void *device_divisor = check_device_copy(c->device, &divisor, sizeof divisor);
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
        float *gradient = gradients + step * c->count;
        for (int64_t i = 0; i < c->count; i++)
            gradient[i] *= 4; /* exact: a power of two */
        check_upload(c->device, grads, gradient, (size_t)c->count * sizeof(float));
        check_ok(lks_optimizer_step(c->optimizer, rates, c->params, grads, &scale));
        assert_int_equal(lks_optimizer_steps(c->optimizer), step + 1);
        compare(c, step + 1);
    }
    lks_device_free(c->device, device_divisor);
    lks_device_free(c->device, grads);
    free(gradients);
}

static void run_case(lks_device *device, lks_h5_file *file, int index) {
    parity_case c = {.device = device, .file = file};
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
    check_ok(lks_shard_plan_create(c.count, 128, 64, 1, 0, 1, &plan)); /* four buckets */
    assert_int_equal(plan->bucket_count, 4);
    c.params = padded_copy(device, initial, c.count, plan->padded_count);
    check_ok(lks_optimizer_create(device, &groups, plan, &c.optimizer));
    run_steps(&c, plan->padded_count);

    lks_optimizer_destroy(c.optimizer);
    lks_device_free(device, c.params);
    lks_shard_plan_destroy(plan);
    free(initial);
    free(second);
    free(options);
    free(type);
}

static void every_case_is_pytorchs(void **state) {
    lks_h5_file *file = golden_open("optim.h5");
    int cases = (int)golden_int(file, "/", "cases");
    assert_true(cases > 70);
    for (int i = 0; i < cases; i++)
        run_case(*state, file, i);
    check_ok(lks_h5_close(file));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_is_pytorchs)};
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
