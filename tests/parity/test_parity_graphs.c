/* Every layer, every loss and small whole networks against PyTorch: outputs, every gradient, the
 * gradient of the input, running statistics, sums of losses. Each case of the golden files is a
 * test. PROGRAM [DEVICE]: on the CPU unless another device is asked for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "parity/golden.h"
#include "parity/graph_text.h"
#include "unit/engine_case.h"

/* The golden numbers were computed in float64 from the same float32 numbers, so that what differs
 * is float32's rounding here: 6e-8 for each operation. A result adds at most about 1500 terms,
 * whose rounding errors grow like the square root of their number, to about 2e-6 of the largest
 * term; cancellation in sums and in normalisation takes a few times that. Measured: at most 1.3e-6.
 */
static const double tolerance = 1e-5;

static const char *device_kind = "cpu"; /* set once, from the program's arguments */

typedef struct parity_case {
    lks_h5_file *file;
    const char *name;
    graph_text layers;
    char *text, *loss_text;
    lks_spec loss;
    int64_t batch;
    lks_shape sample;
    float *x;
    engine_case engine;
    bool of_losses; /* the case also has weight and accuracy */
} parity_case;

/* ---- numbers in and out ---- */

/* Copies a batch of the graph's input shape between rows and the layout that the graph wants, both
 * in host memory. */
static void copy_input(const parity_case *c, float *to, const float *from, bool to_graph) {
    int64_t count;
    assert_ok(lks_shape_count(&c->sample, &count));
    if (lks_graph_input_layout(c->engine.graph) == LKS_LAYOUT_ROWS) {
        memcpy(to, from, (size_t)(c->batch * count) * sizeof(float));
        return;
    }
    int64_t channels = c->sample.dim[0], spatial = count / channels;
    for (int64_t n = 0; n < c->batch; n++) {
        for (int64_t k = 0; k < channels; k++) {
            for (int64_t s = 0; s < spatial; s++) {
                int64_t rows = n * count + k * spatial + s, last = n * count + s * channels + k;
                to[to_graph ? last : rows] = from[to_graph ? rows : last];
            }
        }
    }
}

static size_t batch_bytes(const parity_case *c) {
    int64_t count;
    assert_ok(lks_shape_count(&c->sample, &count));
    return (size_t)(c->batch * count) * sizeof(float);
}

static bool has(const parity_case *c, const char *name) {
    return lks_h5_exists(c->file, golden_path(c->name, name));
}

/* Fails unless the case's array equals `got`. */
static void compare(const parity_case *c, const char *part, const char *name, const float *got,
                    const lks_shape *shape) {
    char what[256];
    snprintf(what, sizeof what, "%s%s%s", part, name[0] != '\0' ? " of " : "", name);
    const char *path = golden_path(c->name, part);
    lks_shape stored;
    float *want = golden_floats(c->file, name[0] != '\0' ? golden_path(path, name) : path, &stored);
    int64_t count;
    assert_ok(lks_shape_count(&stored, &count));
    if (shape != NULL && !lks_shape_equal(shape, &stored)) fail_msg("%s: another shape", what);
    golden_compare(what, got, want, count, tolerance);
    free(want);
}

/* The same of an array in device memory. */
static void compare_on_device(const parity_case *c, const char *part, const char *name,
                              const float *got, const lks_shape *shape) {
    int64_t count;
    assert_ok(lks_shape_count(shape, &count));
    float *copy = malloc((size_t)count * sizeof *copy);
    assert_non_null(copy);
    engine_case_download(&c->engine, copy, got, (size_t)count * sizeof *copy);
    compare(c, part, name, copy, shape);
    free(copy);
}

/* A batch's shape. */
static lks_shape batched(int64_t batch, const lks_shape *sample) {
    lks_shape shape = {.rank = sample->rank + 1, .dim = {batch}};
    memcpy(shape.dim + 1, sample->dim, (size_t)sample->rank * sizeof shape.dim[0]);
    return shape;
}

static void compare_output(const parity_case *c, const char *part) {
    lks_graph *graph = c->engine.graph;
    const lks_shape shape = batched(c->batch, lks_graph_output_shape(graph));
    compare_on_device(c, part, "", lks_graph_output(graph), &shape);
}

static lks_status count_arrays(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    (void)path;
    (void)info;
    if (!is_group) (*(int *)data)++;
    return LKS_OK;
}

