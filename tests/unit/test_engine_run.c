/* Batches through a graph: memory sharing, accumulation, empty batches, batch norm, refusals. What
 * the numbers are is checked against PyTorch in tests/parity. */
#include <math.h>
#include <stdlib.h>

#include "unit/engine_case.h"

enum { MAX_BATCH = 4 };

static const lks_graph_config training = {.seed = 5, .max_batch = MAX_BATCH};
static const lks_spec mse = {.type = "mse"};

/* ---- models ---- */

static const lks_layer_spec conv_block[] = {
    {.type = "conv2d", .options = "out_channels=5 kernel_size=3 padding=1"},
    {.type = "batch_norm"},
    {.type = "relu"},
    {.type = "dropout", .options = "p=0.3"},
    {.type = "conv2d", .options = "out_channels=6 kernel_size=3 padding=1"},
    {.type = "batch_norm"},
    {0},
};
static const lks_layer_spec conv_shortcut[] = {
    {.type = "conv2d", .options = "out_channels=6 kernel_size=1"}, {0}};
static const lks_layer_spec plain_block[] = {
    {.type = "relu"}, {.type = "dropout", .options = "p=0.2"}, {.type = "tanh"}, {0}};
static const lks_layer_spec empty_block[] = {{0}};

static const lks_layer_spec conv_net[] = {
    {.type = "conv2d", .options = "out_channels=3 kernel_size=3"},
    {.type = "residual", .block = conv_block, .shortcut = conv_shortcut},
    {.type = "relu"},
    {.type = "residual", .block = plain_block},
    {.type = "max_pool2d", .options = "kernel_size=2"},
    {.type = "residual", .block = empty_block},
    {.type = "dropout", .options = "p=0.5"},
    {.type = "flatten"},
    {.type = "linear", .options = "out_features=8"},
    {.type = "gelu"},
    {.type = "layer_norm"},
    {.type = "linear", .options = "out_features=3"},
    {0},
};

static const lks_layer_spec dropouts[] = {
    {.type = "dropout", .options = "p=0.1"},
    {.type = "linear", .options = "out_features=9"},
    {.type = "dropout", .options = "p=0.2"},
    {.type = "dropout", .options = "p=0.3"},
    {.type = "sigmoid"},
    {.type = "residual", .block = plain_block},
    {.type = "dropout", .options = "p=0.4"},
    {.type = "softmax"},
    {.type = "dropout", .options = "p=0.5"},
    {0},
};

static const lks_layer_spec two_linears[] = {
    {.type = "linear", .options = "out_features=6"},
    {.type = "silu"},
    {.type = "linear", .options = "out_features=2"},
    {0},
};

typedef struct model {
    const lks_layer_spec *layers;
    lks_shape input;
} model;

static const model models[] = {
    {conv_net, {3, {2, 7, 6}}},
    {dropouts, {1, {11}}},
    {two_linears, {2, {3, 5}}},
};
enum { MODEL_COUNT = sizeof models / sizeof models[0] };

static int64_t count_of(const lks_shape *shape) {
    int64_t count = 0;
    assert_ok(lks_shape_count(shape, &count));
    return count;
}

/* The same input and targets for the same round, with NaN behind the batch. */
static void feed(engine_case *c, int64_t batch, uint64_t round) {
    int64_t in = count_of(lks_graph_input_shape(c->graph));
    int64_t out = count_of(lks_graph_output_shape(c->graph));
    float *input = lks_graph_input(c->graph), *targets = lks_graph_targets(c->graph);
    for (int64_t i = 0; i < MAX_BATCH * in; i++)
        input[i] = NAN;
    engine_case_fill(input, batch * in, round);
    if (targets != NULL) engine_case_fill(targets, batch * out, round + 1000);
}

static void forward_and_loss(engine_case *c, const lks_batch_info *info, uint64_t round) {
    feed(c, info->batch, round);
    assert_ok(lks_graph_forward(c->graph, info));
    assert_ok(lks_graph_loss(c->graph, info, c->sums));
}

