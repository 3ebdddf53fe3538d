/* Building a graph: names, shapes, parameters, and what is refused. */
#include <math.h>

#include "unit/engine_case.h"

static const lks_graph_config training = {.seed = 3, .max_batch = 4};
static const lks_graph_config inference = {.seed = 3, .max_batch = 4, .inference_only = true};

/* The names of a table, each followed by its shape and a blank. */
static void print_table(const engine_case *c, bool buffers, char *out, size_t capacity) {
    size_t length = 0;
    out[0] = '\0';
    int count = buffers ? lks_graph_buffer_count(c->graph) : lks_graph_param_count(c->graph);
    for (int i = 0; i < count; i++) {
        const lks_param *param =
            buffers ? lks_graph_buffer(c->graph, i) : lks_graph_param(c->graph, i);
        char shape[LKS_SHAPE_TEXT_BYTES];
        length += (size_t)snprintf(out + length, capacity - length, "%s%s ", param->name,
                                   lks_shape_text(&param->shape, shape));
    }
}

static void assert_params(const lks_layer_spec *layers, lks_shape input, const char *params,
                          const char *buffers) {
    char text[1024];
    engine_case c = engine_case_open(layers, input, NULL, &inference);
    print_table(&c, false, text, sizeof text);
    assert_string_equal(text, params);
    print_table(&c, true, text, sizeof text);
    assert_string_equal(text, buffers);
    engine_case_close(&c);
}

static void unnamed_layers_take_their_index(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {
        {.type = "conv2d", .options = "out_channels=4 kernel_size=3"},
        {.type = "batch_norm"},
        {.type = "relu"},
        {.type = "flatten"},
        {.type = "linear", .options = "out_features=2 bias=false"},
        {0},
    };
    assert_params(layers, (lks_shape){3, {3, 6, 5}},
                  "0.weight[4, 3, 3, 3] 0.bias[4] 1.weight[4] 1.bias[4] 4.weight[2, 48] ",
                  "1.running_mean[4] 1.running_var[4] ");
}

static void nested_layers_take_their_path(void **state) {
    (void)state;
    const lks_layer_spec inner[] = {
        {.type = "linear", .name = "last", .options = "out_features=5"},
        {0},
    };
    const lks_layer_spec block[] = {
        {.type = "linear", .options = "out_features=7"},
        {.type = "silu"},
        {.type = "sequential", .block = inner},
        {0},
    };
    const lks_layer_spec shortcut[] = {
        {.type = "linear", .name = "conv", .options = "out_features=5 bias=false"},
        {0},
    };
    const lks_layer_spec layers[] = {
        {.type = "linear", .name = "fc1", .options = "out_features=6 in_features=8"},
        {.type = "residual", .name = "res1", .block = block, .shortcut = shortcut},
        {.type = "residual", .block = inner},
        {0},
    };
    assert_params(layers, (lks_shape){1, {8}},
                  "fc1.weight[6, 8] fc1.bias[6] res1.block.0.weight[7, 6] res1.block.0.bias[7] "
                  "res1.block.2.last.weight[5, 7] res1.block.2.last.bias[5] "
                  "res1.shortcut.conv.weight[5, 6] 2.block.last.weight[5, 5] "
                  "2.block.last.bias[5] ",
                  "");
}

static void layers_are_listed_with_their_outputs(void **state) {
    (void)state;
    const lks_layer_spec block[] = {
        {.type = "conv2d", .options = "out_channels=3 kernel_size=3 padding=1"}, {0}};
    const lks_layer_spec layers[] = {
        {.type = "residual", .name = "res", .block = block},
        {.type = "adaptive_avg_pool2d", .options = "output_size=[2,1]"},
        {.type = "flatten"},
        {0},
    };
    engine_case c = engine_case_open(layers, (lks_shape){3, {3, 5, 4}}, NULL, &inference);
    const char *const names[] = {"res", "res.block.0", "1", "2"};
    const char *const types[] = {"residual", "conv2d", "adaptive_avg_pool2d", "flatten"};
    const char *const outputs[] = {"[3, 5, 4]", "[3, 5, 4]", "[3, 2, 1]", "[6]"};
    const int64_t params[] = {0, 84, 0, 0};
    assert_int_equal(lks_graph_layer_count(c.graph), 4);
    for (int i = 0; i < 4; i++) {
        lks_layer_info info = lks_graph_layer(c.graph, i);
        char text[LKS_SHAPE_TEXT_BYTES];
        assert_string_equal(info.name, names[i]);
        assert_string_equal(info.type, types[i]);
        assert_string_equal(lks_shape_text(&info.output, text), outputs[i]);
        assert_int_equal(info.param_count, params[i]);
    }
    engine_case_close(&c);
}

