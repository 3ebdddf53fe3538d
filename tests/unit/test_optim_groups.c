/* Parameter groups: whose hyper-parameters an element is updated with, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/group.h"

static lks_device *device;

enum { COUNT = 300, MAX_GROUPS = 4 };

static int setup(void **state) {
    (void)state;
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    return lks_device_create(&config, &device) != LKS_OK;
}

static int teardown(void **state) {
    (void)state;
    lks_device_destroy(device);
    return 0;
}

/* Buckets of 64 elements and more. */
static lks_shard_plan *make_plan(int stage, int rank, int size) {
    lks_shard_plan *plan = NULL;
    assert_int_equal(lks_shard_plan_create(COUNT, 512, 256, stage, rank, size, &plan), LKS_OK);
    return plan;
}

static lks_optimizer *make(const lks_optimizer_groups *groups, const lks_shard_plan *plan) {
    lks_optimizer *optimizer = NULL;
    if (lks_optimizer_create(device, groups, plan, &optimizer)) fail_msg("%s", lks_last_error());
    return optimizer;
}

/* ---- which element is whose ---- */

static int group_of(const lks_optimizer_groups *groups, int64_t element) {
    for (int i = 0; i < groups->range_count; i++) {
        const lks_group_range *r = &groups->ranges[i];
        if (element >= r->offset && element < r->offset + r->count) return r->group;
    }
    return 0;
}

static void check_segments(const lks_optimizer_groups *groups, const lks_shard_plan *plan) {
    lks_segments segments;
    assert_int_equal(lks_segments_create(plan, groups, &segments), LKS_OK);
    assert_int_equal(segments.first[0], 0);
    for (int b = 0; b < plan->bucket_count; b++) {
        const lks_range shard = plan->shards[b];
        int64_t at = shard.offset;
        for (int s = segments.first[b]; s < segments.first[b + 1]; s++) {
            const lks_segment *segment = &segments.all[s];
            assert_int_equal(segment->range.offset, at);
            assert_int_equal(segment->range.state_offset, shard.state_offset + at - shard.offset);
            assert_true(segment->range.count > 0);
            for (; at < segment->range.offset + segment->range.count; at++)
                assert_int_equal(segment->group, group_of(groups, at));
            if (s > segments.first[b]) assert_int_not_equal(segment->group, segment[-1].group);
        }
        assert_int_equal(at, shard.offset + shard.count);
    }
    lks_segments_free(&segments);
}

static void segments_cover_every_shard_once(void **state) {
    (void)state;
    static const lks_group_range ranges[][5] = {
        {{0, COUNT, 1}},
        {{0, 1, 1}, {1, 1, 2}, {2, 1, 1}, {3, 0, 2}, {100, 200, 3}},
        {{10, 54, 1}, {64, 64, 1}, {128, 5, 1}, {133, 5, 2}, {299, 1, 3}},
        {{63, 2, 2}, {70, 10, 0}, {80, 10, 0}, {127, 1, 3}, {128, 1, 3}},
    };
    for (size_t n = 0; n < sizeof ranges / sizeof *ranges; n++) {
        const lks_optimizer_groups groups = {
            .group_count = MAX_GROUPS, .ranges = ranges[n], .range_count = n == 0 ? 1 : 5};
        for (int size = 1; size <= 4; size++)
            for (int rank = 0; rank < size; rank++)
                for (int stage = 0; stage <= 2; stage++) {
                    lks_shard_plan *plan = make_plan(stage, rank, size);
                    check_segments(&groups, plan);
                    lks_shard_plan_destroy(plan);
                }
    }
}

