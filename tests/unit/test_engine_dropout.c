/* Dropout in a graph: its masks, evaluation, inference. */
#include <math.h>

#include "unit/engine_case.h"

enum { MAX_BATCH = 4 };

static const lks_graph_config training = {.seed = 5, .max_batch = MAX_BATCH};
static const lks_spec mse = {.type = "mse"};

static const lks_layer_spec one_dropout[] = {{.type = "dropout", .options = "p=0.4"}, {0}};

static void forward_ones(engine_case *c, int64_t batch, int64_t step, int64_t first_row,
                         bool is_training) {
    int64_t count = lks_graph_input_shape(c->graph)->dim[0];
    for (int64_t i = 0; i < batch * count; i++)
        lks_graph_input(c->graph)[i] = 1;
    const lks_batch_info info = {
        .batch = batch, .step = step, .first_row = first_row, .training = is_training};
    assert_ok(lks_graph_forward(c->graph, &info));
}

static void dropout_follows_its_random_numbers(void **state) {
    (void)state;
    enum { COUNT = 10, STEP = 17, FIRST = 6, BLOCKS = 3 };
    engine_case c = engine_case_open(one_dropout, (lks_shape){1, {COUNT}}, &mse, &training);
    forward_ones(&c, MAX_BATCH, STEP, FIRST, true);
    const float *y = lks_graph_output(c.graph);
    lks_philox_key key = lks_philox_key_make(training.seed, LKS_RANDOM_DROPOUT, 0);
    for (uint64_t n = 0; n < MAX_BATCH; n++) {
        for (uint64_t e = 0; e < COUNT; e++) {
            lks_philox_block block = lks_philox(key, e / 4 + (FIRST + n) * BLOCKS, STEP);
            bool keep = lks_philox_uniform(block.word[e % 4]) >= 0.4f;
            /* 1 / (1 - p) in float32 */
            assert_true(fabsf(y[n * COUNT + e] - (keep ? 1 / 0.6f : 0)) < 1e-6f);
        }
    }
    engine_case_close(&c);
}

static void dropout_does_nothing_in_evaluation(void **state) {
    (void)state;
    engine_case c = engine_case_open(one_dropout, (lks_shape){1, {10}}, &mse, &training);
    forward_ones(&c, MAX_BATCH, 3, 0, true);
    forward_ones(&c, MAX_BATCH, 3, 0, false);
    for (int i = 0; i < MAX_BATCH * 10; i++)
        assert_true(lks_graph_output(c.graph)[i] == 1);
    engine_case_close(&c);
}

static void dropout_is_the_same_for_any_split_of_a_batch(void **state) {
    (void)state;
    enum { COUNT = 11 };
    engine_case c = engine_case_open(one_dropout, (lks_shape){1, {COUNT}}, &mse, &training);
    float whole[MAX_BATCH * COUNT];
    forward_ones(&c, MAX_BATCH, 2, 8, true);
    memcpy(whole, lks_graph_output(c.graph), sizeof whole);
    forward_ones(&c, 1, 2, 8, true);
    assert_memory_equal(lks_graph_output(c.graph), whole, COUNT * sizeof(float));
    forward_ones(&c, MAX_BATCH - 1, 2, 9, true);
    assert_memory_equal(lks_graph_output(c.graph), whole + COUNT,
                        (MAX_BATCH - 1) * COUNT * sizeof(float));
    forward_ones(&c, MAX_BATCH, 3, 8, true);
    assert_memory_not_equal(lks_graph_output(c.graph), whole, sizeof whole);
    engine_case_close(&c);
}

static void dropout_costs_nothing_in_inference(void **state) {
    (void)state;
    const lks_layer_spec never[] = {{.type = "dropout", .options = "p=0"}, {0}};
    lks_graph_config config = training;
    engine_case c = engine_case_open(never, (lks_shape){1, {16}}, NULL, &config);
    assert_int_equal(lks_graph_get_memory(c.graph).unshared_bytes, MAX_BATCH * 16 * sizeof(float));
    assert_ptr_equal(lks_graph_output(c.graph), lks_graph_input(c.graph));
    engine_case_close(&c);
    config.inference_only = true;
    c = engine_case_open(one_dropout, (lks_shape){1, {16}}, NULL, &config);
    assert_int_equal(lks_graph_get_memory(c.graph).unshared_bytes, MAX_BATCH * 16 * sizeof(float));
    assert_ptr_equal(lks_graph_output(c.graph), lks_graph_input(c.graph));
    engine_case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dropout_follows_its_random_numbers),
        cmocka_unit_test(dropout_does_nothing_in_evaluation),
        cmocka_unit_test(dropout_is_the_same_for_any_split_of_a_batch),
        cmocka_unit_test(dropout_costs_nothing_in_inference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
