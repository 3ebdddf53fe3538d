/* Frozen parameters: no gradient, the others' gradients as ever, and no work for nothing. */
#include <stdlib.h>

#include "unit/engine_case.h"

enum { MAX_BATCH = 4 };

/* Every operation that has parameters, with a branch that may need no gradient. */
static const lks_layer_spec block[] = {
    {.type = "conv2d", .options = "out_channels=6 kernel_size=3 padding=1"},
    {.type = "relu"},
    {0},
};
static const lks_layer_spec layers[] = {
    {.type = "conv2d", .name = "conv1", .options = "out_channels=6 kernel_size=3 padding=1"},
    {.type = "batch_norm", .name = "norm1"},
    {.type = "relu"},
    {.type = "residual", .name = "res", .block = block},
    {.type = "flatten"},
    {.type = "linear", .name = "fc1", .options = "out_features=7"},
    {.type = "layer_norm", .name = "norm2"},
    {.type = "linear", .name = "fc2", .options = "out_features=3"},
    {0},
};
static const lks_shape input = {3, {2, 5, 4}};
static const lks_spec mse = {.type = "mse"};

static bool matches(void *pattern, const char *name) {
    return lks_glob_match(pattern, name);
}

static engine_case open_frozen(const char *pattern, int64_t multiple) {
    lks_graph_config config = {.seed = 3, .max_batch = MAX_BATCH, .trainable_multiple = multiple};
    if (pattern != NULL) {
        config.is_frozen = matches;
        config.is_frozen_data = (void *)pattern;
    }
    return engine_case_open(layers, input, &mse, &config);
}

static lks_status count_call(void *data, int64_t ready_end) {
    int64_t *log = data; /* calls, the last end */
    assert_true(ready_end >= log[1]);
    log[0]++;
    log[1] = ready_end;
    return LKS_OK;
}

/* One batch; log: as count_call has it. */
static void train(engine_case *c, bool accumulate, int64_t *log) {
    const lks_batch_info info = {.batch = MAX_BATCH, .training = true, .accumulate = accumulate};
    engine_case_fill(lks_graph_input(c->graph), MAX_BATCH * 2 * 5 * 4, 1);
    engine_case_fill(lks_graph_targets(c->graph), MAX_BATCH * 3, 2);
    assert_ok(lks_graph_forward(c->graph, &info));
    assert_ok(lks_graph_loss(c->graph, &info, c->sums));
    log[0] = log[1] = 0;
    assert_ok(lks_graph_backward(c->graph, &info, count_call, log));
}

static void frozen_parameters_stand_behind_the_others(void **state) {
    (void)state;
    for (int64_t multiple = 0; multiple <= 96; multiple += 48) {
        engine_case all = open_frozen(NULL, 0), c = open_frozen("*.bias", multiple);
        int64_t trainable = lks_graph_trainable_count(c.graph);
        assert_int_equal(lks_graph_trainable_count(all.graph), lks_graph_flat_count(all.graph));
        assert_true(multiple == 0 || trainable % multiple == 0);
        int64_t used = 0;
        for (int i = 0; i < lks_graph_param_count(c.graph); i++) {
            const lks_param *param = lks_graph_param(c.graph, i);
            const lks_param *same = lks_graph_param(all.graph, i);
            assert_int_equal(param->frozen, lks_glob_match("*.bias", param->name));
            assert_int_equal(param->frozen, param->offset >= trainable);
            assert_false(same->frozen);
            assert_memory_equal(c.params + param->offset, all.params + same->offset,
                                (size_t)param->count * sizeof(float));
            if (!param->frozen && param->offset + param->count > used)
                used = param->offset + param->count;
        }
        assert_true(used <= trainable && trainable - used < 16 + multiple);
        for (int64_t i = used; i < trainable; i++)
            assert_true(c.params[i] == 0 && c.grads[i] == 0);
        engine_case_close(&all);
        engine_case_close(&c);
    }
}

/* Each pattern in turn: gradients that are wanted have the same bits as when all are, and nothing
 * is written behind them. */
static void the_other_gradients_are_the_same(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "conv1.*",    "conv1.weight", "conv1.bias", "norm1.*",    "norm1.weight", "norm1.bias",
        "res.*",      "*.0.weight",   "*.0.bias",   "fc1.weight", "fc1.bias",     "norm2.weight",
        "norm2.bias", "norm2.*",      "fc2.*",      "[cnr]*",     "*.weight",     "*.bias",
        "[!f]*",      "fc1.*",        "none",
    };
    engine_case all = open_frozen(NULL, 0);
    int64_t log[2];
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        train(&all, accumulate, log);
        for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
            engine_case c = open_frozen(patterns[p], 48);
            int64_t trainable = lks_graph_trainable_count(c.graph);
            for (int step = 0; step <= accumulate; step++)
                train(&c, step > 0, log);
            assert_int_equal(log[1], trainable);
            for (int i = 0; i < lks_graph_param_count(c.graph); i++) {
                const lks_param *param = lks_graph_param(c.graph, i);
                if (param->frozen) continue;
                if (memcmp(c.grads + param->offset,
                           all.grads + lks_graph_param(all.graph, i)->offset,
                           (size_t)param->count * sizeof(float)) != 0)
                    fail_msg("with %s frozen, %s has another gradient", patterns[p], param->name);
            }
            const unsigned char *behind = (const unsigned char *)(c.grads + trainable);
            int64_t bytes = (lks_graph_flat_count(c.graph) - trainable) * (int64_t)sizeof(float);
            for (int64_t i = 0; i < bytes; i++)
                assert_int_equal(behind[i], 0xff); /* as engine_case_open left it */
            engine_case_close(&c);
        }
    }
    engine_case_close(&all);
}

/* Below the lowest trainable parameter there is no backward: no call, and less memory. */
static void nothing_runs_below_the_trainable_part(void **state) {
    (void)state;
    engine_case all = open_frozen(NULL, 0), head = open_frozen("[!f]*", 0);
    int64_t log[2];
    train(&all, false, log);
    assert_int_equal(log[0], 6);
    train(&head, false, log);
    assert_int_equal(log[0], 2);
    assert_true(lks_graph_get_memory(head.graph).unshared_bytes <
                lks_graph_get_memory(all.graph).unshared_bytes);
    engine_case_close(&all);
    engine_case_close(&head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_parameters_stand_behind_the_others),
        cmocka_unit_test(the_other_gradients_are_the_same),
        cmocka_unit_test(nothing_runs_below_the_trainable_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
