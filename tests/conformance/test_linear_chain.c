/* Two linear layers with an activation between them, fused and chained as far as the device does
 * it, against plain loops in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

enum { LAYERS = 2 };

/* Rows pass twice through the elements' rounding, in sums of up to 48 terms of both signs, whose
 * magnitudes add up to several times the largest result. */
static double tolerance(void) {
    static const double rounding[] = {
        [LKS_PRECISION_FP32] = 2e-6, [LKS_PRECISION_TF32] = 0x1p-10, [LKS_PRECISION_BF16] = 0x1p-8};
    return 4 * rounding[check_precision()];
}

/* Numbers that either type of elements holds. */
static float *random_elements(uint64_t seed, int64_t count) {
    float *values = check_random(seed, count, -1, 1);
    for (int64_t i = 0; i < count; i++)
        values[i] = lks_bf16_to_float(lks_bf16_of_float(values[i]));
    return values;
}

/* ---- one chain ---- */

typedef struct chain_case {
    int64_t batch, in, width, out;
    lks_activation activation;
    bool chained, accumulate;
} chain_case;

/* Arrays of a layer: on the host what goes in and what is expected, on the device what it works on.
 */
typedef struct layer {
    lks_linear_desc desc;
    lks_op *op;
    float *weight, *bias, *start[2]; /* start: what gradients are added to */
    double *want_dparam[2];
    int64_t count[2];
    void *y, *dy, *params[2], *dparams[2], *saved, *scratch;
} layer;

typedef struct chain {
    chain_case c;
    lks_device *device;
    layer layers[LAYERS];
    float *x, *dy;
    void *device_x, *device_dx;
    double *want_y, *want_dx;
} chain;

/* ---- what is expected ---- */

static double activate(lks_activation activation, double z, double *slope) {
    if (activation == LKS_ACTIVATION_RELU) {
        *slope = z > 0;
        return z > 0 ? z : 0;
    }
    const double root = sqrt(2 / acos(-1.0)), inner = root * (z + 0.044715 * z * z * z);
    const double t = tanh(inner);
    *slope = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * root * (1 + 3 * 0.044715 * z * z);
    return 0.5 * z * (1 + t);
}

static double *product(const layer *l, int64_t rows, const double *x) {
    const int64_t in = l->desc.in_features, out = l->desc.out_features;
    double *y = check_zeros(rows * out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            y[r * out + o] = (double)l->bias[o];
            for (int64_t i = 0; i < in; i++)
                y[r * out + o] += x[r * in + i] * (double)l->weight[o * in + i];
        }
    return y;
}

/* Sets the layer's expected gradients and returns dx. */
static double *gradients(layer *l, int64_t rows, const double *x, const double *dy,
                         bool accumulate) {
    const int64_t in = l->desc.in_features, out = l->desc.out_features;
    double *dx = check_zeros(rows * in);
    for (int p = 0; p < 2; p++) {
        l->want_dparam[p] = check_zeros(l->count[p]);
        for (int64_t i = 0; i < l->count[p] && accumulate; i++)
            l->want_dparam[p][i] = (double)l->start[p][i];
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            const double g = dy[r * out + o];
            l->want_dparam[1][o] += g;
            for (int64_t i = 0; i < in; i++) {
                l->want_dparam[0][o * in + i] += g * x[r * in + i];
                dx[r * in + i] += g * (double)l->weight[o * in + i];
            }
        }
    return dx;
}

static double *widened(const float *from, int64_t count) {
    double *to = check_zeros(count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)from[i];
    return to;
}

static void expect(chain *t) {
    const chain_case *c = &t->c;
    const int64_t between = c->batch * c->width;
    double *x = widened(t->x, c->batch * c->in), *dy = widened(t->dy, c->batch * c->out);
    double *h = product(&t->layers[0], c->batch, x), *slope = check_zeros(between);
    for (int64_t i = 0; i < between; i++)
        h[i] = activate(c->activation, h[i], &slope[i]);
    t->want_y = product(&t->layers[1], c->batch, h);
    double *dh = gradients(&t->layers[1], c->batch, h, dy, c->accumulate);
    for (int64_t i = 0; i < between; i++)
        dh[i] *= slope[i];
    t->want_dx = gradients(&t->layers[0], c->batch, x, dh, c->accumulate);
    free(x);
    free(dy);
    free(h);
    free(slope);
    free(dh);
}

/* ---- the device's side ---- */