static void params_lie_in_the_order_of_backward(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {
        {.type = "linear", .options = "out_features=3"}, /* [3, 5] [3] */
        {.type = "linear", .options = "out_features=7"}, /* [7, 3] [7] */
        {0},
    };
    engine_case c =
        engine_case_open(layers, (lks_shape){1, {5}}, &(lks_spec){.type = "mse"}, &training);
    const int64_t offsets[] = {48, 64, 0, 32};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lks_graph_param(c.graph, i)->offset, offsets[i]);
        assert_int_equal(lks_graph_param(c.graph, i)->layer, i / 2);
    }
    assert_int_equal(lks_graph_flat_count(c.graph), 80);
    assert_null(lks_graph_param(c.graph, 4));
    engine_case_close(&c);
}

static void initial_values_are_pytorchs_distributions(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {
        {.type = "linear", .options = "out_features=250"},
        {.type = "batch_norm"},
        {0},
    };
    engine_case c = engine_case_open(layers, (lks_shape){1, {400}}, NULL, &inference);
    const lks_param *weight = lks_graph_param(c.graph, 0), *bias = lks_graph_param(c.graph, 1);
    const double bound = 1 / sqrt(400);
    double sum = 0, squares = 0;
    for (int64_t e = 0; e < weight->count; e++) {
        double value = c.params[weight->offset + e];
        assert_true(fabs(value) <= bound);
        sum += value;
        squares += value * value;
    }
    /* Mean and variance of a uniform distribution; 100000 numbers give them within 1 % of the
     * bound. */
    double n = (double)weight->count;
    assert_true(fabs(sum / n) < 0.01 * bound);
    assert_true(fabs(squares / n - bound * bound / 3) < 0.01 * bound * bound);

    /* Element e of parameter i is word e % 4 of block e / 4 of the stream i. */
    lks_philox_key key = lks_philox_key_make(3, LKS_RANDOM_INIT, 1);
    float want = (2 * lks_philox_uniform(lks_philox(key, 1, 0).word[2]) - 1) * (float)bound;
    assert_true(c.params[bias->offset + 6] == want);
    key = lks_philox_key_make(3, LKS_RANDOM_INIT, 0);
    want = (2 * lks_philox_uniform(lks_philox(key, 17500, 0).word[1]) - 1) * (float)bound;
    assert_true(c.params[weight->offset + 70001] == want);

    const lks_param *scale = lks_graph_param(c.graph, 2), *shift = lks_graph_param(c.graph, 3);
    const float *buffers = lks_graph_buffers(c.graph);
    for (int i = 0; i < 250; i++) {
        assert_true(c.params[scale->offset + i] == 1);
        assert_true(c.params[shift->offset + i] == 0);
        assert_true(buffers[lks_graph_buffer(c.graph, 0)->offset + i] == 0);
        assert_true(buffers[lks_graph_buffer(c.graph, 1)->offset + i] == 1);
    }
    /* gaps */
    for (int64_t e = bias->count; e < 256; e++)
        assert_true(c.params[bias->offset + e] == 0);
    engine_case_close(&c);
}

static void another_seed_gives_other_values(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {{.type = "linear", .options = "out_features=5"}, {0}};
    lks_graph_config other = inference;
    other.seed = 4;
    engine_case a = engine_case_open(layers, (lks_shape){1, {5}}, NULL, &inference);
    engine_case b = engine_case_open(layers, (lks_shape){1, {5}}, NULL, &inference);
    engine_case d = engine_case_open(layers, (lks_shape){1, {5}}, NULL, &other);
    size_t bytes = (size_t)lks_graph_flat_count(a.graph) * sizeof(float);
    assert_memory_equal(a.params, b.params, bytes);
    assert_memory_not_equal(a.params, d.params, bytes);
    engine_case_close(&a);
    engine_case_close(&b);
    engine_case_close(&d);
}