static void bad_ranges_are_refused(void **state) {
    (void)state;
    lks_shard_plan *plan = make_plan(1, 0, 1);
    static const lks_group_range ranges[][2] = {
        {{-1, 2, 1}, {5, 1, 1}},        {{10, 5, 1}, {14, 5, 1}}, {{10, 5, 1}, {4, 2, 1}},
        {{0, 5, 1}, {9, -1, 1}},        {{0, 5, 1}, {9, 1, 2}},   {{0, 5, -1}, {9, 1, 1}},
        {{0, 5, 1}, {9, INT64_MAX, 1}},
    };
    for (size_t n = 0; n < sizeof ranges / sizeof *ranges; n++) {
        const lks_optimizer_groups groups = {
            .spec = {.type = "sgd"}, .group_count = 2, .ranges = ranges[n], .range_count = 2};
        lks_optimizer *optimizer = NULL;
        assert_int_equal(lks_optimizer_create(device, &groups, plan, &optimizer), LKS_EINVAL);
        assert_non_null(strstr(lks_last_error(), "parameter groups: range"));
        assert_null(optimizer);
    }
    lks_shard_plan_destroy(plan);
}

/* ---- hyper-parameters ---- */

static void each_group_has_its_own(void **state) {
    (void)state;
    const char *const overrides[MAX_GROUPS] = {NULL, "momentum=0.5 nesterov=false", "lr=0.25", ""};
    const double scale[MAX_GROUPS] = {1, 10, 10, 0.5};
    const lks_optimizer_groups groups = {.spec = {"sgd", "lr=0.1 momentum=0.9 nesterov=true", NULL},
                                         .group_count = MAX_GROUPS,
                                         .overrides = overrides,
                                         .lr_scale = scale};
    lks_shard_plan *plan = make_plan(1, 0, 1);
    lks_optimizer *optimizer = make(&groups, plan);
    assert_int_equal(lks_optimizer_group_count(optimizer), MAX_GROUPS);
    static const double lr[MAX_GROUPS] = {0.1, 1, 0.25, 0.05}, momentum[] = {0.9, 0.5, 0.9, 0.9};
    for (int g = 0; g < MAX_GROUPS; g++) {
        assert_true(lks_optimizer_base_lr(optimizer, g) == lr[g]);
        assert_true(lks_optimizer_momentum(optimizer, g) == momentum[g]);
    }
    assert_string_equal(
        lks_optimizer_hyper(optimizer),
        "group 0: lr=0.1 momentum=0.9 dampening=0 weight_decay=0 nesterov=true maximize=false; "
        "group 1: lr=1 momentum=0.5 dampening=0 weight_decay=0 nesterov=false maximize=false; "
        "group 2: lr=0.25 momentum=0.9 dampening=0 weight_decay=0 nesterov=true maximize=false; "
        "group 3: lr=0.05 momentum=0.9 dampening=0 weight_decay=0 nesterov=true maximize=false");
    static const char *const differences[MAX_GROUPS] = {
        "lr=0.1 momentum=0.9 dampening=0 weight_decay=0 nesterov=true maximize=false",
        "lr=1 momentum=0.5 nesterov=false", "lr=0.25", "lr=0.05"};
    for (int g = 0; g < MAX_GROUPS; g++) {
        lks_strbuf text = {0};
        lks_optimizer_describe_group(optimizer, g, &text);
        assert_false(text.failed);
        assert_string_equal(text.text, differences[g]);
        lks_strbuf_free(&text);
    }
    lks_optimizer_destroy(optimizer);
    lks_shard_plan_destroy(plan);
}