/* Copies the golden values of a table's entries to their flat places; the names must be the same.
 */
static void load(const parity_case *c, const char *part, bool buffers) {
    lks_graph *graph = c->engine.graph;
    float *flat = buffers ? lks_graph_buffers(graph) : c->engine.params;
    int stored = 0;
    assert_ok(lks_h5_visit(c->file, golden_path(c->name, part), count_arrays, &stored));
    assert_int_equal(buffers ? lks_graph_buffer_count(graph) : lks_graph_param_count(graph),
                     stored);
    for (int i = 0; i < stored; i++) {
        const lks_param *param = buffers ? lks_graph_buffer(graph, i) : lks_graph_param(graph, i);
        lks_shape shape;
        float *values =
            golden_floats(c->file, golden_path(golden_path(c->name, part), param->name), &shape);
        if (!lks_shape_equal(&shape, &param->shape)) fail_msg("%s: another shape", param->name);
        engine_case_upload(&c->engine, flat + param->offset, values,
                           (size_t)param->count * sizeof(float));
        free(values);
    }
}

/* ---- a case ---- */

static void open_engine(parity_case *c, bool train) {
    const lks_graph_config config = {
        .seed = 1,
        /* One sample more than is ever used: smaller batches are as good as full ones. */
        .max_batch = c->batch + 1,
        .inference_only = !train,
        .input_gradient = train,
    };
    c->engine = engine_case_open_on(engine_case_device_of(device_kind), c->layers.lists[0],
                                    c->sample, &c->loss, &config);
    load(c, "param", false);
    load(c, "buffer", true);
    const size_t bytes = batch_bytes(c);
    float *x = malloc(bytes);
    assert_non_null(x);
    copy_input(c, x, c->x, true);
    engine_case_upload(&c->engine, lks_graph_input(c->engine.graph), x, bytes);
    free(x);
}

static void open_case(parity_case *c, lks_h5_file *file, const char *name) {
    *c = (parity_case){.file = file, .name = name};
    c->text = golden_text(file, name, "layers");
    graph_text_parse(c->text, &c->layers);
    c->loss_text = golden_text(file, name, "loss");
    c->loss.type = c->loss_text;
    char *blank = strchr(c->loss_text, ' ');
    if (blank != NULL) {
        *blank = '\0';
        c->loss.options = blank + 1;
    }
    lks_shape shape;
    c->x = golden_floats(file, golden_path(name, "x"), &shape);
    c->batch = shape.dim[0];
    c->sample.rank = shape.rank - 1;
    memcpy(c->sample.dim, shape.dim + 1, (size_t)c->sample.rank * sizeof shape.dim[0]);
}

static void close_case(parity_case *c) {
    free(c->text);
    free(c->loss_text);
    free(c->x);
}

static void load_targets(const parity_case *c) {
    lks_graph *graph = c->engine.graph;
    lks_shape shape;
    int64_t count;
    bool classes = lks_graph_targets_are_classes(graph);
    const char *path = golden_path(c->name, "targets");
    void *targets = classes ? (void *)golden_ints(c->file, path, &shape)
                            : (void *)golden_floats(c->file, path, &shape);
    assert_ok(lks_shape_count(&shape, &count));
    engine_case_upload(&c->engine, lks_graph_targets(graph), targets, (size_t)count * 4);
    free(targets);
}

static void compare_sums(const parity_case *c) {
    double sums[LKS_LOSS_SUM_COUNT];
    engine_case_download(&c->engine, sums, c->engine.sums, sizeof sums);
    float loss = (float)sums[LKS_SUM_LOSS];
    compare(c, "loss_sum", "", &loss, NULL);
    if (!c->of_losses) return;
    assert_true(sums[LKS_SUM_WEIGHT] == golden_number(c->file, c->name, "weight"));
    assert_true(sums[LKS_SUM_CORRECT] == golden_number(c->file, c->name, "correct"));
    assert_true(sums[LKS_SUM_COUNTED] == golden_number(c->file, c->name, "counted"));
}

static void compare_input_gradient(const parity_case *c) {
    const size_t bytes = batch_bytes(c);
    float *dx = malloc(bytes), *in_rows = malloc(bytes);
    assert_non_null(dx);
    assert_non_null(in_rows);
    engine_case_download(&c->engine, dx, lks_graph_input_gradient(c->engine.graph), bytes);
    copy_input(c, in_rows, dx, false);
    compare(c, "dx", "", in_rows, NULL);
    free(in_rows);
    free(dx);
}