static void images_enter_as_the_first_layer_wants_them(void **state) {
    (void)state;
    const lks_layer_spec conv[] = {
        {.type = "relu"}, {.type = "conv2d", .options = "out_channels=2 kernel_size=3"}, {0}};
    const lks_layer_spec flat[] = {{.type = "relu"}, {.type = "flatten"}, {0}};
    const lks_layer_spec block[] = {{.type = "sequential", .block = conv}, {0}};
    const lks_layer_spec linear[] = {{.type = "linear", .options = "out_features=2"}, {0}};
    const struct {
        const lks_layer_spec *layers;
        lks_shape input;
        lks_layout layout;
    } cases[] = {
        {conv, {3, {3, 5, 5}}, LKS_LAYOUT_CHANNELS_LAST},
        {block, {3, {3, 5, 5}}, LKS_LAYOUT_CHANNELS_LAST},
        {flat, {3, {3, 5, 5}}, LKS_LAYOUT_ROWS},
        {linear, {3, {3, 5, 5}}, LKS_LAYOUT_ROWS},
        {linear, {1, {5}}, LKS_LAYOUT_ROWS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_case c = engine_case_open(cases[i].layers, cases[i].input, NULL, &inference);
        assert_int_equal(lks_graph_input_layout(c.graph), cases[i].layout);
        engine_case_close(&c);
    }
}

/* ---- refusals ---- */

static const lks_layer_spec one_linear[] = {{.type = "linear", .options = "out_features=4"}, {0}};

static const struct refusal {
    lks_layer_spec layer; /* behind it: the end of the list */
    lks_shape input;
    lks_status status;
    const char *message;
} refusals[] = {
    {{.type = "conv2d",
      .name = "conv2",
      .where = "run.yaml:14",
      .options = "out_channels=8 kernel_size=5"},
     {3, {16, 3, 3}},
     LKS_ESHAPE,
     "layer conv2 (conv2d, run.yaml:14): kernel 5x5 with padding 0 does not fit its input [16, 3, "
     "3]"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=[2,3] dilation=[1,4] padding=[0,1]"},
     {3, {16, 3, 3}},
     LKS_ESHAPE,
     "layer 0 (conv2d): kernel 2x3 with dilation 1x4 and padding 0x1 does not fit its input"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=3 stride=[1,2] padding=same"},
     {3, {16, 8, 8}},
     LKS_ESHAPE,
     "layer 0 (conv2d): padding: same needs stride 1, not 2"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=[3,4] padding=same"},
     {3, {16, 8, 8}},
     LKS_EUNSUPPORTED,
     "padding: same for kernel_size 4 with dilation 1 would take 3 pixels"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=3"},
     {1, {16}},
     LKS_ESHAPE,
     "layer 0 (conv2d): takes images [channels, height, width], but its input is [16]"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=1 in_channels=3"},
     {3, {16, 3, 3}},
     LKS_ESHAPE,
     "in_channels is 3, but its input [16, 3, 3] has 16 channels"},
    {{.type = "conv2d", .options = "out_channels=8 kernel_size=1 groups=3"},
     {3, {16, 3, 3}},
     LKS_ESHAPE,
     "groups 3 does not divide the 16 channels"},
    {{.type = "conv2d", .options = "out_channels=9 kernel_size=1 groups=4"},
     {3, {16, 3, 3}},
     LKS_ESHAPE,
     "groups 4 does not divide out_channels 9"},
    {{.type = "conv2d", .options = "kernel_size=1"},
     {3, {16, 3, 3}},
     LKS_ECONFIG,
     "layer 0 (conv2d): missing required option: out_channels"},
    {{.type = "max_pool2d", .options = "kernel_size=2 padding=2"},
     {3, {1, 8, 8}},
     LKS_ESHAPE,
     "padding 2 is more than half of its kernel's size 2"},
    {{.type = "avg_pool2d", .options = "kernel_size=9"},
     {3, {1, 8, 8}},
     LKS_ESHAPE,
     "kernel 9x9 with padding 0 does not fit"},
    {{.type = "linear", .name = "fc", .options = "out_features=2 in_features=7"},
     {1, {8}},
     LKS_ESHAPE,
     "layer fc (linear): in_features is 7, but the last dimension of its input [8] is not"},
    {{.type = "batch_norm", .options = "num_features=7"},
     {1, {8}},
     LKS_ESHAPE,
     "num_features is 7, but its input [8] has 8 channels"},
    {{.type = "batch_norm"}, {4, {2, 2, 2, 2}}, LKS_ESHAPE, "but its input is [2, 2, 2, 2]"},
    {{.type = "layer_norm", .options = "normalized_shape=[3,4]"},
     {2, {4, 3}},
     LKS_ESHAPE,
     "normalized_shape is not the end of its input's shape [4, 3]"},
    {{.type = "softmax", .options = "dim=0"}, {1, {8}}, LKS_ESHAPE, "dim 0 is not one of 1 .. 1"},
    {{.type = "softmax", .options = "dim=-2"}, {1, {8}}, LKS_ESHAPE, "dim -2 is not one of"},
    {{.type = "flatten", .options = "start_dim=0"}, {1, {8}}, LKS_ESHAPE, "start_dim 0"},
    {{.type = "flatten", .options = "start_dim=3 end_dim=2"},
     {3, {8, 2, 2}},
     LKS_ESHAPE,
     "start_dim 3 and end_dim 2"},
    {{.type = "dropout", .options = "p=1.5"}, {1, {8}}, LKS_ECONFIG, "layer 0 (dropout): p: 1.5"},
    {{.type = "liner", .where = "run.yaml:3"},
     {1, {8}},
     LKS_ECONFIG,
     "layer 0 (liner, run.yaml:3): unknown layer type \"liner\": did you mean \"linear\"?"},
    {{.name = "x"}, {1, {8}}, LKS_ECONFIG, "layer x (no type): a layer without a type"},
    {{.type = "relu", .options = "slope=1"}, {1, {8}}, LKS_ECONFIG, "layer 0 (relu)"},
    {{.type = "relu", .block = one_linear}, {1, {8}}, LKS_ECONFIG, "has no layers inside it"},
    {{.type = "relu", .name = "a.b"}, {1, {8}}, LKS_ECONFIG, "\"a.b\""},
    {{.type = "relu", .name = ""}, {1, {8}}, LKS_ECONFIG, "cannot be called \"\""},
    {{.type = "residual"}, {1, {8}}, LKS_ECONFIG, "layer 0 (residual): needs a block"},
    {{.type = "residual", .options = "a=1", .block = one_linear},
     {1, {8}},
     LKS_ECONFIG,
     "layer 0 (residual)"},
    {{.type = "residual", .name = "res", .block = one_linear},
     {1, {8}},
     LKS_ESHAPE,
     "layer res (residual): its block gives [4] but its shortcut [8]"},
    {{.type = "sequential", .block = one_linear, .shortcut = one_linear},
     {1, {8}},
     LKS_ECONFIG,
     "takes no shortcut"},
    {{.type = "sequential"}, {1, {8}}, LKS_ECONFIG, "layer 0 (sequential): needs a block"},
    {{.type = "linear", .options = "out_features=2147483647"},
     {2, {2, 2}},
     LKS_ESHAPE,
     "more than 2^31"},
    {{.type = "relu"}, {1, {0}}, LKS_ESHAPE, "an input of shape [0]"},
    {{.type = "relu"}, {2, {-1, 4}}, LKS_ESHAPE, ""},
    {{.type = "relu"}, {2, {INT64_MAX, 4}}, LKS_ESHAPE, ""},
};

static void what_does_not_fit_is_refused_by_name(void **state) {
    (void)state;
    lks_device *device = engine_case_device();
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const lks_layer_spec layers[] = {refusals[i].layer, {0}};
        lks_graph *graph = NULL;
        lks_status status =
            lks_graph_create(device, layers, &refusals[i].input, NULL, &training, &graph);
        if (status != refusals[i].status)
            fail_msg("case %zu: %s, expected %s", i, lks_status_text(status),
                     lks_status_text(refusals[i].status));
        assert_null(graph);
        assert_error_has(refusals[i].message);
    }
    lks_device_destroy(device);
}

