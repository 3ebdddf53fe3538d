/* Softmax, activations, dropout, layout changes, add and fork, against plain loops in double. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Float32 in a few operations: some units of 2^-24 = 6e-8. */
static const double tolerance = 1e-6;

static double *to_double(const float *values, int64_t count) {
    double *out = check_zeros(count);
    for (int64_t i = 0; i < count; i++)
        out[i] = (double)values[i];
    return out;
}

/* ---- softmax ---- */

static void reference_softmax(const lks_softmax_desc *d, int64_t batch, const double *x,
                              double *y) {
    for (int64_t row = 0; row < batch * d->outer * d->inner; row++) {
        const int64_t base = row / d->inner * d->size * d->inner + row % d->inner;
        double max = -INFINITY, sum = 0;
        for (int64_t i = 0; i < d->size; i++)
            max = fmax(max, x[base + i * d->inner]);
        for (int64_t i = 0; i < d->size; i++)
            sum += exp(x[base + i * d->inner] - max);
        for (int64_t i = 0; i < d->size; i++) {
            const int64_t at = base + i * d->inner;
            y[at] = exp(x[at] - max) / sum;
        }
    }
}

/* From the y that forward has left, which may be rounded. */
static void reference_softmax_backward(const lks_softmax_desc *d, int64_t batch, const float *y,
                                       const float *dy, double *dx) {
    for (int64_t row = 0; row < batch * d->outer * d->inner; row++) {
        const int64_t base = row / d->inner * d->size * d->inner + row % d->inner;
        double dot = 0;
        for (int64_t i = 0; i < d->size; i++)
            dot += (double)y[base + i * d->inner] * (double)dy[base + i * d->inner];
        for (int64_t i = 0; i < d->size; i++) {
            const int64_t at = base + i * d->inner;
            dx[at] = (double)y[at] * ((double)dy[at] - dot);
        }
    }
}

static void softmax_case(lks_device *device, lks_softmax_desc desc, int64_t batch, float spread,
                         float offset) {
    const int64_t count = desc.outer * desc.size * desc.inner, all = batch * count;
    check_call call = {.kind = LKS_OP_SOFTMAX,
                       .desc = &desc,
                       .max_batch = batch + 2,
                       .batch = batch,
                       .x_count = count,
                       .y_count = count};
    check_call_fill(&call, 7);
    for (int64_t i = 0; i < all; i++)
        call.x[i] = check_rounded(call.x[i] * spread + offset);
    double *x = to_double(call.x, all), *y = check_zeros(all), *dx = check_zeros(all);
    reference_softmax(&desc, batch, x, y);
    check_ok(check_call_run(device, &call));
    reference_softmax_backward(&desc, batch, call.y, call.dy, dx);
    check_close_elements("y", call.y, y, all, tolerance);
    for (int64_t i = 0; i < all; i++) /* a difference of numbers below 1: an absolute error */
        assert_true(fabs((double)call.dx[i] - dx[i]) <=
                    tolerance + check_tolerance(0) * fabs(dx[i]));
    check_call_threads(device, &call);
    free(x);
    free(y);
    free(dx);
    check_call_free(&call);
}