/* Plain gradient descent of 1 on every element; exact in float32. */
static void elements_move_by_their_groups_rate(void **state) {
    (void)state;
    const char *const overrides[] = {NULL, "maximize=true", "weight_decay=0.5"};
    const lks_group_range ranges[] = {{3, 100, 1}, {103, 7, 2}, {200, 50, 1}};
    const lks_optimizer_groups groups = {.spec = {.type = "sgd"},
                                         .group_count = 3,
                                         .overrides = overrides,
                                         .ranges = ranges,
                                         .range_count = 3};
    const lks_group_rates rates[] = {{0.5, (double)NAN}, {0.25, (double)NAN}, {0.125, (double)NAN}};
    const double divisor = 2;
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 4, .clip_value = 1.5};
    lks_shard_plan *plan = make_plan(1, 0, 1);
    lks_optimizer *optimizer = make(&groups, plan);
    float *params = calloc((size_t)plan->padded_count, sizeof *params);
    float *grads = calloc((size_t)plan->padded_count, sizeof *grads);
    assert_non_null(params);
    assert_non_null(grads);
    for (int i = 0; i < COUNT; i++) {
        params[i] = 8;
        grads[i] = i % 2 ? 0.5f : 2; /* 1, and 4 clamped to 1.5 */
    }
    assert_int_equal(lks_optimizer_step(optimizer, rates, params, grads, &scale), LKS_OK);
    for (int i = 0; i < COUNT; i++) {
        const float g = i % 2 ? 1 : 1.5f;
        const int group = group_of(&groups, i);
        assert_true(params[i] == (group == 0   ? 8 - 0.5f * g
                                  : group == 1 ? 8 + 0.25f * g
                                               : 8 - 0.125f * (g + 0.5f * 8)));
    }
    free(grads);
    free(params);
    lks_optimizer_destroy(optimizer);
    lks_shard_plan_destroy(plan);
}

/* ---- state ---- */

/* The initial value of each element is its group's, also where a shard begins within a group. */
static void state_starts_with_its_groups_value(void **state) {
    (void)state;
    const char *const overrides[] = {NULL, "initial_accumulator_value=2"};
    const lks_group_range ranges[] = {{40, 150, 1}};
    const lks_optimizer_groups groups = {.spec = {"adagrad", "initial_accumulator_value=0.5", NULL},
                                         .group_count = 2,
                                         .overrides = overrides,
                                         .ranges = ranges,
                                         .range_count = 1};
    for (int rank = 0; rank < 3; rank++) {
        lks_shard_plan *plan = make_plan(1, rank, 3);
        lks_optimizer *optimizer = make(&groups, plan);
        assert_int_equal(lks_optimizer_state_array_count(optimizer), 1);
        assert_string_equal(lks_optimizer_state_name(optimizer, 0), "sum");
        const float *sum = lks_optimizer_state(optimizer, 0);
        for (int b = 0; b < plan->bucket_count; b++)
            for (int64_t i = 0; i < plan->shards[b].count; i++)
                assert_true(sum[plan->shards[b].state_offset + i] ==
                            (group_of(&groups, plan->shards[b].offset + i) ? 2 : 0.5f));
        lks_optimizer_destroy(optimizer);
        lks_shard_plan_destroy(plan);
    }
}

/* An array exists when some group needs it; those that do not leave their part of it alone. */
static void arrays_are_those_that_some_group_needs(void **state) {
    (void)state;
    const char *const overrides[] = {NULL, "centered=true"};
    const lks_group_range ranges[] = {{0, 10, 1}};
    const lks_optimizer_groups groups = {.spec = {.type = "rmsprop"},
                                         .group_count = 2,
                                         .overrides = overrides,
                                         .ranges = ranges,
                                         .range_count = 1};
    const lks_group_rates rates[] = {{0.1, (double)NAN}, {0.1, (double)NAN}};
    const double divisor = 1;
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 1};
    lks_shard_plan *plan = make_plan(1, 0, 1);
    lks_optimizer *optimizer = make(&groups, plan);
    assert_int_equal(lks_optimizer_state_array_count(optimizer), 2);
    assert_string_equal(lks_optimizer_state_name(optimizer, 0), "square_avg");
    assert_string_equal(lks_optimizer_state_name(optimizer, 1), "grad_avg");
    float *params = calloc((size_t)plan->padded_count, sizeof *params);
    float *grads = calloc((size_t)plan->padded_count, sizeof *grads);
    assert_non_null(params);
    assert_non_null(grads);
    for (int i = 0; i < COUNT; i++)
        grads[i] = 1;
    assert_int_equal(lks_optimizer_step(optimizer, rates, params, grads, &scale), LKS_OK);
    for (int i = 0; i < COUNT; i++) {
        assert_true(lks_optimizer_state(optimizer, 0)[i] != 0);
        assert_true((lks_optimizer_state(optimizer, 1)[i] != 0) == (i < 10));
    }
    free(grads);
    free(params);
    lks_optimizer_destroy(optimizer);
    lks_shard_plan_destroy(plan);
}