static void an_inner_layer_is_named_once(void **state) {
    (void)state;
    const lks_layer_spec block[] = {
        {.type = "linear", .where = "run.yaml:9", .options = "out_features=2 in_features=3"}, {0}};
    const lks_layer_spec layers[] = {
        {.type = "residual", .name = "res", .where = "run.yaml:8", .block = block}, {0}};
    lks_device *device = engine_case_device();
    lks_graph *graph = NULL;
    lks_shape input = {1, {8}};
    assert_int_equal(lks_graph_create(device, layers, &input, NULL, &training, &graph), LKS_ESHAPE);
    assert_ptr_equal(strstr(lks_last_error(), "layer res.block.0 (linear, run.yaml:9): "),
                     lks_last_error());
    lks_device_destroy(device);
}

static void equal_names_are_refused(void **state) {
    (void)state;
    const lks_layer_spec same[] = {
        {.type = "relu", .name = "a"}, {.type = "relu", .name = "a", .where = "run.yaml:5"}, {0}};
    const lks_layer_spec index[] = {{.type = "relu", .name = "1"}, {.type = "relu"}, {0}};
    const lks_layer_spec none[] = {{0}};
    lks_device *device = engine_case_device();
    lks_graph *graph = NULL;
    lks_shape input = {1, {8}};
    assert_int_equal(lks_graph_create(device, same, &input, NULL, &training, &graph), LKS_ECONFIG);
    assert_error_has("run.yaml:5: two layers of one list are called \"a\"");
    assert_int_equal(lks_graph_create(device, index, &input, NULL, &training, &graph), LKS_ECONFIG);
    assert_error_has("two layers of one list are called \"1\"");
    assert_int_equal(lks_graph_create(device, none, &input, NULL, &training, &graph), LKS_ECONFIG);
    assert_error_has("no layers");
    lks_device_destroy(device);
}

