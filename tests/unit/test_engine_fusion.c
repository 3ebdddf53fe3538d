/* Operations that a device does together give the numbers of separate ones. What keeps two apart is
 * a layer between them that changes nothing: a leaky ReLU whose slopes are both 1. */
#include "engine/graph.h"
#include "unit/engine_case.h"

enum { BATCH = 3, IN = 3 * 6 * 5, OUT = 4 };

static const char *device_kind = "cpu";

#define APART \
    { .type = "leaky_relu", .options = "negative_slope=1" }
#define CONV(name_, options_) \
    { .type = "conv2d", .name = name_, .options = options_ }
#define WIDE   "out_channels=8 kernel_size=3 padding=1"
#define HALF   "out_channels=16 kernel_size=3 padding=1 stride=2 bias=false"
#define NARROW "out_channels=16 kernel_size=1 stride=2"

static const lks_layer_spec same[] = {
    CONV("a", WIDE), {.type = "batch_norm", .name = "an"}, {.type = "relu"},
    CONV("b", WIDE), {.type = "batch_norm", .name = "bn"}, {0}};
static const lks_layer_spec same_apart[] = {CONV("a", WIDE),
                                            {.type = "batch_norm", .name = "an"},
                                            {.type = "relu"},
                                            CONV("b", WIDE),
                                            {.type = "batch_norm", .name = "bn"},
                                            APART,
                                            {0}};
static const lks_layer_spec half[] = {CONV("a", HALF), {.type = "batch_norm", .name = "an"}, {0}};
static const lks_layer_spec way[] = {CONV("s", NARROW), {.type = "batch_norm", .name = "sn"}, {0}};
static const lks_layer_spec way_apart[] = {
    CONV("s", NARROW), {.type = "batch_norm", .name = "sn"}, APART, {0}};
static const lks_layer_spec rows[] = {{.type = "linear", .name = "l", .options = "out_features=12"},
                                      {0}};

static const lks_layer_spec together[] = {
    CONV("stem", WIDE),
    {.type = "residual", .name = "same", .block = same},
    {.type = "relu"},
    {.type = "residual", .name = "half", .block = half, .shortcut = way},
    {.type = "relu"},
    {.type = "flatten"},
    {.type = "linear", .name = "in", .options = "out_features=12"},
    {.type = "residual", .name = "normed", .block = rows},
    {.type = "layer_norm", .name = "norm"},
    {.type = "residual", .name = "cut", .block = rows},
    {.type = "relu"},
    {.type = "linear", .name = "out", .options = "out_features=4"},
    {0}};
static const lks_layer_spec apart[] = {
    CONV("stem", WIDE),
    {.type = "residual", .name = "same", .block = same_apart},
    APART,
    {.type = "relu"},
    {.type = "residual", .name = "half", .block = half, .shortcut = way_apart},
    APART,
    {.type = "relu"},
    {.type = "flatten"},
    {.type = "linear", .name = "in", .options = "out_features=12"},
    {.type = "residual", .name = "normed", .block = rows},
    APART,
    {.type = "layer_norm", .name = "norm"},
    {.type = "residual", .name = "cut", .block = rows},
    APART,
    {.type = "relu"},
    {.type = "linear", .name = "out", .options = "out_features=4"},
    {0}};

static int count_nodes(const lks_graph *graph, lks_op_kind kind) {
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        count += graph->nodes[i].kind == kind;
    return count;
}

static engine_case open_case(const lks_layer_spec *layers, const lks_graph_config *config) {
    static const lks_spec mse = {.type = "mse"};
    return engine_case_open_on(engine_case_device_of(device_kind), layers,
                               (lks_shape){3, {3, 6, 5}}, &mse, config);
}

static void run_forward(engine_case *c, const float *params, bool training) {
    float x[BATCH * IN], targets[BATCH * OUT];
    const lks_batch_info info = {.batch = BATCH, .training = training};
    engine_case_fill(x, BATCH * IN, 5);
    engine_case_fill(targets, BATCH * OUT, 6);
    engine_case_upload(c, c->params, params,
                       (size_t)lks_graph_flat_count(c->graph) * sizeof(float));
    engine_case_upload(c, lks_graph_input(c->graph), x, sizeof x);
    engine_case_upload(c, lks_graph_targets(c->graph), targets, sizeof targets);
    assert_ok(lks_graph_forward(c->graph, &info));
    assert_ok(lks_graph_loss(c->graph, &info, c->sums));
}

