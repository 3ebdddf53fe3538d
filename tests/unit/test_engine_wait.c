/* Parameters that are still on their way when forward begins. */
#include <math.h>
#include <stdlib.h>

#include "unit/engine_case.h"

enum { BATCH = 3, INPUT = 9, OUTPUT = 2 };

static const lks_layer_spec layers[] = {
    {.type = "linear", .name = "in", .options = "out_features=7"},
    {.type = "batch_norm", .name = "norm"},
    {.type = "relu"},
    {.type = "linear", .name = "frozen", .options = "out_features=6"},
    {.type = "linear", .name = "mid", .options = "out_features=5"},
    {.type = "silu"},
    {.type = "linear", .name = "out", .options = "out_features=2 bias=false"},
    {0},
};
static const lks_shape input = {1, {INPUT}};
static const lks_spec mse = {.type = "mse"};

static bool freezes(void *data, const char *name) {
    (void)data;
    return strncmp(name, "frozen", 6) == 0;
}

/* The parameters as they should be, and how far from the end of the flat buffer on they are. */
typedef struct arrivals {
    float *params;
    const float *good;
    int64_t begin;
    int calls, failing_call; /* from 1; 0: none */
} arrivals;

static lks_status wait_for(void *data, int64_t begin, int64_t end) {
    arrivals *a = data;
    if (++a->calls == a->failing_call) return lks_fail(LKS_ECOMM, "the peers are gone");
    assert_true(begin < end && end <= a->begin);
    memcpy(a->params + begin, a->good + begin, (size_t)(end - begin) * sizeof(float));
    a->begin = begin;
    return LKS_OK;
}

/* What has not been waited for is NaN, and would show in the output. */
static void forward_waits_for_what_it_reads(void **state) {
    (void)state;
    const lks_graph_config config = {.seed = 4, .max_batch = BATCH, .is_frozen = freezes};
    engine_case c = engine_case_open(layers, input, &mse, &config);
    const int64_t trainable = lks_graph_trainable_count(c.graph);
    const size_t bytes = (size_t)trainable * sizeof(float);
    float *good = malloc(bytes), expected[BATCH * OUTPUT];
    assert_non_null(good);
    memcpy(good, c.params, bytes);
    engine_case_fill(lks_graph_input(c.graph), BATCH * INPUT, 5);
    for (int training = 0; training < 2; training++) {
        const lks_batch_info info = {.batch = BATCH, .training = training};
        lks_graph_set_params_wait(c.graph, NULL, NULL);
        assert_ok(lks_graph_forward(c.graph, &info));
        memcpy(expected, lks_graph_output(c.graph), sizeof expected);

        arrivals a = {.params = c.params, .good = good, .begin = trainable};
        memset(c.params, 0xff, bytes);
        lks_graph_set_params_wait(c.graph, wait_for, &a);
        assert_ok(lks_graph_forward(c.graph, &info));
        assert_memory_equal(lks_graph_output(c.graph), expected, sizeof expected);
        assert_int_equal(a.calls, 4);
        assert_int_equal(a.begin, 0);
    }
    free(good);
    engine_case_close(&c);
}

static void a_failed_wait_ends_forward(void **state) {
    (void)state;
    const lks_graph_config config = {.seed = 4, .max_batch = BATCH, .is_frozen = freezes};
    engine_case c = engine_case_open(layers, input, &mse, &config);
    const lks_batch_info info = {.batch = BATCH, .training = true};
    arrivals a = {.params = c.params,
                  .good = c.params,
                  .begin = lks_graph_trainable_count(c.graph),
                  .failing_call = 2};
    lks_graph_set_params_wait(c.graph, wait_for, &a);
    assert_int_equal(lks_graph_forward(c.graph, &info), LKS_ECOMM);
    assert_error_has("the peers are gone");
    assert_int_equal(a.calls, 2);
    engine_case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_waits_for_what_it_reads),
        cmocka_unit_test(a_failed_wait_ends_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