static void test_softmax(void **state) {
    const lks_softmax_desc descs[] = {{1, 1, 1},    {1, 10, 1},   {3, 16, 1},  {2, 17, 1},
                                      {1, 1000, 1}, {1, 5, 3},    {2, 7, 64},  {1, 33, 65},
                                      {3, 4, 130},  {1, 2, 4000}, {64, 48, 1}, {300, 31, 1},
                                      {1, 2052, 1}, {2, 1501, 1}, {2, 2048, 1}};
    for (size_t i = 0; i < sizeof descs / sizeof *descs; i++)
        for (int64_t batch = 0; batch <= 3; batch += batch ? 2 : 1)
            softmax_case(*state, descs[i], batch, 1.0f, 0.0f);
    for (int64_t n = 1; n <= CHECK_NARROW; n++) {
        softmax_case(*state, (lks_softmax_desc){3, n, 1}, 2, 1.0f, 0.0f);
        softmax_case(*state, (lks_softmax_desc){1, 3, n}, 2, 1.0f, 0.0f);
    }
    /* Logits far from 0, on either side and among themselves. */
    for (int64_t inner = 1; inner <= 7; inner += 6) {
        softmax_case(*state, (lks_softmax_desc){1, 40, inner}, 5, 1.0f, 1e4f);
        softmax_case(*state, (lks_softmax_desc){1, 40, inner}, 5, 1.0f, -1e4f);
        softmax_case(*state, (lks_softmax_desc){1, 40, inner}, 5, 1e3f, 0.0f);
    }
}

/* ---- activations ---- */

static double normal_cdf(double x) {
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* The activation at x, and its slope. */
static double reference_activation(const lks_eltwise_desc *d, double x, double *slope) {
    const double pi = 3.14159265358979323846;
    const double s = 1 / (1 + exp(-x));
    switch (d->activation) {
    case LKS_ACTIVATION_RELU:
        *slope = x > 0;
        return x > 0 ? x : 0;
    case LKS_ACTIVATION_LEAKY_RELU:
        *slope = x > 0 ? 1 : d->alpha;
        return x > 0 ? x : d->alpha * x;
    case LKS_ACTIVATION_GELU:
        *slope = normal_cdf(x) + x * exp(-x * x / 2) / sqrt(2 * pi);
        return x * normal_cdf(x);
    case LKS_ACTIVATION_GELU_TANH: {
        const double k = sqrt(2 / pi), t = tanh(k * (x + 0.044715 * x * x * x));
        *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
        return 0.5 * x * (1 + t);
    }
    case LKS_ACTIVATION_SILU:
        *slope = s * (1 + x * (1 - s));
        return x * s;
    case LKS_ACTIVATION_TANH:
        *slope = 1 - tanh(x) * tanh(x);
        return tanh(x);
    case LKS_ACTIVATION_SIGMOID:
        *slope = s * (1 - s);
        return s;
    case LKS_ACTIVATION_NONE:
        break;
    }
    *slope = 1;
    return x;
}

/* The slope where backward takes it from y, which may be rounded: y's own. */
static double slope_from(const lks_eltwise_desc *d, float y, double slope) {
    if (d->activation == LKS_ACTIVATION_TANH) return 1 - (double)y * (double)y;
    if (d->activation == LKS_ACTIVATION_SIGMOID) return (double)y * (1 - (double)y);
    return slope;
}

static void eltwise_case(lks_device *device, lks_eltwise_desc desc, int64_t batch, float spread) {
    const int64_t all = batch * desc.count;
    check_call call = {.kind = LKS_OP_ELTWISE,
                       .desc = &desc,
                       .max_batch = batch + 1,
                       .batch = batch,
                       .x_count = desc.count,
                       .y_count = desc.count};
    check_call_fill(&call, 11);
    for (int64_t i = 0; i < all; i++)
        call.x[i] = check_rounded(call.x[i] * spread);
    if (all > 2) call.x[1] = 0; /* where relu's slope is 0 and leaky relu's alpha, as in torch */
    double *y = check_zeros(all), *dx = check_zeros(all);
    check_ok(check_call_run(device, &call));
    for (int64_t i = 0; i < all; i++) {
        y[i] = reference_activation(&desc, (double)call.x[i], &dx[i]);
        dx[i] = slope_from(&desc, call.y[i], dx[i]) * (double)call.dy[i];
    }
    check_close_elements("y", call.y, y, all, tolerance);
    check_close_elements("dx", call.dx, dx, all, tolerance);
    check_call_threads(device, &call);
    free(y);
    free(dx);
    check_call_free(&call);
}

static void test_eltwise(void **state) {
    const struct {
        lks_activation activation;
        double alpha;
    } kinds[] = {{LKS_ACTIVATION_NONE, 0},           {LKS_ACTIVATION_RELU, 0},
                 {LKS_ACTIVATION_LEAKY_RELU, 0.01},  {LKS_ACTIVATION_LEAKY_RELU, 0},
                 {LKS_ACTIVATION_LEAKY_RELU, -0.25}, {LKS_ACTIVATION_GELU, 0},
                 {LKS_ACTIVATION_GELU_TANH, 0},      {LKS_ACTIVATION_SILU, 0},
                 {LKS_ACTIVATION_TANH, 0},           {LKS_ACTIVATION_SIGMOID, 0}};
    const int64_t counts[] = {1, 5, 67, 20011};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int64_t batch = 0; batch <= 3; batch += batch ? 2 : 1)
                eltwise_case(*state,
                             (lks_eltwise_desc){counts[c], kinds[k].activation, kinds[k].alpha},
                             batch, c % 2 ? 6.0f : 0.5f);
}

