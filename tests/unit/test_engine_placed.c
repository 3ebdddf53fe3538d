/* Gradients that go where the caller says, layer by layer, and layers that fail. */
#include "device/backend.h"
#include "unit/engine_case.h"

#include <math.h>
#include <stdlib.h>

enum { BATCH = 3, SPARE = 5 };

static const lks_layer_spec layers[] = {
    {.type = "linear", .name = "in", .options = "out_features=7"},
    {.type = "batch_norm", .name = "norm", .options = "synchronize=true"},
    {.type = "linear", .name = "mid", .options = "out_features=5"},
    {.type = "batch_norm", .name = "norm2", .options = "synchronize=true"},
    {.type = "relu"},
    {.type = "linear", .name = "out", .options = "out_features=2 bias=false"},
    {0},
};
static const lks_shape input = {1, {9}};
static const lks_spec mse = {.type = "mse"};

static bool freezes(void *data, const char *name) {
    (void)data;
    return strcmp(name, "mid.weight") == 0;
}

/* Memory of its own for every call, full of NaN and watched behind its end. */
typedef struct places {
    int count;
    int64_t end, largest; /* asked for so far */
    int64_t begin[8], counts[8];
    float *memory[8];
    int64_t ready_end; /* told so far */
    lks_status fails;
} places;

static lks_status place(void *data, int64_t offset, int64_t count, void **out) {
    places *p = data;
    assert_true(offset == p->end && offset == p->ready_end && p->count < 8);
    if (p->fails) return lks_fail(p->fails, "no place");
    p->begin[p->count] = offset;
    p->counts[p->count] = count;
    p->end = offset + count;
    if (count > p->largest) p->largest = count;
    size_t bytes = (size_t)(count + SPARE) * sizeof(float);
    *out = p->memory[p->count++] = memset(malloc(bytes), 0xff, bytes);
    return LKS_OK;
}

static lks_status ready(void *data, int64_t ready_end) {
    places *p = data;
    assert_true(ready_end >= p->ready_end && ready_end <= p->end);
    p->ready_end = ready_end;
    return LKS_OK;
}

static void free_places(places *p) {
    for (int i = 0; i < p->count; i++)
        free(p->memory[i]);
    *p = (places){.fails = p->fails};
}

static int sums;        /* over the ranks, were there others */
static int failing_sum; /* and those after it; 0: none */

static lks_status all_reduce(void *data, double *values, int64_t count, lks_stream *stream) {
    (void)data;
    (void)values;
    (void)count;
    (void)stream;
    sums++;
    return failing_sum > 0 && sums >= failing_sum ? lks_fail(LKS_EDEVICE, "sum %d broke", sums)
                                                  : LKS_OK;
}

static const lks_graph_config config = {.seed = 2,
                                        .max_batch = BATCH,
                                        .all_reduce = all_reduce,
                                        .is_frozen = freezes,
                                        .trainable_multiple = 48};

static void run_forward(lks_graph *graph, double *loss_sums, const lks_batch_info *info) {
    engine_case_fill(lks_graph_input(graph), BATCH * 9, 5);
    engine_case_fill(lks_graph_targets(graph), BATCH * 2, 6);
    assert_ok(lks_graph_forward(graph, info));
    assert_ok(lks_graph_loss(graph, info, loss_sums));
}

static void placed_gradients_are_those_of_the_flat_buffer(void **state) {
    (void)state;
    const lks_batch_info info = {.batch = BATCH, .training = true};
    engine_case whole = engine_case_open(layers, input, &mse, &config);
    run_forward(whole.graph, whole.sums, &info);
    assert_ok(lks_graph_backward(whole.graph, &info, NULL, NULL));

    lks_graph *graph;
    places p = {0};
    assert_ok(lks_graph_create(whole.device, layers, &input, &mse, &config, &graph));
    const int64_t trainable = lks_graph_trainable_count(graph);
    float *params = malloc((size_t)lks_graph_flat_count(graph) * sizeof(float));
    assert_non_null(params);
    assert_ok(lks_graph_bind_placed(graph, params, place, &p));
    for (int step = 0; step < 2; step++) {
        run_forward(graph, whole.sums, &info);
        assert_ok(lks_graph_backward(graph, &info, ready, &p));
        assert_true(p.end == trainable && p.ready_end == trainable);
        assert_true(p.largest == lks_graph_largest_place(graph));
        for (int i = 0; i < p.count; i++) {
            assert_memory_equal(p.memory[i], whole.grads + p.begin[i],
                                (size_t)p.counts[i] * sizeof(float));
            for (int64_t e = p.counts[i]; e < p.counts[i] + SPARE; e++)
                assert_true(isnan(p.memory[i][e]));
        }
        free_places(&p);
    }
    p.fails = LKS_ECOMM;
    run_forward(graph, whole.sums, &info);
    assert_int_equal(lks_graph_backward(graph, &info, ready, &p), LKS_ECOMM);
    lks_graph_destroy(graph);
    free(params);
    engine_case_close(&whole);
}

/* On a device that computes in bfloat16: the same gradients, rounded and not, in the flat buffer
 * and elsewhere, and added up without rounding. */