/* Bit for bit: the device does the same arithmetic, in float32, wherever it stands. */
static void expect_same(const engine_case *a, const engine_case *b, const char *what,
                        const void *of_a, const void *of_b, int64_t count) {
    const size_t bytes = (size_t)count * sizeof(float);
    float *x = malloc(bytes), *y = malloc(bytes);
    assert_true(x && y);
    engine_case_download(a, x, of_a, bytes);
    engine_case_download(b, y, of_b, bytes);
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&x[i], &y[i], sizeof *x) != 0)
            fail_msg("%s[%lld of %lld]: %.9g together, %.9g apart", what, (long long)i,
                     (long long)count, (double)x[i], (double)y[i]);
    free(x);
    free(y);
}

static bool freezes_stem(void *data, const char *name) {
    (void)data;
    return strncmp(name, "stem", 4) == 0;
}

static bool freezes_same(void *data, const char *name) {
    (void)data;
    return strncmp(name, "same", 4) == 0 || freezes_stem(data, name);
}

static void same_numbers(const lks_graph_config *config) {
    engine_case a = open_case(together, config), b = open_case(apart, config);
    const int64_t flat = lks_graph_flat_count(a.graph);
    assert_int_equal(flat, lks_graph_flat_count(b.graph));
    float *params = malloc((size_t)flat * sizeof *params);
    assert_non_null(params);
    engine_case_fill(params, flat, 9);
    for (int training = 0; training < 2; training++) {
        run_forward(&a, params, training);
        run_forward(&b, params, training);
        expect_same(&a, &b, "output", lks_graph_output(a.graph), lks_graph_output(b.graph),
                    BATCH * OUT);
    }
    const lks_batch_info info = {.batch = BATCH, .training = true};
    assert_ok(lks_graph_backward(a.graph, &info, NULL, NULL));
    assert_ok(lks_graph_backward(b.graph, &info, NULL, NULL));
    expect_same(&a, &b, "gradient", a.grads, b.grads, lks_graph_trainable_count(a.graph));
    if (config->input_gradient)
        expect_same(&a, &b, "input gradient", lks_graph_input_gradient(a.graph),
                    lks_graph_input_gradient(b.graph), BATCH * IN);
    free(params);
    engine_case_close(&a);
    engine_case_close(&b);
}

static void together_is_as_apart(void **state) {
    (void)state;
    same_numbers(&(lks_graph_config){.seed = 2, .max_batch = BATCH, .input_gradient = true});
    same_numbers(&(lks_graph_config){.seed = 2, .max_batch = BATCH + 1, .unshared_memory = true});
}

/* Gradients of one summand are not wanted, or of neither. */
static void frozen_parts(void **state) {
    (void)state;
    same_numbers(&(lks_graph_config){.seed = 2, .max_batch = BATCH, .is_frozen = freezes_stem});
    same_numbers(&(lks_graph_config){.seed = 2, .max_batch = BATCH, .is_frozen = freezes_same});
}

static void what_is_done_together(void **state) {
    (void)state;
    const bool is_gpu = strcmp(device_kind, "cuda") == 0;
    const lks_graph_config config = {.seed = 2, .max_batch = BATCH};
    engine_case a = open_case(together, &config), b = open_case(apart, &config);
    assert_int_equal(count_nodes(b.graph, LKS_OP_ADD), 4);
    assert_int_equal(count_nodes(b.graph, LKS_OP_ELTWISE), 9);
    assert_int_equal(count_nodes(a.graph, LKS_OP_ADD), is_gpu ? 1 : 4);
    assert_int_equal(count_nodes(a.graph, LKS_OP_ELTWISE), 0);
    assert_true(a.graph->node_count < b.graph->node_count);
    engine_case_close(&a);
    engine_case_close(&b);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_is_as_apart),
        cmocka_unit_test(frozen_parts),
        cmocka_unit_test(what_is_done_together),
    };
    if (argc > 1) device_kind = argv[1];
    return cmocka_run_group_tests_name("engine fusion", tests, NULL, NULL);
}