/* dy: NULL where another layer makes it. */
static void open_layer(chain *t, layer *l, uint64_t seed, const float *dy) {
    const lks_linear_desc *d = &l->desc;
    check_ok(lks_op_create(t->device, LKS_OP_LINEAR, d, t->c.batch + 1, &l->op));
    l->count[0] = d->in_features * d->out_features;
    l->count[1] = d->out_features;
    l->weight = random_elements(seed, l->count[0]);
    l->bias = random_elements(seed + 1, l->count[1]);
    l->params[0] = check_upload_elements(t->device, l->weight, l->count[0]);
    l->params[1] = check_upload_elements(t->device, l->bias, l->count[1]);
    for (int p = 0; p < 2; p++) {
        l->start[p] = check_random(seed + 2 + (uint64_t)p, l->count[p], -1, 1);
        l->dparams[p] =
            check_device_copy(t->device, l->start[p], (size_t)l->count[p] * sizeof(float));
    }
    float *zeros = calloc((size_t)(t->c.batch * d->out_features), sizeof *zeros);
    assert_non_null(zeros);
    l->y = check_upload_elements(t->device, zeros, t->c.batch * d->out_features);
    l->dy = check_upload_elements(t->device, dy ? dy : zeros, t->c.batch * d->out_features);
    free(zeros);
    const lks_op_needs *needs = lks_op_get_needs(l->op);
    l->saved = check_device_copy(t->device, NULL, needs->saved_bytes);
    l->scratch = check_device_copy(t->device, NULL, needs->scratch_bytes);
}

static void close_layer(chain *t, layer *l) {
    void *const memory[] = {l->y,          l->dy,         l->params[0], l->params[1],
                            l->dparams[0], l->dparams[1], l->saved,     l->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        lks_device_free(t->device, memory[i]);
    lks_op_destroy(l->op);
    free(l->weight);
    free(l->bias);
    for (int p = 0; p < 2; p++) {
        free(l->start[p]);
        free(l->want_dparam[p]);
    }
}

static lks_op_args args_of(const chain *t, const layer *l, const void *x, void *dx) {
    return (lks_op_args){
        .batch = t->c.batch,
        .training = true,
        .accumulate = t->c.accumulate,
        .x = x,
        .y = l->y,
        .params = (const void *const *)l->params,
        .dy = l->dy,
        .dx = dx,
        .dparams = l->dparams,
        .saved = l->saved,
        .scratch = l->scratch,
    };
}

static void run(chain *t) {
    lks_stream *stream = lks_device_stream(t->device, LKS_STREAM_COMPUTE);
    layer *first = &t->layers[0], *second = &t->layers[1];
    lks_op_args a = args_of(t, first, t->device_x, t->device_dx);
    lks_op_args b = args_of(t, second, first->y, first->dy);
    check_ok(lks_op_forward(first->op, stream, &a));
    check_ok(lks_op_forward(second->op, stream, &b));
    if (t->c.chained) {
        b.x_op = first->op;
        b.x_saved = first->saved;
    }
    check_ok(lks_op_backward(second->op, stream, &b));
    check_ok(lks_op_backward(first->op, stream, &a));
    check_ok(lks_stream_synchronize(stream));
}

static void compare_elements(chain *t, const char *what, const void *memory, const double *want,
                             int64_t count) {
    float *got = check_download_elements(t->device, memory, count);
    check_close(what, got, want, count, tolerance());
    free(got);
}

static void compare(chain *t) {
    static const char *const names[LAYERS][2] = {{"the first layer's dweight", "its dbias"},
                                                 {"the second layer's dweight", "its dbias"}};
    compare_elements(t, "y", t->layers[1].y, t->want_y, t->c.batch * t->c.out);
    compare_elements(t, "dx", t->device_dx, t->want_dx, t->c.batch * t->c.in);
    for (int i = 0; i < LAYERS; i++)
        for (int p = 0; p < 2; p++) {
            const layer *l = &t->layers[i];
            float *got = malloc((size_t)l->count[p] * sizeof *got);
            assert_non_null(got);
            check_download(t->device, got, l->dparams[p], (size_t)l->count[p] * sizeof *got);
            check_close(names[i][p], got, l->want_dparam[p], l->count[p], tolerance());
            free(got);
        }
}

/* ---- the cases ---- */

/* Returns false where the device fuses no such activation. */
static bool describe(chain *t) {
    layer *first = &t->layers[0], *second = &t->layers[1];
    first->desc = (lks_linear_desc){
        .in_features = t->c.in, .out_features = t->c.width, .rows_per_sample = 1, .bias = true};
    second->desc = (lks_linear_desc){
        .in_features = t->c.width, .out_features = t->c.out, .rows_per_sample = 1, .bias = true};
    if (!lks_op_fuse(t->device, LKS_OP_LINEAR, &first->desc, t->c.activation)) return false;
    if (t->c.chained)
        t->c.chained =
            lks_op_chain(t->device, LKS_OP_LINEAR, &first->desc, LKS_OP_LINEAR, &second->desc);
    return true;
}

static void check_chain(lks_device *device, const chain_case *c) {
    chain t = {.c = *c, .device = device};
    if (!describe(&t)) return;
    t.x = random_elements(1, c->batch * c->in);
    t.dy = random_elements(2, c->batch * c->out);
    t.device_x = check_upload_elements(device, t.x, c->batch * c->in);
    t.device_dx = check_upload_elements(device, t.x, c->batch * c->in);
    open_layer(&t, &t.layers[0], 10, NULL);
    open_layer(&t, &t.layers[1], 20, t.dy);
    expect(&t);
    run(&t);
    compare(&t);
    for (int i = 0; i < LAYERS; i++)
        close_layer(&t, &t.layers[i]);
    lks_device_free(device, t.device_x);
    lks_device_free(device, t.device_dx);
    free(t.x);
    free(t.dy);
    free(t.want_y);
    free(t.want_dx);
}

/* Sizes for which cuBLASLt has everything, and such that it has one thing or another not. */
static const int64_t sizes[][4] = {
    {12, 8, 16, 12}, {12, 7, 16, 12}, {12, 8, 16, 11},
    {13, 8, 48, 12}, {5, 7, 24, 9},   {5, 7, 15, 9},
};

static void every_size(lks_device *device, lks_activation activation) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int variant = 0; variant < 4; variant++) {
            const chain_case c = {
                .batch = sizes[s][0],
                .in = sizes[s][1],
                .width = sizes[s][2],
                .out = sizes[s][3],
                .activation = activation,
                .chained = variant & 1,
                .accumulate = variant & 2,
            };
            check_chain(device, &c);
        }
}

