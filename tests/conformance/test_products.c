/* Linear and conv2d against plain loops in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

/* float32 sums of a few hundred terms in [-1, 1]: each addition rounds by 2^-24 of a partial sum,
 * which stays near the largest result. */
static const double FP32_TOLERANCE = 2e-6;

/* Winograd's method, which a back end may use for 3x3 windows: 3e-6 with 256 channels
 * (src/device/cpu/winograd.h), and as much again for sums over many places. */
static const double FP32_TOLERANCE_3X3 = 5e-6;

/* TF32 keeps 10 bits of a factor's fraction: a product is wrong by up to 2^-10 of itself, a sum of
 * many by less of the largest. */
static const double TF32_TOLERANCE = 1e-3;

/* Factors are bfloat16 and exact here, sums are float32; a result is rounded to 8 bits, by 2^-8 of
 * itself at most. */
static const double BF16_TOLERANCE = 4e-3;
/* Before that rounding: tensor cores sum in float32, but cut off instead of rounding. */
static const double BF16_SUMS_TOLERANCE = 1e-4;

static double tolerance_of(double fp32) {
    if (check_precision() == LKS_PRECISION_BF16) return BF16_TOLERANCE;
    return check_precision() == LKS_PRECISION_TF32 ? TF32_TOLERANCE : fp32;
}

/* Rounded factors may turn the sign of a y near zero, and with it what ReLU lets through: where
 * they are rounded, layers have no ReLU. */
static lks_activation relu_if(bool wanted) {
    return wanted && check_precision() == LKS_PRECISION_FP32 ? LKS_ACTIVATION_RELU
                                                             : LKS_ACTIVATION_NONE;
}

/* Applies a ReLU's mask to a copy of dy, as float64. */
static double *masked(const check_call *call, const double *y, bool relu) {
    const int64_t count = call->batch * call->y_count;
    double *dy = check_zeros(count);
    for (int64_t i = 0; i < count; i++)
        dy[i] = relu && y[i] <= 0 ? 0 : (double)call->dy[i];
    return dy;
}

static double *start_of_gradient(const check_call *call, int param) {
    double *start = check_zeros(call->param_count[param]);
    for (int64_t i = 0; i < call->param_count[param] && call->accumulate; i++)
        start[i] = (double)call->dparam[param][i];
    return start;
}

/* What the test compares with; freed by release. */
typedef struct expected {
    double *y, *dy, *dx, *dweight, *dbias;
} expected;

static void release(expected *e) {
    free(e->y);
    free(e->dy);
    free(e->dx);
    free(e->dweight);
    free(e->dbias);
}

/* Accumulated gradients have one more addition, and may have a smaller largest result. */
static void compare(const check_call *call, const expected *e, double fp32) {
    const double forward = tolerance_of(fp32);
    const double tolerance = call->accumulate ? 2 * forward : forward;
    const double sums = check_precision() == LKS_PRECISION_BF16 ? BF16_SUMS_TOLERANCE : forward;
    check_close_elements("y", call->y, e->y, call->batch * call->y_count, sums);
    if (call->dx) check_close_elements("dx", call->dx, e->dx, call->batch * call->x_count, sums);
    if (call->without_dparams) return;
    if (!call->without_dparam[0])
        check_close("dweight", call->dparam[0], e->dweight, call->param_count[0], tolerance);
    if (call->params > 1 && !call->without_dparam[1])
        check_close("dbias", call->dparam[1], e->dbias, call->param_count[1], tolerance);
}

/* ---- linear ---- */

static void linear_expected(const check_call *call, expected *e) {
    const lks_linear_desc *d = call->desc;
    const int64_t in = d->in_features, out = d->out_features;
    const int64_t rows = call->batch * d->rows_per_sample;
    const bool relu = d->activation == LKS_ACTIVATION_RELU;
    e->y = check_zeros(rows * out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = d->bias ? (double)call->param[1][o] : 0;
            for (int64_t i = 0; i < in; i++)
                sum += (double)call->x[r * in + i] * (double)call->param[0][o * in + i];
            e->y[r * out + o] = relu && sum < 0 ? 0 : sum;
        }
    e->dy = masked(call, e->y, relu);
    e->dx = check_zeros(rows * in);
    e->dweight = start_of_gradient(call, 0);
    e->dbias = d->bias ? start_of_gradient(call, 1) : NULL;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            const double g = e->dy[r * out + o];
            if (d->bias) e->dbias[o] += g;
            for (int64_t i = 0; i < in; i++) {
                e->dx[r * in + i] += g * (double)call->param[0][o * in + i];
                e->dweight[o * in + i] += g * (double)call->x[r * in + i];
            }
        }
}