static void check_training(parity_case *c) {
    lks_graph *graph = c->engine.graph;
    const lks_batch_info info = {.batch = c->batch, .training = true};
    int64_t forwards = golden_int(c->file, c->name, "forwards");
    load_targets(c);
    for (int64_t i = 0; i < forwards; i++)
        assert_ok(lks_graph_forward(graph, &info));
    compare_output(c, "y");
    assert_ok(lks_graph_loss(graph, &info, c->engine.sums));
    compare_sums(c);
    assert_ok(lks_graph_backward(graph, &info, NULL, NULL));
    for (int i = 0; i < lks_graph_param_count(graph); i++) {
        const lks_param *param = lks_graph_param(graph, i);
        compare_on_device(c, "grad", param->name, c->engine.grads + param->offset, &param->shape);
    }
    compare_input_gradient(c);
    for (int i = 0; i < lks_graph_buffer_count(graph); i++) {
        const lks_param *buffer = lks_graph_buffer(graph, i);
        compare_on_device(c, "buffer_after", buffer->name,
                          lks_graph_buffers(graph) + buffer->offset, &buffer->shape);
    }
}

static void check_evaluation(parity_case *c) {
    const lks_batch_info info = {.batch = c->batch};
    assert_ok(lks_graph_forward(c->engine.graph, &info));
    compare_output(c, "y_eval");
}

typedef struct golden_test {
    const char *file;
    char *name;
} golden_test;

static void agrees_with_pytorch(void **state) {
    const golden_test *test = *state;
    lks_h5_file *file = golden_open(test->file);
    parity_case c;
    open_case(&c, file, test->name);
    c.of_losses = strcmp(test->file, "losses.h5") == 0;
    open_engine(&c, true);
    if (golden_int(file, test->name, "train") != 0) check_training(&c);
    check_evaluation(&c);
    engine_case_close(&c.engine);

    /* A graph for inference alone has another memory plan. */
    open_engine(&c, false);
    load(&c, has(&c, "y") ? "buffer_after" : "buffer", true);
    check_evaluation(&c);
    engine_case_close(&c.engine);
    close_case(&c);
    assert_ok(lks_h5_close(file));
}

/* ---- one test for each case of each file ---- */

static const char *const files[] = {"layers.h5", "losses.h5", "networks.h5"};

enum { FILE_COUNT = sizeof files / sizeof files[0], MAX_TESTS = 256 };

typedef struct test_list {
    const char *file; /* being read */
    struct CMUnitTest tests[MAX_TESTS];
    golden_test golden[MAX_TESTS];
    size_t count;
} test_list;

static lks_status add_test(void *data, const char *path, bool is_group, const lks_h5_info *info) {
    (void)info;
    test_list *list = data;
    const char *name = path[0] == '/' ? path + 1 : path;
    if (!is_group || name[0] == '\0' || strchr(name, '/') != NULL) return LKS_OK;
    if (list->count == MAX_TESTS) return lks_fail(LKS_EINTERNAL, "too many cases");
    golden_test *golden = &list->golden[list->count];
    *golden = (golden_test){.file = list->file, .name = lks_strdup(name)};
    if (golden->name == NULL) return lks_fail(LKS_ENOMEM, "out of memory");
    list->tests[list->count++] = (struct CMUnitTest){
        .name = golden->name,
        .test_func = agrees_with_pytorch,
        .initial_state = golden,
    };
    return LKS_OK;
}

int main(int argc, char **argv) {
    static test_list list;
    if (argc > 1) device_kind = argv[1];
    for (int i = 0; i < FILE_COUNT; i++) {
        list.file = files[i];
        lks_h5_file *file = golden_open(files[i]);
        lks_status status = lks_h5_visit(file, "/", add_test, &list);
        if (status == LKS_OK) status = lks_h5_close(file);
        if (status != LKS_OK) {
            fprintf(stderr, "%s: %s\n", files[i], lks_last_error());
            return 1;
        }
    }
    int failed =
        _cmocka_run_group_tests("graphs against PyTorch", list.tests, list.count, NULL, NULL);
    for (size_t i = 0; i < list.count; i++)
        free(list.golden[i].name);
    return failed;
}