static void relu_between_two(void **state) {
    every_size(*state, LKS_ACTIVATION_RELU);
}

static void gelu_between_two(void **state) {
    every_size(*state, LKS_ACTIVATION_GELU_TANH);
}

/* An activation is fused once, where the operation has a place for it, and only where the numbers
 * are the same. */
static void what_is_fused(void **state) {
    lks_device *device = *state;
    const bool is_gpu = strcmp(lks_device_kind(device), "cuda") == 0;
    const bool is_bf16 = check_precision() == LKS_PRECISION_BF16;
    lks_linear_desc wide = {.in_features = 8, .out_features = 16, .rows_per_sample = 1};
    lks_linear_desc odd = {.in_features = 8, .out_features = 15, .rows_per_sample = 1};
    lks_layer_norm_desc norm = {.width = 8, .rows_per_sample = 1};
    assert_false(lks_op_fuse(device, LKS_OP_LINEAR, &wide, LKS_ACTIVATION_GELU));
    assert_false(lks_op_fuse(device, LKS_OP_LINEAR, &odd, LKS_ACTIVATION_GELU_TANH));
    assert_int_equal(lks_op_fuse(device, LKS_OP_LINEAR, &wide, LKS_ACTIVATION_GELU_TANH),
                     is_gpu && is_bf16);
    assert_true(lks_op_fuse(device, LKS_OP_LINEAR, &odd, LKS_ACTIVATION_RELU));
    assert_int_equal(odd.activation, LKS_ACTIVATION_RELU);
    assert_false(lks_op_fuse(device, LKS_OP_LINEAR, &odd, LKS_ACTIVATION_RELU));
    assert_false(lks_op_fuse(device, LKS_OP_LAYER_NORM, &norm, LKS_ACTIVATION_RELU));

    lks_linear_desc next = {.in_features = 15, .out_features = 4, .rows_per_sample = 1};
    lks_linear_desc folded = {.in_features = 30, .out_features = 4, .rows_per_sample = 1};
    lks_linear_desc plain = {.in_features = 15, .out_features = 15, .rows_per_sample = 1};
    assert_false(lks_op_chain(device, LKS_OP_LINEAR, &odd, LKS_OP_LINEAR, &folded));
    assert_false(lks_op_chain(device, LKS_OP_LINEAR, &plain, LKS_OP_LINEAR, &next));
    assert_int_equal(lks_op_chain(device, LKS_OP_LINEAR, &odd, LKS_OP_LINEAR, &next), is_gpu);
    assert_int_equal(odd.slope_done, is_gpu);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relu_between_two),
        cmocka_unit_test(gelu_between_two),
        cmocka_unit_test(what_is_fused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