static void train_step(engine_case *c, const lks_batch_info *info, uint64_t round) {
    forward_and_loss(c, info, round);
    assert_ok(lks_graph_backward(c->graph, info, NULL, NULL));
}

/* ---- memory ---- */

static void assert_same_output(engine_case *a, engine_case *b, int64_t batch) {
    size_t bytes = (size_t)(batch * count_of(lks_graph_output_shape(a->graph))) * sizeof(float);
    assert_memory_equal(lks_graph_output(a->graph), lks_graph_output(b->graph), bytes);
}

static void sharing_memory_changes_no_bit(void **state) {
    (void)state;
    for (int m = 0; m < MODEL_COUNT; m++) {
        lks_graph_config alone = training;
        alone.unshared_memory = true;
        engine_case a = engine_case_open(models[m].layers, models[m].input, &mse, &training);
        engine_case b = engine_case_open(models[m].layers, models[m].input, &mse, &alone);
        size_t bytes = (size_t)lks_graph_flat_count(a.graph) * sizeof(float);
        size_t buffer_bytes = (size_t)lks_graph_buffers_flat_count(a.graph) * sizeof(float);
        for (int step = 0; step < 4; step++) {
            const lks_batch_info info = {.batch = step == 2 ? MAX_BATCH - 1 : MAX_BATCH,
                                         .step = step,
                                         .training = true,
                                         .accumulate = step == 1};
            forward_and_loss(&a, &info, (uint64_t)step);
            forward_and_loss(&b, &info, (uint64_t)step);
            assert_same_output(&a, &b, info.batch);
            assert_ok(lks_graph_backward(a.graph, &info, NULL, NULL));
            assert_ok(lks_graph_backward(b.graph, &info, NULL, NULL));
            assert_memory_equal(a.grads, b.grads, bytes);
            assert_memory_equal(a.sums, b.sums, LKS_LOSS_SUM_COUNT * sizeof(double));
            assert_memory_equal(lks_graph_buffers(a.graph), lks_graph_buffers(b.graph),
                                buffer_bytes);
            assert_true(isfinite(a.sums[LKS_SUM_LOSS]));

            const lks_batch_info evaluation = {.batch = info.batch};
            assert_ok(lks_graph_forward(a.graph, &evaluation));
            assert_ok(lks_graph_forward(b.graph, &evaluation));
            assert_same_output(&a, &b, info.batch);
        }
        lks_graph_memory shared = lks_graph_get_memory(a.graph);
        lks_graph_memory unshared = lks_graph_get_memory(b.graph);
        /* The gaps between gradients are zero and stay zero. */
        for (int i = 0; i < lks_graph_param_count(a.graph); i++) {
            const lks_param *param = lks_graph_param(a.graph, i);
            for (int64_t e = param->offset + param->count; e % 16 != 0; e++)
                assert_true(a.grads[e] == 0 && a.params[e] == 0);
        }
        assert_int_equal(shared.unshared_bytes, unshared.unshared_bytes);
        assert_int_equal(unshared.planned_bytes, unshared.unshared_bytes);
        assert_true(shared.planned_bytes < shared.unshared_bytes);
        engine_case_close(&a);
        engine_case_close(&b);
    }
}

static void inference_gives_what_evaluation_gives_in_less_memory(void **state) {
    (void)state;
    for (int m = 0; m < MODEL_COUNT; m++) {
        lks_graph_config inference = training;
        inference.inference_only = true;
        engine_case a = engine_case_open(models[m].layers, models[m].input, &mse, &training);
        engine_case b = engine_case_open(models[m].layers, models[m].input, NULL, &inference);
        const lks_batch_info info = {.batch = 3};
        feed(&a, info.batch, 1);
        feed(&b, info.batch, 1);
        assert_ok(lks_graph_forward(a.graph, &info));
        assert_ok(lks_graph_forward(b.graph, &info));
        assert_same_output(&a, &b, info.batch);
        assert_true(lks_graph_get_memory(b.graph).planned_bytes <
                    lks_graph_get_memory(a.graph).planned_bytes);
        engine_case_close(&a);
        engine_case_close(&b);
    }
}