/* Over the whole range of float32 each value is right relative to itself, not to the largest. */
static void test_eltwise_relative_error(void **state) {
    const lks_activation kinds[] = {LKS_ACTIVATION_GELU, LKS_ACTIVATION_SILU, LKS_ACTIVATION_TANH,
                                    LKS_ACTIVATION_SIGMOID};
    enum { COUNT = 40000 };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const lks_eltwise_desc desc = {COUNT, kinds[k], 0};
        check_call call = {.kind = LKS_OP_ELTWISE,
                           .desc = &desc,
                           .max_batch = 1,
                           .batch = 1,
                           .x_count = COUNT,
                           .y_count = COUNT,
                           .forward_only = true};
        check_call_fill(&call, 3);
        for (int i = 0; i < COUNT; i++) { /* magnitudes from 2^-40 to 2^3.6 */
            const double size = exp2(-40 + 43.6 * i / COUNT);
            call.x[i] = check_rounded((float)(i % 2 ? size : -size));
        }
        check_ok(check_call_run(*state, &call));
        for (int i = 0; i < COUNT; i++) {
            double slope;
            const double want = reference_activation(&desc, (double)call.x[i], &slope);
            /* gelu: the rounding of x^2 / 2, up to 74, is an error of the exponential; its 2^-24
             * times 74 is 4.4e-6 */
            const double limit = check_tolerance(kinds[k] == LKS_ACTIVATION_GELU ? 1e-5 : 1e-6);
            if (fabs((double)call.y[i] - want) > limit * fabs(want))
                fail_msg("activation %d of %.9g is %.9g, expected %.9g", (int)kinds[k],
                         (double)call.x[i], (double)call.y[i], want);
        }
        check_call_free(&call);
    }
}

static void test_eltwise_not_finite(void **state) {
    enum { COUNT = 16 };
    for (int kind = LKS_ACTIVATION_NONE; kind <= LKS_ACTIVATION_SIGMOID; kind++) {
        const lks_eltwise_desc desc = {COUNT, (lks_activation)kind, 0.01};
        check_call call = {.kind = LKS_OP_ELTWISE,
                           .desc = &desc,
                           .max_batch = 1,
                           .batch = 1,
                           .x_count = COUNT,
                           .y_count = COUNT,
                           .forward_only = true};
        check_call_fill(&call, 3);
        call.x[3] = NAN;
        call.x[4] = INFINITY;
        call.x[5] = 300.0f;
        call.x[6] = -300.0f;
        check_ok(check_call_run(*state, &call));
        assert_true(isnan(call.y[3]));
        const bool bounded = kind == LKS_ACTIVATION_TANH || kind == LKS_ACTIVATION_SIGMOID;
        assert_true(bounded ? call.y[4] == 1.0f : isinf(call.y[4]));
        assert_true(call.y[5] == (bounded ? 1.0f : 300.0f));
        double slope;
        assert_float_equal(call.y[6], reference_activation(&desc, -300, &slope), 1e-4);
        check_call_free(&call);
    }
}