/* Of every optimizer with all its arrays: a rank's part and one unit of alignment per bucket. */
static void state_is_shared_out_evenly(void **state) {
    (void)state;
    static const struct {
        const char *type, *options;
        int arrays;
    } cases[] = {{"sgd", "momentum=0.9", 1},
                 {"adam", "amsgrad=true", 3},
                 {"adamw", "amsgrad=true", 3},
                 {"rmsprop", "momentum=0.9 centered=true", 3},
                 {"adagrad", "", 1}};
    static const int64_t counts[] = {1, 17, 1000, 12345};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        assert_string_equal(lks_optimizer_type((int)c), cases[c].type);
        for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
            for (int size = 1; size <= 7; size++) {
                size_t all = 0;
                for (int rank = 0; rank < size; rank++) {
                    const lks_optimizer_groups groups = {
                        .spec = {cases[c].type, cases[c].options, NULL}, .group_count = 1};
                    lks_shard_plan *plan;
                    assert_int_equal(
                        lks_shard_plan_create(counts[n], 4096, 1024, 1, rank, size, &plan), LKS_OK);
                    lks_optimizer *optimizer = make(&groups, plan);
                    const size_t bytes = lks_optimizer_state_bytes(optimizer);
                    const size_t arrays = (size_t)cases[c].arrays * sizeof(float);
                    const size_t units = (size_t)plan->bucket_count * LKS_SHARD_ALIGN;
                    assert_true(bytes <= arrays * ((size_t)counts[n] / (size_t)size + units));
                    all += bytes;
                    if (rank == size - 1) assert_true(all >= arrays * (size_t)counts[n]);
                    lks_optimizer_destroy(optimizer);
                    lks_shard_plan_destroy(plan);
                }
            }
        }
    }
    assert_null(lks_optimizer_type(sizeof cases / sizeof *cases));
}

/* ---- momentum ---- */

static double first_step(lks_optimizer *optimizer, const lks_shard_plan *plan, double momentum) {
    const lks_group_rates rates = {.lr = 1, .momentum = momentum};
    const double divisor = 1;
    const lks_grad_scale scale = {.divisor = &divisor, .scale = 1};
    float *params = calloc((size_t)plan->padded_count, sizeof *params);
    float *grads = calloc((size_t)plan->padded_count, sizeof *grads);
    assert_non_null(params);
    assert_non_null(grads);
    grads[0] = 1;
    assert_int_equal(lks_optimizer_step(optimizer, &rates, params, grads, &scale), LKS_OK);
    const double moved = -(double)params[0];
    free(grads);
    free(params);
    return moved;
}

static lks_status begin_with(lks_optimizer *optimizer, double momentum) {
    const lks_group_rates rates = {.lr = 1, .momentum = momentum};
    return lks_optimizer_begin_step(optimizer, &rates);
}