static void what_may_lie_in_place_does(void **state) {
    (void)state;
    enum { BYTES = MAX_BATCH * 16 * sizeof(float) };
    const lks_layer_spec layers[] = {
        {.type = "sigmoid"}, {.type = "relu"}, {.type = "tanh"}, {.type = "sigmoid"}, {0}};
    lks_graph_config config = training;
    config.inference_only = true;
    engine_case c = engine_case_open(layers, (lks_shape){1, {16}}, NULL, &config);
    /* The input, which is not overwritten, and one more. */
    assert_int_equal(lks_graph_get_memory(c.graph).planned_bytes, 2 * BYTES);
    assert_int_equal(lks_graph_get_memory(c.graph).unshared_bytes, 5 * BYTES);
    engine_case_close(&c);

    config = training;
    config.input_gradient = true;
    c = engine_case_open(layers, (lks_shape){1, {16}}, &mse, &config);
    /* Input, targets, each layer's output, and one gradient that goes back through all. */
    assert_int_equal(lks_graph_get_memory(c.graph).planned_bytes, 7 * BYTES);
    assert_int_equal(lks_graph_get_memory(c.graph).unshared_bytes, 11 * BYTES);
    engine_case_close(&c);
}

/* ---- gradients ---- */

typedef struct ready_log {
    const lks_graph *graph;
    int64_t ends[16];
    int count;
    int fail_at;
} ready_log;

static lks_status log_ready(void *data, int64_t ready_end) {
    ready_log *log = data;
    assert_true(log->count < 16);
    log->ends[log->count++] = ready_end;
    return log->count == log->fail_at ? lks_fail(LKS_ECOMM, "lost a rank") : LKS_OK;
}

static void gradients_are_announced_as_they_come(void **state) {
    (void)state;
    engine_case c = engine_case_open(two_linears, (lks_shape){1, {5}}, &mse, &training);
    for (int64_t batch = 0; batch <= MAX_BATCH; batch += MAX_BATCH) {
        const lks_batch_info info = {.batch = batch, .training = true};
        ready_log log = {.graph = c.graph};
        feed(&c, batch, 1);
        assert_ok(lks_graph_forward(c.graph, &info));
        assert_ok(lks_graph_loss(c.graph, &info, c.sums));
        assert_ok(lks_graph_backward(c.graph, &info, log_ready, &log));
        assert_int_equal(log.count, 2);
        assert_int_equal(log.ends[0], 32); /* 2 x 6 and 2, each rounded up to 16 */
        assert_int_equal(log.ends[1], lks_graph_flat_count(c.graph));

        log = (ready_log){.fail_at = 1};
        assert_int_equal(lks_graph_backward(c.graph, &info, log_ready, &log), LKS_ECOMM);
        assert_int_equal(log.count, 1);
    }
    engine_case_close(&c);
}

static void an_empty_batch_gives_zero_gradients(void **state) {
    (void)state;
    for (int m = 0; m < MODEL_COUNT; m++) {
        engine_case c = engine_case_open(models[m].layers, models[m].input, &mse, &training);
        int64_t count = lks_graph_flat_count(c.graph);
        const lks_batch_info full = {.batch = 2, .training = true};
        lks_batch_info empty = {.training = true, .accumulate = true};
        float *before = malloc((size_t)count * sizeof(float));
        assert_non_null(before);
        train_step(&c, &full, 1);
        memcpy(before, c.grads, (size_t)count * sizeof(float));
        train_step(&c, &empty, 2);
        assert_memory_equal(c.grads, before, (size_t)count * sizeof(float));
        empty.accumulate = false;
        train_step(&c, &empty, 2);
        for (int64_t i = 0; i < count; i++)
            assert_true(c.grads[i] == 0);
        free(before);
        engine_case_close(&c);
    }
}