/* ---- dropout ---- */

static const int64_t dropout_step = INT64_C(5000000000);

static void dropout_case(lks_device *device, int64_t count, int64_t batch, double p,
                         int64_t first_row, bool training) {
    const lks_dropout_desc desc = {count, p, lks_philox_key_make(42, LKS_RANDOM_DROPOUT, 3)};
    const int64_t all = batch * count;
    check_call call = {.kind = LKS_OP_DROPOUT,
                       .desc = &desc,
                       .max_batch = batch + 1,
                       .batch = batch,
                       .x_count = count,
                       .y_count = count,
                       .training = training,
                       .step = dropout_step,
                       .first_row = first_row};
    check_call_fill(&call, 5);
    check_ok(check_call_run(device, &call));
    const float scale = (float)(1 / (1 - p));
    for (int64_t i = 0; i < all; i++) {
        const int64_t sample = first_row + i / count, element = i % count;
        const lks_philox_block block = lks_philox(
            desc.key, (uint64_t)(element / 4 + sample * ((count + 3) / 4)), UINT64_C(5000000000));
        const bool keep = (double)lks_philox_uniform(block.word[element % 4]) >= p;
        const float y = !training ? call.x[i] : (keep ? check_rounded(call.x[i] * scale) : 0.0f);
        const float dx = !training ? call.dy[i] : (keep ? check_rounded(call.dy[i] * scale) : 0.0f);
        if (call.y[i] != y || call.dx[i] != dx)
            fail_msg("count %lld p %g: element %lld is %.9g and %.9g, expected %.9g and %.9g",
                     (long long)count, p, (long long)i, (double)call.y[i], (double)call.dx[i],
                     (double)y, (double)dx);
    }
    check_call_threads(device, &call);
    check_call_free(&call);
}

static void test_dropout(void **state) {
    const int64_t counts[] = {1, 4, 5, 63, 64, 65, 130, 256, 8191, 8192};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        dropout_case(*state, counts[c], 0, 0.5, 0, true);
        dropout_case(*state, counts[c], 1, 0.1, 0, true);
        dropout_case(*state, counts[c], 3, 0.5, 17, true);
        dropout_case(*state, counts[c], 3, 0.5, 17, false);
    }
    dropout_case(*state, 40, 7, 0.0, 0, true);
    dropout_case(*state, 40, 7, 1.0, 0, true);
    dropout_case(*state, 40, 7, 0x1p-24, 0, true);
    /* a word on the very edge: its uniform is just below p, and its lower bits are all set */
    uint64_t at = 0;
    const lks_philox_key key = lks_philox_key_make(42, LKS_RANDOM_DROPOUT, 3);
    while ((lks_philox(key, at, dropout_step).word[0] & 0xff) != 0xff)
        at++;
    const double edge = (double)lks_philox_uniform(lks_philox(key, at, dropout_step).word[0]);
    dropout_case(*state, 4, (int64_t)at + 1, edge + 0x1p-25, 0, true);
    dropout_case(*state, 4, (int64_t)at + 1, edge, 0, true);
    /* counters beyond 32 bits */
    dropout_case(*state, 40, 5, 0.3, INT64_C(0x100000000) / 10 - 2, true);
    dropout_case(*state, 41, 5, 0.3, INT64_C(0x300000000), true);
}

/* ---- layouts ---- */