static void a_schedule_may_set_momentum(void **state) {
    (void)state;
    static const struct {
        const char *type, *options;
        double configured;
    } cases[] = {{"sgd", "momentum=0.75 nesterov=true", 0.75},
                 {"sgd", "", (double)NAN},
                 {"adam", "betas=[0.75,0.9]", 0.75},
                 {"adamw", "betas=[0,0.9]", 0},
                 {"rmsprop", "momentum=0.75", 0.75},
                 {"rmsprop", "", (double)NAN},
                 {"adagrad", "", (double)NAN}};
    lks_shard_plan *plan = make_plan(1, 0, 1);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const lks_optimizer_groups groups = {.spec = {cases[c].type, cases[c].options, NULL},
                                             .group_count = 1};
        lks_optimizer *optimizer = make(&groups, plan);
        const double configured = lks_optimizer_momentum(optimizer, 0);
        const bool has = !isnan(cases[c].configured);
        assert_true(has ? configured == cases[c].configured : isnan(configured));
        assert_int_equal(begin_with(optimizer, 0.5), has ? LKS_OK : LKS_EINVAL);
        assert_int_equal(begin_with(optimizer, -0.5), LKS_EINVAL);
        assert_int_equal(begin_with(optimizer, (double)INFINITY), LKS_EINVAL);
        assert_int_equal(begin_with(optimizer, (double)NAN), LKS_OK);
        if (strncmp(cases[c].type, "adam", 4) == 0)
            assert_int_equal(begin_with(optimizer, 1), LKS_EINVAL);
        assert_int_equal(lks_optimizer_steps(optimizer), has ? 2 : 1);
        lks_optimizer_destroy(optimizer);
    }
    /* The first step of Nesterov's momentum moves by 1 + momentum; NAN brings the configured one
     * back. */
    const lks_optimizer_groups groups = {.spec = {"sgd", "momentum=0.75 nesterov=true", NULL},
                                         .group_count = 1};
    lks_optimizer *optimizer = make(&groups, plan);
    assert_true(first_step(optimizer, plan, 0.5) == 1.5);
    lks_optimizer_set_steps(optimizer, 0);
    assert_true(first_step(optimizer, plan, (double)NAN) == 1.75);
    lks_optimizer_set_steps(optimizer, 0);
    assert_true(first_step(optimizer, plan, 0) == 1); /* plain descent */
    lks_optimizer_destroy(optimizer);
    lks_shard_plan_destroy(plan);
}

/* ---- what is refused ---- */

static void refuse(const char *own, double lr_scale, const char *words) {
    const char *const overrides[] = {NULL, own};
    const double scale[] = {1, lr_scale};
    const lks_optimizer_groups groups = {.spec = {"sgd", "momentum=0.9", "run.yaml:7"},
                                         .group_count = 2,
                                         .overrides = overrides,
                                         .lr_scale = scale};
    lks_shard_plan *plan = make_plan(1, 0, 1);
    lks_optimizer *optimizer = NULL;
    assert_int_equal(lks_optimizer_create(device, &groups, plan, &optimizer), LKS_ECONFIG);
    assert_null(optimizer);
    if (!strstr(lks_last_error(), words) ||
        !strstr(lks_last_error(), "run.yaml:7: optimizer (sgd), group 1: "))
        fail_msg("\"%s\" does not say \"%s\"", lks_last_error(), words);
    lks_shard_plan_destroy(plan);
}

static void bad_groups_are_refused(void **state) {
    (void)state;
    refuse("lr=-1", 1, "lr: -1");
    refuse("weight_deca=1", 1, "weight_decay");
    refuse("lr=1 lr=2", 1, "given twice");
    refuse("nesterov=true momentum=0", 1, "needs momentum > 0");
    refuse("nesterov", 1, "key=value");
    refuse("", -1, "scaled by -1");
    refuse("", (double)NAN, "scaled by");
    refuse("", (double)INFINITY, "scaled by inf");

    lks_shard_plan *plan = make_plan(1, 0, 1);
    const lks_optimizer_groups none = {.spec = {.type = "sgd"}};
    lks_optimizer *optimizer = NULL;
    assert_int_equal(lks_optimizer_create(device, &none, plan, &optimizer), LKS_EINVAL);
    lks_shard_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_cover_every_shard_once),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(each_group_has_its_own),
        cmocka_unit_test(elements_move_by_their_groups_rate),
        cmocka_unit_test(state_starts_with_its_groups_value),
        cmocka_unit_test(arrays_are_those_that_some_group_needs),
        cmocka_unit_test(state_is_shared_out_evenly),
        cmocka_unit_test(a_schedule_may_set_momentum),
        cmocka_unit_test(bad_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