static void gradients_need_not_be_rounded(void **state) {
    (void)state;
    const lks_device_config bf16 = {
        .kind = "cpu", .threads = 1, .local_size = 1, .precision = LKS_PRECISION_BF16};
    lks_graph_config unrounded = config;
    unrounded.float32_grads = true;
    lks_device *devices[2];
    engine_case cases[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(lks_device_create(&bf16, &devices[i]));
        cases[i] =
            engine_case_open_on(devices[i], layers, input, &mse, i == 0 ? &config : &unrounded);
    }
    assert_int_equal(lks_graph_grad_type(cases[0].graph), LKS_BF16);
    assert_int_equal(lks_graph_grad_type(cases[1].graph), LKS_F32);
    const int64_t count = lks_graph_trainable_count(cases[0].graph);
    float *once = malloc((size_t)count * sizeof *once);
    assert_non_null(once);
    lks_batch_info info = {.batch = BATCH, .training = true};
    int64_t finer = 0;
    for (int i = 0; i < 2; i++) {
        run_forward(cases[i].graph, cases[i].sums, &info);
        assert_ok(lks_graph_backward(cases[i].graph, &info, NULL, NULL));
    }
    for (int64_t i = 0; i < count; i++) {
        const uint16_t rounded = ((const uint16_t *)cases[0].grads)[i];
        once[i] = cases[1].grads[i];
        assert_int_equal(lks_bf16_of_float(once[i]), rounded);
        finer += once[i] != lks_bf16_to_float(rounded);
    }
    assert_true(finer > 30);
    info.accumulate = true;
    run_forward(cases[1].graph, cases[1].sums, &info);
    assert_ok(lks_graph_backward(cases[1].graph, &info, NULL, NULL));
    for (int64_t i = 0; i < count; i++)
        assert_true(cases[1].grads[i] == 2 * once[i]);
    free(once);
    for (int i = 0; i < 2; i++)
        engine_case_close(&cases[i]);
}

/* Other ranks wait in the second layer that sums, and for gradients. */
static void a_failed_layer_keeps_nobody_waiting(void **state) {
    (void)state;
    const lks_batch_info info = {.batch = BATCH, .training = true};
    engine_case c = engine_case_open(layers, input, &mse, &config);
    run_forward(c.graph, c.sums, &info);
    places p = {.end = lks_graph_trainable_count(c.graph)};
    sums = failing_sum = 0;
    assert_ok(lks_graph_forward(c.graph, &info));
    const int forward = sums;
    assert_ok(lks_graph_backward(c.graph, &info, ready, &p));
    const int both = sums;
    assert_true(forward >= 2 && both >= forward + 2);

    failing_sum = 1;
    sums = 0;
    assert_int_equal(lks_graph_forward(c.graph, &info), LKS_EDEVICE);
    assert_error_has("layer norm (batch_norm): sum 1 broke");
    assert_int_equal(sums, forward);
    failing_sum = 0;
    const lks_batch_info nothing = {.batch = 0, .training = true};
    p.ready_end = 0;
    assert_ok(lks_graph_backward(c.graph, &nothing, ready, &p));
    assert_int_equal(sums, both);
    assert_true(p.ready_end == p.end);

    sums = 0;
    failing_sum = forward + 1;
    assert_ok(lks_graph_forward(c.graph, &info));
    p.ready_end = 0;
    assert_int_equal(lks_graph_backward(c.graph, &info, ready, &p), LKS_EDEVICE);
    assert_error_has("layer norm2 (batch_norm): sum");
    assert_int_equal(sums, both);
    assert_true(p.ready_end == p.end);
    engine_case_close(&c);
}

static lks_status broken_zero(lks_device *device, lks_stream *stream, void *memory, size_t bytes) {
    (void)device;
    (void)stream;
    (void)memory;
    return lks_fail(LKS_EDEVICE, "zeroing %zu bytes broke", bytes);
}

/* Other ranks wait in both layers that sum, also where a place for gradients could not be zeroed.
 */
static void a_place_that_fails_keeps_nobody_waiting(void **state) {
    (void)state;
    const lks_batch_info info = {.batch = BATCH, .training = true};
    engine_case whole = engine_case_open(layers, input, &mse, &config);
    lks_graph *graph;
    places p = {0};
    assert_ok(lks_graph_create(whole.device, layers, &input, &mse, &config, &graph));
    float *params = malloc((size_t)lks_graph_flat_count(graph) * sizeof(float));
    assert_non_null(params);
    assert_ok(lks_graph_bind_placed(graph, params, place, &p));
    sums = failing_sum = 0;
    run_forward(graph, whole.sums, &info);
    assert_ok(lks_graph_backward(graph, &info, ready, &p));
    const int all = sums;
    free_places(&p);

    const lks_device_backend *good = whole.device->backend;
    lks_memory_ops memory = *good->memory;
    lks_device_backend broken = *good;
    memory.zero = broken_zero;
    broken.memory = &memory;
    sums = 0;
    run_forward(graph, whole.sums, &info);
    whole.device->backend = &broken;
    assert_int_equal(lks_graph_backward(graph, &info, ready, &p), LKS_EDEVICE);
    whole.device->backend = good;
    assert_error_has("zeroing");
    assert_int_equal(sums, all);
    assert_true(p.ready_end == lks_graph_trainable_count(graph));
    free_places(&p);
    lks_graph_destroy(graph);
    free(params);
    engine_case_close(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placed_gradients_are_those_of_the_flat_buffer),
        cmocka_unit_test(gradients_need_not_be_rounded),
        cmocka_unit_test(a_failed_layer_keeps_nobody_waiting),
        cmocka_unit_test(a_place_that_fails_keeps_nobody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