static void relayout_case(lks_device *device, lks_relayout_desc desc, int64_t batch) {
    const int64_t count = desc.channels * desc.spatial, all = batch * count;
    check_call call = {.kind = LKS_OP_RELAYOUT,
                       .desc = &desc,
                       .max_batch = batch + 1,
                       .batch = batch,
                       .x_count = count,
                       .y_count = count};
    check_call_fill(&call, 9);
    check_ok(check_call_run(device, &call));
    const bool last[] = {desc.from == LKS_LAYOUT_CHANNELS_LAST,
                         desc.to == LKS_LAYOUT_CHANNELS_LAST};
    for (int64_t i = 0; i < all; i++) {
        const int64_t base = i / count * count, c = i % count / desc.spatial,
                      s = i % count % desc.spatial;
        int64_t at[2];
        for (int end = 0; end < 2; end++)
            at[end] = base + (last[end] ? s * desc.channels + c : c * desc.spatial + s);
        assert_true(call.y[at[1]] == call.x[at[0]]);
        assert_true(call.dx[at[0]] == call.dy[at[1]]);
    }
    check_call_threads(device, &call);
    check_call_free(&call);
}

static void test_relayout(void **state) {
    const int64_t sizes[][2] = {{1, 1},   {1, 37},  {37, 1},   {3, 1024}, {16, 16},  {17, 31},
                                {64, 49}, {33, 64}, {128, 96}, {5, 3},    {2, 20000}};
    const lks_layout layouts[] = {LKS_LAYOUT_ROWS, LKS_LAYOUT_CHANNELS_LAST};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int64_t batch = 0; batch <= 3; batch += batch ? 2 : 1)
            for (int ends = 0; ends < 4; ends++)
                relayout_case(*state,
                              (lks_relayout_desc){sizes[i][0], sizes[i][1], layouts[ends & 1],
                                                  layouts[ends >> 1]},
                              batch);
    for (int64_t n = 1; n <= CHECK_NARROW; n++)
        relayout_case(
            *state,
            (lks_relayout_desc){n, CHECK_NARROW + 1 - n, LKS_LAYOUT_ROWS, LKS_LAYOUT_CHANNELS_LAST},
            2);
}

/* ---- add and fork ---- */

static const int64_t add_counts[] = {1, 31, 20011};

static void add_case(lks_device *device, int64_t count, int64_t batch, bool relu, int without) {
    lks_add_desc desc = {.count = count};
    if (relu) assert_true(lks_op_fuse(device, LKS_OP_ADD, &desc, LKS_ACTIVATION_RELU));
    check_call call = {.kind = LKS_OP_ADD,
                       .desc = &desc,
                       .max_batch = batch + 1,
                       .batch = batch,
                       .x_count = count,
                       .y_count = count,
                       .has_x2 = true,
                       .without_dx = without == 1,
                       .without_dx2 = without == 2};
    check_call_fill(&call, 13);
    if (batch > 0) call.x[0] = NAN;
    check_ok(check_call_run(device, &call));
    for (int64_t e = 0; e < batch * count; e++) {
        const float sum = check_rounded(call.x[e] + call.x2[e]);
        const float dy = relu && sum <= 0 ? 0 : call.dy[e];
        if (isnan(sum))
            assert_true(isnan(call.y[e]));
        else
            assert_true(call.y[e] == (relu && sum <= 0 ? 0 : sum));
        if (call.dx) assert_true(call.dx[e] == dy);
        if (call.dx2) assert_true(call.dx2[e] == dy);
    }
    check_call_threads(device, &call);
    check_call_free(&call);
}

static void test_add(void **state) {
    for (size_t i = 0; i < sizeof add_counts / sizeof *add_counts; i++)
        for (int64_t batch = 0; batch <= 3; batch += batch ? 2 : 1)
            for (int relu = 0; relu < 2; relu++)
                add_case(*state, add_counts[i], batch, relu, 0);
    for (int without = 1; without <= 2; without++)
        for (int relu = 0; relu < 2; relu++)
            add_case(*state, 67, 2, relu, without);
}