static check_call linear_call(const lks_linear_desc *d, int64_t max_batch, int64_t batch) {
    return (check_call){
        .kind = LKS_OP_LINEAR,
        .desc = d,
        .max_batch = max_batch,
        .batch = batch,
        .x_count = d->rows_per_sample * d->in_features,
        .y_count = d->rows_per_sample * d->out_features,
        .params = d->bias ? 2 : 1,
        .param_count = {d->in_features * d->out_features, d->out_features},
        .training = true,
    };
}

static void run_linear(lks_device *device, check_call *call, uint64_t seed) {
    expected e = {0};
    check_call_fill(call, seed);
    linear_expected(call, &e);
    check_ok(check_call_run(device, call));
    compare(call, &e, FP32_TOLERANCE);
    release(&e);
    check_call_free(call);
}

static void linear_agrees(void **state) {
    static const lks_linear_desc cases[] = {
        {.in_features = 1, .out_features = 1, .rows_per_sample = 1, .bias = true},
        {.in_features = 7, .out_features = 5, .rows_per_sample = 1, .bias = true},
        {.in_features = 64, .out_features = 10, .rows_per_sample = 1, .bias = true},
        {.in_features = 33, .out_features = 129, .rows_per_sample = 3, .bias = false},
        {.in_features = 100, .out_features = 80, .rows_per_sample = 2, .bias = true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int variant = 0; variant < 8; variant++) {
            lks_linear_desc d = cases[c];
            d.activation = relu_if(variant & 1);
            check_call call = linear_call(&d, 13, variant & 2 ? 13 : 9);
            call.accumulate = (variant & 4) != 0;
            run_linear(*state, &call, 100 * c);
        }
}

static void linear_leaves_out_what_is_not_wanted(void **state) {
    const lks_linear_desc d = {.in_features = 20,
                               .out_features = 6,
                               .rows_per_sample = 1,
                               .bias = true,
                               .activation = relu_if(true)};
    check_call first_layer = linear_call(&d, 5, 5), frozen = linear_call(&d, 5, 5);
    first_layer.without_dx = true;
    run_linear(*state, &first_layer, 1);
    frozen.without_dparams = true;
    run_linear(*state, &frozen, 2);
    for (int i = 0; i < 4; i++) { /* one of weight and bias, with a batch and without */
        check_call half = linear_call(&d, 5, i < 2 ? 5 : 0);
        half.without_dparam[i % 2] = true;
        run_linear(*state, &half, 3);
    }
}

/* Biases' gradients over many rows: their rounding must not grow with the number of rows. */
static void linear_sums_many_rows(void **state) {
    const lks_linear_desc d = {
        .in_features = 3, .out_features = 70, .rows_per_sample = 1000, .bias = true};
    check_call call = linear_call(&d, 7, 7);
    run_linear(*state, &call, 3);
}

static void empty_batch(lks_device *device, check_call *call) {
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        check_call_fill(call, 4);
        float *before[CHECK_MAX_PARAMS];
        for (int i = 0; i < call->params; i++) {
            const size_t bytes = (size_t)call->param_count[i] * sizeof(float);
            before[i] = calloc(1, bytes);
            assert_non_null(before[i]);
            if (accumulate) memcpy(before[i], call->dparam[i], bytes);
        }
        check_call run = *call;
        run.accumulate = accumulate;
        check_ok(check_call_run(device, &run));
        for (int i = 0; i < call->params; i++) {
            assert_memory_equal(run.dparam[i], before[i],
                                (size_t)call->param_count[i] * sizeof(float));
            free(before[i]);
        }
        check_call_free(&run);
    }
}

static void linear_takes_an_empty_batch(void **state) {
    const lks_linear_desc d = {
        .in_features = 20, .out_features = 6, .rows_per_sample = 2, .bias = true};
    check_call call = linear_call(&d, 5, 0);
    empty_batch(*state, &call);
}