static void losses_check_their_input(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {{.type = "relu"}, {0}};
    lks_device *device = engine_case_device();
    lks_graph *graph = NULL;
    const struct {
        lks_spec loss;
        lks_shape input;
        lks_status status;
        const char *message;
    } cases[] = {
        {{.type = "cross_entropy", .where = "run.yaml:30"},
         {2, {3, 4}},
         LKS_ESHAPE,
         "run.yaml:30: loss cross_entropy takes one number for each class"},
        {{.type = "cros_entropy"}, {1, {3}}, LKS_ECONFIG, "did you mean \"cross_entropy\"?"},
        {{.type = NULL}, {1, {3}}, LKS_ECONFIG, "a loss without a type"},
        {{.type = "huber", .options = "delta=0"}, {1, {3}}, LKS_ECONFIG, "delta"},
        {{.type = "cross_entropy", .options = "label_smoothing=2"}, {1, {3}}, LKS_ECONFIG, "2"},
        {{.type = "mse", .options = "delta=1"}, {1, {3}}, LKS_ECONFIG, "delta"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(
            lks_graph_create(device, layers, &cases[i].input, &cases[i].loss, &training, &graph),
            cases[i].status);
        assert_error_has(cases[i].message);
    }
    lks_device_destroy(device);
}

static void a_loss_says_what_targets_it_takes(void **state) {
    (void)state;
    const lks_layer_spec layers[] = {{.type = "linear", .options = "out_features=3"}, {0}};
    engine_case c = engine_case_open(layers, (lks_shape){1, {2}},
                                     &(lks_spec){.type = "cross_entropy"}, &training);
    assert_true(lks_graph_targets_are_classes(c.graph));
    assert_int_equal(lks_graph_ignore_index(c.graph), -100);
    assert_non_null(lks_graph_targets(c.graph));
    engine_case_close(&c);
    c = engine_case_open(layers, (lks_shape){1, {2}}, &(lks_spec){.type = "mse"}, &training);
    assert_false(lks_graph_targets_are_classes(c.graph));
    engine_case_close(&c);
}

static void registries_list_every_type(void **state) {
    (void)state;
    int layers = 0, losses = 0;
    for (const char *type; (type = lks_layer_type(layers)) != NULL; layers++) {
        const lks_option_table *table = lks_layer_options(type);
        assert_non_null(table);
        assert_string_equal(table->name, type);
        assert_non_null(table->help);
        bool container = strcmp(type, "residual") == 0 || strcmp(type, "sequential") == 0;
        assert_int_equal(lks_layer_is_container(type), container);
    }
    for (const char *type; (type = lks_loss_type(losses)) != NULL; losses++)
        assert_string_equal(lks_loss_options(type)->name, type);
    assert_int_equal(layers, 18);
    assert_int_equal(losses, 5);
    assert_null(lks_layer_type(-1));
    assert_null(lks_loss_type(-1));
    assert_null(lks_layer_options("nonsense"));
    assert_null(lks_loss_options(NULL));
    assert_false(lks_layer_is_container("nonsense"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unnamed_layers_take_their_index),
        cmocka_unit_test(nested_layers_take_their_path),
        cmocka_unit_test(layers_are_listed_with_their_outputs),
        cmocka_unit_test(params_lie_in_the_order_of_backward),
        cmocka_unit_test(initial_values_are_pytorchs_distributions),
        cmocka_unit_test(another_seed_gives_other_values),
        cmocka_unit_test(images_enter_as_the_first_layer_wants_them),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(an_inner_layer_is_named_once),
        cmocka_unit_test(equal_names_are_refused),
        cmocka_unit_test(losses_check_their_input),
        cmocka_unit_test(a_loss_says_what_targets_it_takes),
        cmocka_unit_test(registries_list_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