/* dx = dy + dy2, into memory of its own or over dy. */
static void fork_case(lks_device *device, int64_t count, int64_t batch, bool in_place) {
    const lks_add_desc desc = {.count = count};
    const int64_t all = batch * count;
    float *a = check_random(1, all, -1, 1), *b = check_random(2, all, -1, 1);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_op *op = NULL;
    check_ok(lks_op_create(device, LKS_OP_FORK, &desc, batch, &op));
    assert_true(lks_op_get_needs(op)->backward_in_place);
    void *dy = check_upload_elements(device, a, all);
    void *dy2 = check_upload_elements(device, b, all);
    void *dx = in_place ? dy : check_upload_elements(device, b, all);
    void *scratch = check_device_copy(device, NULL, lks_op_get_needs(op)->scratch_bytes);
    const lks_op_args args = {.batch = batch, .dy = dy, .dy2 = dy2, .dx = dx, .scratch = scratch};
    check_ok(lks_op_forward(op, stream, &args));
    check_ok(lks_op_backward(op, stream, &args));
    float *got = check_download_elements(device, dx, all);
    for (int64_t e = 0; e < all; e++)
        assert_true(got[e] == check_rounded(check_rounded(a[e]) + check_rounded(b[e])));
    free(got);
    lks_device_free(device, scratch);
    if (!in_place) lks_device_free(device, dx);
    lks_device_free(device, dy);
    lks_device_free(device, dy2);
    lks_op_destroy(op);
    free(a);
    free(b);
}

static void test_fork(void **state) {
    for (int in_place = 0; in_place < 2; in_place++)
        for (size_t i = 0; i < sizeof add_counts / sizeof *add_counts; i++)
            fork_case(*state, add_counts[i], 3, in_place);
}

/* More than a device widens to float32 at a time: the CPU's matter alone. */
static void test_many_samples(void **state) {
    if (strcmp(lks_device_kind(*state), "cpu") != 0) return;
    dropout_case(*state, 30011, 14, 0.5, 17, true);
    add_case(*state, 30011, 14, true, 0);
    fork_case(*state, 30011, 14, false);
}

/* ---- refusals ---- */

static void expect_refused(lks_device *device, lks_op_kind kind, const void *desc,
                           lks_status want) {
    lks_op *op = NULL;
    assert_int_equal(lks_op_create(device, kind, desc, 1, &op), want);
    assert_null(op);
    assert_true(strlen(lks_last_error()) > 0);
}

static void test_bad_descriptions(void **state) {
    const lks_dropout_desc negative = {4, -0.5, {{0, 0}}}, above = {4, 1.5, {{0, 0}}},
                           nan = {4, (double)NAN, {{0, 0}}};
    const lks_softmax_desc empty = {1, 0, 1};
    const lks_relayout_desc none = {0, 4, LKS_LAYOUT_ROWS, LKS_LAYOUT_CHANNELS_LAST};
    const lks_eltwise_desc unknown = {4, (lks_activation)99, 0};
    const lks_add_desc tanh_of_sum = {4, LKS_ACTIVATION_TANH};
    expect_refused(*state, LKS_OP_DROPOUT, &negative, LKS_EINVAL);
    expect_refused(*state, LKS_OP_DROPOUT, &above, LKS_EINVAL);
    expect_refused(*state, LKS_OP_DROPOUT, &nan, LKS_EINVAL);
    expect_refused(*state, LKS_OP_SOFTMAX, &empty, LKS_EINVAL);
    expect_refused(*state, LKS_OP_RELAYOUT, &none, LKS_EINVAL);
    expect_refused(*state, LKS_OP_ELTWISE, &unknown, LKS_EUNSUPPORTED);
    expect_refused(*state, LKS_OP_ADD, &tanh_of_sum, LKS_EUNSUPPORTED);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_eltwise),
        cmocka_unit_test(test_eltwise_relative_error),
        cmocka_unit_test(test_eltwise_not_finite),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_relayout),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_many_samples),
        cmocka_unit_test(test_bad_descriptions),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