/* More batch sizes than an operation keeps plans for, each used twice. */
static void linear_replans(void **state) {
    const lks_linear_desc d = {.in_features = 4, .out_features = 3, .rows_per_sample = 1};
    lks_device *device = *state;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_op *op = NULL;
    check_ok(lks_op_create(device, LKS_OP_LINEAR, &d, 9, &op));
    check_call call = linear_call(&d, 9, 9);
    expected e = {0};
    check_call_fill(&call, 5);
    linear_expected(&call, &e);
    void *x = check_upload_elements(device, call.x, 9 * 4);
    void *weight = check_upload_elements(device, call.param[0], 12);
    void *y = check_device_copy(device, NULL, 9 * 3 * sizeof(float)); /* of the largest elements */
    void *scratch = check_device_copy(device, NULL, lks_op_get_needs(op)->scratch_bytes);
    for (int64_t i = 0; i < 18; i++) {
        const int64_t batch = 1 + i % 9;
        const lks_op_args args = {.batch = batch,
                                  .x = x,
                                  .y = y,
                                  .params = (const void *const[]){weight},
                                  .scratch = scratch};
        check_ok(lks_op_forward(op, stream, &args));
        float *got = check_download_elements(device, y, batch * 3);
        check_close("y", got, e.y, batch * 3, tolerance_of(FP32_TOLERANCE));
        free(got);
    }
    lks_device_free(device, x);
    lks_device_free(device, weight);
    lks_device_free(device, y);
    lks_device_free(device, scratch);
    lks_op_destroy(op);
    release(&e);
    check_call_free(&call);
}