static void accumulated_gradients_are_sums(void **state) {
    (void)state;
    /* Without dropout and batch norm, two micro-batches are one batch. */
    engine_case whole = engine_case_open(two_linears, (lks_shape){1, {5}}, &mse, &training);
    engine_case parts = engine_case_open(two_linears, (lks_shape){1, {5}}, &mse, &training);
    const lks_batch_info all = {.batch = 4, .training = true};
    train_step(&whole, &all, 1);
    for (int part = 0; part < 2; part++) {
        const lks_batch_info info = {.batch = part == 0 ? 3 : 1,
                                     .first_row = part == 0 ? 0 : 3,
                                     .training = true,
                                     .accumulate = part > 0};
        float *targets = lks_graph_targets(whole.graph);
        memcpy(lks_graph_input(parts.graph), lks_graph_input(whole.graph) + info.first_row * 5,
               (size_t)info.batch * 5 * sizeof(float));
        memcpy(lks_graph_targets(parts.graph), targets + info.first_row * 2,
               (size_t)info.batch * 2 * sizeof(float));
        assert_ok(lks_graph_forward(parts.graph, &info));
        assert_ok(lks_graph_loss(parts.graph, &info, parts.sums));
        assert_ok(lks_graph_backward(parts.graph, &info, NULL, NULL));
    }
    /* Sums of four terms in another order: a few roundings of float32. */
    for (int64_t i = 0; i < lks_graph_flat_count(whole.graph); i++)
        assert_true(fabsf(whole.grads[i] - parts.grads[i]) <= 1e-6f * (1 + fabsf(whole.grads[i])));
    assert_true(fabs(whole.sums[LKS_SUM_LOSS] - parts.sums[LKS_SUM_LOSS]) <
                1e-6 * whole.sums[LKS_SUM_LOSS]);
    engine_case_close(&whole);
    engine_case_close(&parts);
}

static void the_input_has_a_gradient_where_wanted(void **state) {
    (void)state;
    lks_graph_config config = training;
    engine_case without = engine_case_open(two_linears, (lks_shape){1, {5}}, &mse, &config);
    assert_null(lks_graph_input_gradient(without.graph));
    config.input_gradient = true;
    engine_case with = engine_case_open(two_linears, (lks_shape){1, {5}}, &mse, &config);
    const lks_batch_info info = {.batch = 3, .training = true};
    train_step(&without, &info, 1);
    train_step(&with, &info, 1);
    assert_memory_equal(with.grads, without.grads,
                        (size_t)lks_graph_flat_count(with.graph) * sizeof(float));
    const float *dx = lks_graph_input_gradient(with.graph);
    assert_non_null(dx);
    double largest = 0;
    for (int i = 0; i < 3 * 5; i++)
        largest = fmax(largest, fabsf(dx[i]));
    assert_true(isfinite(largest) && largest > 0);
    engine_case_close(&without);
    engine_case_close(&with);
}

/* ---- batch norm ---- */

static void running_statistics_are_averaged_over_all_batches(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {{.type = "batch_norm", .options = "momentum=-1"}, {0}};
    engine_case c = engine_case_open(layers, (lks_shape){1, {1}}, &mse, &training);
    const float batches[3][MAX_BATCH] = {{1, 2, 3, 4}, {-5, 5, 0, 0}, {8, 8, 10, 6}};
    const lks_batch_info info = {.batch = MAX_BATCH, .training = true};
    const lks_batch_info evaluation = {.batch = MAX_BATCH};
    for (int i = 0; i < 3; i++) {
        memcpy(lks_graph_input(c.graph), batches[i], sizeof batches[i]);
        assert_ok(lks_graph_forward(c.graph, &info));
        assert_ok(lks_graph_forward(c.graph, &evaluation)); /* does not count */
    }
    assert_int_equal(lks_graph_batches_tracked(c.graph), 3);
    /* Means 2.5, 0, 8; numbers of size 10 in float32. */
    assert_true(fabsf(lks_graph_buffers(c.graph)[lks_graph_buffer(c.graph, 0)->offset] - 3.5f) <
                1e-5f);
    engine_case_close(&c);
}

/* Another rank with the very same samples. */
static lks_status twice(void *data, double *values, int64_t count, lks_stream *stream) {
    (void)stream;
    (*(int *)data)++;
    for (int64_t i = 0; i < count; i++)
        values[i] *= 2;
    return LKS_OK;
}