static void linear_refuses(void **state) {
    const lks_linear_desc good = {.in_features = 4, .out_features = 3, .rows_per_sample = 1};
    lks_linear_desc d = good;
    lks_op *op = NULL;
    d.in_features = 0;
    assert_int_equal(lks_op_create(*state, LKS_OP_LINEAR, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.activation = LKS_ACTIVATION_TANH;
    assert_int_equal(lks_op_create(*state, LKS_OP_LINEAR, &d, 2, &op), LKS_EUNSUPPORTED);
    assert_int_equal(lks_op_create(*state, LKS_OP_LINEAR, &good, 0, &op), LKS_EINVAL);
    assert_null(op);
}

/* ---- conv2d ---- */

/* A visit of every product x * weight that makes up y. */
typedef void (*conv_visit)(void *data, int64_t x, int64_t w, int64_t y);

static void conv_walk(const lks_conv2d_desc *d, int64_t batch, conv_visit visit, void *data) {
    const int64_t ci = d->in_channels / d->groups, co = d->out_channels / d->groups;
    for (int64_t n = 0; n < batch; n++)
        for (int64_t oc = 0; oc < d->out_channels; oc++)
            for (int64_t o = 0; o < d->out_size[0] * d->out_size[1]; o++)
                for (int64_t c = 0; c < ci; c++)
                    for (int64_t k = 0; k < d->kernel[0] * d->kernel[1]; k++) {
                        const int64_t kh = k / d->kernel[1], kw = k % d->kernel[1];
                        const int64_t oh = o / d->out_size[1], ow = o % d->out_size[1];
                        const int64_t h = oh * d->stride[0] - d->padding[0] + kh * d->dilation[0];
                        const int64_t w = ow * d->stride[1] - d->padding[1] + kw * d->dilation[1];
                        if (h < 0 || h >= d->in_size[0] || w < 0 || w >= d->in_size[1]) continue;
                        const int64_t ic = oc / co * ci + c;
                        visit(data,
                              ((n * d->in_size[0] + h) * d->in_size[1] + w) * d->in_channels + ic,
                              ((oc * ci + c) * d->kernel[0] + kh) * d->kernel[1] + kw,
                              ((n * d->out_size[0] + oh) * d->out_size[1] + ow) * d->out_channels +
                                  oc);
                    }
}

typedef struct conv_data {
    const check_call *call;
    expected *e;
} conv_data;

static void add_product(void *data, int64_t x, int64_t w, int64_t y) {
    const conv_data *c = data;
    c->e->y[y] += (double)c->call->x[x] * (double)c->call->param[0][w];
}

static void add_gradients(void *data, int64_t x, int64_t w, int64_t y) {
    const conv_data *c = data;
    c->e->dx[x] += c->e->dy[y] * (double)c->call->param[0][w];
    c->e->dweight[w] += c->e->dy[y] * (double)c->call->x[x];
}

static void conv_expected(const check_call *call, expected *e) {
    const lks_conv2d_desc *d = call->desc;
    const bool relu = d->activation == LKS_ACTIVATION_RELU;
    const int64_t count = call->batch * call->y_count;
    conv_data data = {call, e};
    e->y = check_zeros(count);
    conv_walk(d, call->batch, add_product, &data);
    for (int64_t i = 0; i < count; i++) {
        if (d->bias) e->y[i] += (double)call->param[1][i % d->out_channels];
        if (relu && e->y[i] < 0) e->y[i] = 0;
    }
    e->dy = masked(call, e->y, relu);
    e->dx = check_zeros(call->batch * call->x_count);
    e->dweight = start_of_gradient(call, 0);
    e->dbias = d->bias ? start_of_gradient(call, 1) : NULL;
    conv_walk(d, call->batch, add_gradients, &data);
    for (int64_t i = 0; i < count && d->bias; i++)
        e->dbias[i % d->out_channels] += e->dy[i];
}

/* A case in short: sizes of the output follow. */
typedef struct conv_case {
    int64_t in, out, groups, size[2], kernel[2], stride[2], padding[2], dilation[2];
    bool bias;
} conv_case;

static lks_conv2d_desc conv_desc(const conv_case *c) {
    lks_conv2d_desc d = {
        .in_channels = c->in, .out_channels = c->out, .groups = c->groups, .bias = c->bias};
    for (int i = 0; i < 2; i++) {
        d.in_size[i] = c->size[i];
        d.kernel[i] = c->kernel[i];
        d.stride[i] = c->stride[i];
        d.padding[i] = c->padding[i];
        d.dilation[i] = c->dilation[i];
        d.out_size[i] = (c->size[i] + 2 * c->padding[i] - c->dilation[i] * (c->kernel[i] - 1) - 1) /
                            c->stride[i] +
                        1;
    }
    return d;
}

static check_call conv_call(const lks_conv2d_desc *d, int64_t max_batch, int64_t batch) {
    return (check_call){
        .kind = LKS_OP_CONV2D,
        .desc = d,
        .max_batch = max_batch,
        .batch = batch,
        .x_count = d->in_channels * d->in_size[0] * d->in_size[1],
        .y_count = d->out_channels * d->out_size[0] * d->out_size[1],
        .params = d->bias ? 2 : 1,
        .param_count = {d->out_channels * (d->in_channels / d->groups) * d->kernel[0] *
                            d->kernel[1],
                        d->out_channels},
        .training = true,
    };
}

static void run_conv(lks_device *device, check_call *call, uint64_t seed, double tolerance) {
    expected e = {0};
    check_call_fill(call, seed);
    conv_expected(call, &e);
    check_ok(check_call_run(device, call));
    compare(call, &e, tolerance);
    release(&e);
    check_call_free(call);
}

static void conv_agrees(void **state) {
    static const conv_case cases[] = {
        {1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {1, 1}, true},
        {1, 8, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {3, 32, 1, {9, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {16, 16, 1, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, false},
        {5, 7, 1, {11, 13}, {3, 5}, {2, 3}, {1, 2}, {1, 1}, true},
        {6, 10, 2, {7, 9}, {3, 2}, {1, 2}, {2, 0}, {1, 1}, true},
        {8, 8, 8, {10, 10}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, false},
        {4, 6, 1, {12, 11}, {3, 3}, {1, 2}, {2, 3}, {2, 3}, true},
        {3, 4, 1, {5, 5}, {2, 2}, {2, 2}, {0, 0}, {1, 1}, false},
        {16, 16, 1, {5, 5}, {1, 1}, {2, 2}, {0, 0}, {1, 1}, true},
        {24, 12, 1, {6, 5}, {1, 1}, {1, 1}, {0, 0}, {1, 1}, true},
        /* strides and dilations with common divisors, strides beyond windows and images */
        {8, 8, 1, {9, 10}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true},
        {3, 4, 1, {13, 14}, {3, 4}, {4, 6}, {3, 1}, {2, 4}, false},
        {4, 8, 2, {3, 2}, {2, 1}, {5, 4}, {1, 0}, {1, 1}, true},
        /* every channel by itself */
        {16, 16, 16, {9, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {40, 40, 40, {8, 11}, {3, 5}, {2, 3}, {1, 2}, {1, 1}, true},
        {5, 5, 5, {9, 8}, {2, 3}, {2, 1}, {0, 2}, {2, 3}, true},
        {1, 1, 1, {6, 7}, {3, 3}, {1, 2}, {1, 1}, {1, 1}, true},
        {6, 12, 6, {7, 6}, {3, 3}, {1, 2}, {1, 1}, {1, 1}, true},
        {8, 16, 8, {6, 5}, {2, 3}, {2, 1}, {1, 1}, {1, 2}, false},
        {5, 15, 5, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {1, 5, 1, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {72, 72, 72, {5, 4}, {1, 1}, {1, 1}, {0, 0}, {1, 1}, true},
        /* channels of half packs, of float32 and of bfloat16 */
        {6, 6, 6, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {12, 12, 12, {5, 6}, {3, 2}, {2, 1}, {1, 1}, {1, 1}, true},
        /* more channels than a tile of a product has columns */
        {8, 72, 1, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {72, 8, 1, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
    };
    /* ReLU, a whole batch, accumulation: every pair of the three in every combination. */
    static const int variants[] = {0, 3, 5, 6};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
            const int variant = variants[v];
            lks_conv2d_desc d = conv_desc(&cases[c]);
            d.activation = relu_if(variant & 1);
            check_call call = conv_call(&d, 4, variant & 2 ? 4 : 3);
            call.accumulate = (variant & 4) != 0;
            run_conv(*state, &call, 100 * c, FP32_TOLERANCE);
        }
}

/* Many channels in 3x3 windows, which a back end may compute by other means than the plain sum:
 * with odd sizes, every padding, and large enough to be cut into blocks. */
static void conv_agrees_on_3x3(void **state) {
    static const conv_case cases[] = {
        {16, 32, 1, {15, 13}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
        {32, 16, 1, {17, 20}, {3, 3}, {1, 1}, {0, 2}, {1, 1}, false},
        {32, 32, 1, {14, 9}, {3, 3}, {1, 1}, {2, 0}, {1, 1}, true},
        {48, 48, 1, {30, 31}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int variant = 0; variant < 2; variant++) {
            lks_conv2d_desc d = conv_desc(&cases[c]);
            d.activation = relu_if(variant);
            check_call call = conv_call(&d, 4, variant ? 4 : 3);
            call.accumulate = variant;
            run_conv(*state, &call, 1000 + c, FP32_TOLERANCE_3X3);
        }
}

static const conv_case small = {3, 5, 1, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true};
/* For Winograd's method, where a back end has it. */
static const conv_case large = {16, 32, 1, {16, 16}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true};

static void conv_leaves_out_what_is_not_wanted(void **state) {
    lks_conv2d_desc d = conv_desc(&small);
    d.activation = relu_if(true);
    check_call first_layer = conv_call(&d, 2, 2), frozen = conv_call(&d, 2, 2);
    first_layer.without_dx = true;
    run_conv(*state, &first_layer, 1, FP32_TOLERANCE);
    frozen.without_dparams = true;
    run_conv(*state, &frozen, 2, FP32_TOLERANCE);
    for (int i = 0; i < 8; i++) { /* one of weight and bias, with a batch and without */
        lks_conv2d_desc desc = conv_desc(i < 4 ? &small : &large);
        check_call half = conv_call(&desc, 2, i % 4 < 2 ? 2 : 0);
        half.without_dparam[i % 2] = true;
        run_conv(*state, &half, 3, FP32_TOLERANCE_3X3);
    }
}

static void conv_takes_an_empty_batch(void **state) {
    const lks_conv2d_desc d[] = {conv_desc(&small), conv_desc(&large)};
    for (int i = 0; i < 2; i++) {
        check_call call = conv_call(&d[i], 2, 0);
        empty_batch(*state, &call);
    }
}

static void conv_refuses(void **state) {
    const lks_conv2d_desc good = conv_desc(&small);
    lks_op *op = NULL;
    lks_conv2d_desc d = good;
    d.groups = 2;
    assert_int_equal(lks_op_create(*state, LKS_OP_CONV2D, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.out_size[1]++;
    assert_int_equal(lks_op_create(*state, LKS_OP_CONV2D, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.stride[0] = 0;
    assert_int_equal(lks_op_create(*state, LKS_OP_CONV2D, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.activation = LKS_ACTIVATION_GELU;
    assert_int_equal(lks_op_create(*state, LKS_OP_CONV2D, &d, 2, &op), LKS_EUNSUPPORTED);
    assert_null(op);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_agrees),
        cmocka_unit_test(linear_leaves_out_what_is_not_wanted),
        cmocka_unit_test(linear_sums_many_rows),
        cmocka_unit_test(linear_takes_an_empty_batch),
        cmocka_unit_test(linear_replans),
        cmocka_unit_test(linear_refuses),
        cmocka_unit_test(conv_agrees),
        cmocka_unit_test(conv_agrees_on_3x3),
        cmocka_unit_test(conv_leaves_out_what_is_not_wanted),
        cmocka_unit_test(conv_takes_an_empty_batch),
        cmocka_unit_test(conv_refuses),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