static void batch_norm_asks_for_the_global_batch(void **state) {
    (void)state;
    const lks_layer_spec synchronized[] = {{.type = "batch_norm"}, {0}};
    const lks_layer_spec local[] = {{.type = "batch_norm", .options = "synchronize=false"}, {0}};
    int calls = 0;
    lks_graph_config config = training;
    config.all_reduce = twice;
    config.all_reduce_data = &calls;
    const lks_batch_info info = {.batch = 3, .training = true};
    engine_case c = engine_case_open(local, (lks_shape){1, {4}}, &mse, &config);
    train_step(&c, &info, 1);
    assert_int_equal(calls, 0);
    engine_case_close(&c);

    c = engine_case_open(synchronized, (lks_shape){1, {4}}, &mse, &config);
    train_step(&c, &info, 1);
    assert_true(calls >= 1);
    int calls_of_one = calls;
    const lks_batch_info empty = {.training = true};
    train_step(&c, &empty, 1);
    /* A rank without samples still takes part in the exchange. */
    assert_int_equal(calls, 2 * calls_of_one);
    assert_int_equal(lks_graph_batches_tracked(c.graph), 2);
    lks_graph_set_batches_tracked(c.graph, 40);
    assert_int_equal(lks_graph_batches_tracked(c.graph), 40);
    engine_case_close(&c);
}

/* ---- refusals ---- */

static void wrong_calls_are_refused(void **state) {
    (void)state;
    lks_device *device = engine_case_device();
    lks_graph *graph = NULL;
    lks_shape input = {1, {5}};
    lks_graph_config config = training;
    float params[256], grads[256];
    double sums[LKS_LOSS_SUM_COUNT];
    lks_batch_info info = {.batch = 1, .training = true};
    config.max_batch = 0;
    assert_int_equal(lks_graph_create(device, two_linears, &input, &mse, &config, &graph),
                     LKS_EINVAL);
    config.max_batch = MAX_BATCH;
    assert_ok(lks_graph_create(device, two_linears, &input, NULL, &config, &graph));
    assert_int_equal(lks_graph_forward(graph, &info), LKS_EINVAL);
    assert_error_has("before the parameters are bound");
    assert_int_equal(lks_graph_bind(graph, params, NULL), LKS_EINVAL);
    assert_ok(lks_graph_bind(graph, params, grads));
    assert_int_equal(lks_graph_bind(graph, params, grads), LKS_EINVAL);
    assert_error_has("bound twice");
    info.batch = MAX_BATCH + 1;
    assert_int_equal(lks_graph_forward(graph, &info), LKS_EINVAL);
    assert_error_has("5 samples: expected 0 .. 4");
    info.batch = -1;
    assert_int_equal(lks_graph_forward(graph, &info), LKS_EINVAL);
    info.batch = 1;
    assert_int_equal(lks_graph_loss(graph, &info, sums), LKS_EINVAL);
    assert_error_has("built without");
    info.training = false;
    assert_int_equal(lks_graph_backward(graph, &info, NULL, NULL), LKS_EINVAL);
    lks_graph_destroy(graph);

    config.inference_only = true;
    assert_ok(lks_graph_create(device, two_linears, &input, NULL, &config, &graph));
    assert_ok(lks_graph_bind(graph, params, NULL));
    info.training = true;
    assert_int_equal(lks_graph_forward(graph, &info), LKS_EINVAL);
    assert_error_has("inference only");
    lks_graph_destroy(graph);
    lks_graph_destroy(NULL);
    lks_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing_memory_changes_no_bit),
        cmocka_unit_test(inference_gives_what_evaluation_gives_in_less_memory),
        cmocka_unit_test(what_may_lie_in_place_does),
        cmocka_unit_test(gradients_are_announced_as_they_come),
        cmocka_unit_test(an_empty_batch_gives_zero_gradients),
        cmocka_unit_test(accumulated_gradients_are_sums),
        cmocka_unit_test(the_input_has_a_gradient_where_wanted),
        cmocka_unit_test(running_statistics_are_averaged_over_all_batches),
        cmocka_unit_test(batch_norm_asks_for_the_global_batch),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
