/* Batch norm and layer norm against plain loops in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

/* Forward subtracts, scales and adds float32 numbers; backward also cancels the means out of dy,
 * which leaves a few units of 2^-24 of the largest term, here a few times the largest result. */
static const double FORWARD = 1e-6;
static const double BACKWARD = 4e-6;

/* ---- batch norm ---- */

/* Where value i of channel c of sample n lies. */
static int64_t place(const lks_batch_norm_desc *d, int64_t n, int64_t i, int64_t c) {
    return d->layout == LKS_LAYOUT_ROWS ? (n * d->channels + c) * d->spatial + i
                                        : (n * d->spatial + i) * d->channels + c;
}

static check_call batch_norm_call(const lks_batch_norm_desc *d, int64_t max_batch, int64_t batch) {
    return (check_call){
        .kind = LKS_OP_BATCH_NORM,
        .desc = d,
        .max_batch = max_batch,
        .batch = batch,
        .x_count = d->channels * d->spatial,
        .y_count = d->channels * d->spatial,
        .has_x2 = d->adds_x2,
        .params = d->affine ? 2 : 0,
        .param_count = {d->channels, d->channels},
        .buffers = d->track_running_stats ? 2 : 0,
        .buffer_count = {d->channels, d->channels},
        .training = true,
    };
}

/* What is expected; buffers [2][channels], gradients of the parameters [2][channels]. */
typedef struct expected {
    double *y, *dx, *buffer, *dparam;
} expected;

static expected make_expected(int64_t count, int64_t channels) {
    return (expected){check_zeros(count), check_zeros(count), check_zeros(2 * channels),
                      check_zeros(2 * channels)};
}

static void release(expected *e) {
    free(e->y);
    free(e->dx);
    free(e->buffer);
    free(e->dparam);
}

static void moments(const check_call *call, int64_t c, double *mean, double *variance) {
    const lks_batch_norm_desc *d = call->desc;
    const double count = (double)(call->batch * d->spatial);
    *mean = *variance = 0;
    for (int64_t n = 0; n < call->batch; n++)
        for (int64_t i = 0; i < d->spatial; i++)
            *mean += (double)call->x[place(d, n, i, c)] / count;
    for (int64_t n = 0; n < call->batch; n++)
        for (int64_t i = 0; i < d->spatial; i++)
            *variance += pow((double)call->x[place(d, n, i, c)] - *mean, 2) / count;
}

static void channel_backward(const check_call *call, int64_t c, double mean, double variance,
                             bool by_batch, expected *e) {
    const lks_batch_norm_desc *d = call->desc;
    const double count = (double)(call->batch * d->spatial);
    const double invstd = 1 / sqrt(variance + d->eps);
    const double weight = d->affine ? (double)call->param[0][c] : 1;
    double sum = 0, product = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t n = 0; n < call->batch; n++)
            for (int64_t i = 0; i < d->spatial; i++) {
                const int64_t p = place(d, n, i, c);
                const double xhat = ((double)call->x[p] - mean) * invstd;
                const bool off = d->activation == LKS_ACTIVATION_RELU && e->y[p] <= 0;
                const double g = off ? 0 : (double)call->dy[p];
                if (pass == 0) {
                    sum += g;
                    product += g * xhat;
                } else {
                    const double through = by_batch ? (sum + xhat * product) / count : 0;
                    e->dx[p] = weight * invstd * (g - through);
                }
            }
    e->dparam[c] = product;
    e->dparam[d->channels + c] = sum;
}

static void batch_norm_expected(const check_call *call, expected *e) {
    const lks_batch_norm_desc *d = call->desc;
    const double count = (double)(call->batch * d->spatial);
    const double momentum = d->momentum < 0 ? 1 / ((double)call->batches_tracked + 1) : d->momentum;
    const bool by_batch = call->training || !d->track_running_stats;
    for (int64_t c = 0; c < d->channels; c++) {
        double mean, variance;
        moments(call, c, &mean, &variance);
        if (d->track_running_stats) {
            const double old[] = {(double)call->buffer[0][c], (double)call->buffer[1][c]};
            const double new[] = {mean, variance * count / (count - 1)};
            for (int b = 0; b < 2; b++)
                e->buffer[b * d->channels + c] =
                    call->training ? (1 - momentum) * old[b] + momentum * new[b] : old[b];
            if (!by_batch) {
                mean = old[0];
                variance = old[1];
            }
        }
        for (int64_t n = 0; n < call->batch; n++)
            for (int64_t i = 0; i < d->spatial; i++) {
                const int64_t p = place(d, n, i, c);
                double y = ((double)call->x[p] - mean) / sqrt(variance + d->eps);
                if (d->affine) y = y * (double)call->param[0][c] + (double)call->param[1][c];
                if (d->adds_x2) y += (double)call->x2[p];
                e->y[p] = d->activation == LKS_ACTIVATION_RELU && y < 0 ? 0 : y;
            }
        channel_backward(call, c, mean, variance, by_batch, e);
    }
}

/* What reaches the second summand is dy, where the ReLU lets it through. */
static void compare_dx2(const check_call *call, const expected *e) {
    const lks_batch_norm_desc *d = call->desc;
    for (int64_t i = 0; i < call->batch * call->x_count; i++) {
        const bool off = d->activation == LKS_ACTIVATION_RELU && e->y[i] <= 0;
        assert_true(call->dx2[i] == (off ? 0 : call->dy[i]));
    }
}

static void compare(const check_call *call, const expected *e, int64_t width) {
    const int64_t count = call->batch * call->x_count;
    if (call->kind == LKS_OP_BATCH_NORM && call->dx2) compare_dx2(call, e);
    check_close_elements("y", call->y, e->y, count, FORWARD);
    if (call->dx) check_close_elements("dx", call->dx, e->dx, count, BACKWARD);
    for (int i = 0; i < call->buffers; i++)
        check_close(i ? "running_var" : "running_mean", call->buffer[i], e->buffer + i * width,
                    width, FORWARD);
    for (int i = 0; i < call->params && !call->without_dparams; i++)
        if (!call->without_dparam[i])
            check_close(i ? "dbias" : "dweight", call->dparam[i], e->dparam + i * width, width,
                        BACKWARD);
}

/* A value that rounding could move over the kink of a ReLU is no test of anything. */
static void avoid_kinks(check_call *call, const expected *e) {
    for (int64_t i = 0; i < call->batch * call->x_count; i++)
        if (fabs(e->y[i]) < 1e-5) call->dy[i] = 0;
}

static void run_batch_norm(lks_device *device, check_call *call, uint64_t seed, double offset) {
    const lks_batch_norm_desc *d = call->desc;
    check_call_fill(call, seed);
    for (int64_t i = 0; i < call->batch * call->x_count; i++)
        call->x[i] = check_rounded(call->x[i] + (float)offset);
    expected e = make_expected(call->batch * call->x_count, d->channels);
    batch_norm_expected(call, &e);
    avoid_kinks(call, &e);
    batch_norm_expected(call, &e);
    for (int i = 0; i < call->params && call->accumulate; i++)
        for (int64_t c = 0; c < d->channels; c++)
            e.dparam[i * d->channels + c] += (double)call->dparam[i][c];
    check_ok(check_call_run(device, call));
    compare(call, &e, d->channels);
    release(&e);
    check_call_free(call);
}

static const lks_batch_norm_desc norm_cases[] = {
    {.channels = 5, .spatial = 1, .layout = LKS_LAYOUT_CHANNELS_LAST, .momentum = 0.1},
    {.channels = 16, .spatial = 49, .layout = LKS_LAYOUT_CHANNELS_LAST, .momentum = 0.3},
    {.channels = 67, .spatial = 30, .layout = LKS_LAYOUT_CHANNELS_LAST, .momentum = -1},
    {.channels = 3, .spatial = 1111, .layout = LKS_LAYOUT_ROWS, .momentum = 0.1},
    {.channels = 9, .spatial = 7, .layout = LKS_LAYOUT_ROWS, .momentum = -1},
    {.channels = 6, .spatial = 24, .layout = LKS_LAYOUT_ROWS, .momentum = 0.2},
};

static void batch_norm_agrees(void **state) {
    for (size_t c = 0; c < sizeof norm_cases / sizeof *norm_cases; c++)
        for (int variant = 0; variant < 16; variant++) {
            lks_batch_norm_desc d = norm_cases[c];
            d.eps = 1e-5;
            d.activation = variant & 1 ? LKS_ACTIVATION_RELU : LKS_ACTIVATION_NONE;
            d.affine = (variant & 2) != 0;
            d.track_running_stats = (variant & 4) != 0;
            const int64_t most = d.spatial > 1000 ? 3 : 13;
            check_call call = batch_norm_call(&d, most, variant & 2 ? most : most - 1);
            call.training = !(variant & 8);
            call.accumulate = (variant >> 2 & 1) != (variant & 1);
            call.batches_tracked = variant;
            run_batch_norm(*state, &call, 100 * c, 0.3);
        }
}

/* As many channels, or places in a row, as accesses to memory may be wide, and others. */
static void batch_norm_agrees_on_few_channels(void **state) {
    for (int64_t n = 1; n <= CHECK_NARROW; n++)
        for (int rows = 0; rows < 2; rows++) {
            const lks_batch_norm_desc d = {
                .channels = rows ? 3 : n,
                .spatial = rows ? n : 3,
                .layout = rows ? LKS_LAYOUT_ROWS : LKS_LAYOUT_CHANNELS_LAST,
                .eps = 1e-5,
                .momentum = 0.1,
                .affine = true,
                .track_running_stats = true,
                .activation = n % 2 ? LKS_ACTIVATION_RELU : LKS_ACTIVATION_NONE};
            check_call call = batch_norm_call(&d, 13, 13);
            run_batch_norm(*state, &call, (uint64_t)n, 0.3);
        }
}

/* The join of a residual block, and its ReLU, in the same passes: where the device does so. */
static void batch_norm_adds_x2(void **state) {
    for (size_t c = 0; c < sizeof norm_cases / sizeof *norm_cases; c++)
        for (int variant = 0; variant < 12; variant++) {
            lks_batch_norm_desc d = norm_cases[c];
            d.eps = 1e-5;
            d.affine = variant % 4 != 1;
            d.track_running_stats = true;
            if (!lks_op_add(*state, LKS_OP_BATCH_NORM, &d, LKS_ADD_BEHIND)) skip();
            if (variant & 1)
                assert_true(lks_op_fuse(*state, LKS_OP_BATCH_NORM, &d, LKS_ACTIVATION_RELU));
            check_call call = batch_norm_call(&d, 8, d.spatial > 1 ? 2 + variant % 2 : 8);
            call.training = variant % 3 != 2;
            call.accumulate = variant & 2;
            call.without_dx = variant / 4 == 1;
            call.without_dx2 = variant / 4 == 2;
            run_batch_norm(*state, &call, 50 + c, 0.2);
        }
}

/* A sum is fused once, where it stands, and before the activation. */
static void what_adds(void **state) {
    const bool is_gpu = strcmp(lks_device_kind(*state), "cuda") == 0;
    lks_batch_norm_desc norm = norm_cases[1], active = norm_cases[1];
    lks_layer_norm_desc rows = {.width = 8, .rows_per_sample = 1};
    lks_add_desc add = {.count = 8};
    active.activation = LKS_ACTIVATION_RELU;
    assert_false(lks_op_add(*state, LKS_OP_BATCH_NORM, &norm, LKS_ADD_IN_FRONT));
    assert_false(lks_op_add(*state, LKS_OP_BATCH_NORM, &active, LKS_ADD_BEHIND));
    assert_false(lks_op_add(*state, LKS_OP_LAYER_NORM, &rows, LKS_ADD_BEHIND));
    assert_false(lks_op_add(*state, LKS_OP_ADD, &add, LKS_ADD_BEHIND));
    assert_int_equal(lks_op_add(*state, LKS_OP_BATCH_NORM, &norm, LKS_ADD_BEHIND), is_gpu);
    assert_int_equal(lks_op_add(*state, LKS_OP_LAYER_NORM, &rows, LKS_ADD_IN_FRONT), is_gpu);
    assert_int_equal(norm.adds_x2, is_gpu);
    assert_int_equal(rows.adds_x2, is_gpu);
    assert_false(lks_op_add(*state, LKS_OP_BATCH_NORM, &norm, LKS_ADD_BEHIND));
    if (is_gpu) return;
    lks_op *op = NULL;
    norm.adds_x2 = rows.adds_x2 = true;
    assert_int_equal(lks_op_create(*state, LKS_OP_BATCH_NORM, &norm, 2, &op), LKS_EUNSUPPORTED);
    assert_int_equal(lks_op_create(*state, LKS_OP_LAYER_NORM, &rows, 2, &op), LKS_EUNSUPPORTED);
    assert_null(op);
}

static void batch_norm_leaves_out_what_is_not_wanted(void **state) {
    lks_batch_norm_desc d = norm_cases[1];
    d.affine = true;
    d.eps = 1e-3;
    check_call first_layer = batch_norm_call(&d, 4, 4), frozen = batch_norm_call(&d, 4, 4);
    first_layer.without_dx = true;
    run_batch_norm(*state, &first_layer, 1, 0);
    frozen.without_dparams = true;
    run_batch_norm(*state, &frozen, 2, 0);
    for (int i = 0; i < 2; i++) {
        check_call half = batch_norm_call(&d, 4, 4);
        half.without_dparam[i] = true;
        run_batch_norm(*state, &half, 3, 0);
    }
}

/* A mean far from zero must not eat the variance's digits: with x near 1000 and a spread near 1,
 * x itself has 2^-14 left of the spread's digits, and so has y; a variance from sums of squares in
 * float32 would have none. */
static void batch_norm_keeps_digits_far_from_zero(void **state) {
    if (check_precision() == LKS_PRECISION_BF16) skip(); /* it has no digits there to keep */
    for (int layout = 0; layout < 2; layout++) {
        const lks_batch_norm_desc d = {.channels = 8,
                                       .spatial = 64,
                                       .layout =
                                           layout ? LKS_LAYOUT_ROWS : LKS_LAYOUT_CHANNELS_LAST,
                                       .eps = 1e-5,
                                       .momentum = 0.1,
                                       .track_running_stats = true};
        check_call call = batch_norm_call(&d, 16, 16);
        check_call_fill(&call, 3);
        for (int64_t i = 0; i < 16 * call.x_count; i++)
            call.x[i] += 1000;
        expected e = make_expected(16 * call.x_count, d.channels);
        batch_norm_expected(&call, &e);
        check_ok(check_call_run(*state, &call));
        check_close("y", call.y, e.y, 16 * call.x_count, 1e-4);
        check_close("running_var", call.buffer[1], e.buffer + d.channels, d.channels, FORWARD);
        release(&e);
        check_call_free(&call);
    }
}

static void batch_norm_needs_two_values(void **state) {
    lks_batch_norm_desc d = norm_cases[0];
    d.eps = 1e-5;
    d.track_running_stats = true;
    check_call call = batch_norm_call(&d, 4, 1);
    check_call_fill(&call, 4);
    assert_int_equal(check_call_run(*state, &call), LKS_EINVAL);
    assert_non_null(strstr(lks_last_error(), "1 value per channel"));
    check_call_free(&call);
    check_call evaluation = batch_norm_call(&d, 4, 1);
    evaluation.training = false;
    run_batch_norm(*state, &evaluation, 5, 0);
}

static void norms_take_an_empty_batch(void **state) {
    lks_batch_norm_desc d = norm_cases[1];
    d.affine = d.track_running_stats = true;
    check_call call = batch_norm_call(&d, 4, 0);
    call.accumulate = true;
    check_call_fill(&call, 6);
    float *buffer = malloc((size_t)d.channels * sizeof(float));
    float *gradient = malloc((size_t)d.channels * sizeof(float));
    assert_true(buffer && gradient);
    memcpy(buffer, call.buffer[0], (size_t)d.channels * sizeof(float));
    memcpy(gradient, call.dparam[0], (size_t)d.channels * sizeof(float));
    check_ok(check_call_run(*state, &call));
    assert_memory_equal(buffer, call.buffer[0], (size_t)d.channels * sizeof(float));
    assert_memory_equal(gradient, call.dparam[0], (size_t)d.channels * sizeof(float));
    free(buffer);
    free(gradient);
    check_call_free(&call);

    const lks_layer_norm_desc l = {
        .width = 5, .rows_per_sample = 2, .eps = 1e-5, .affine = true, .bias = true};
    check_call layer = {.kind = LKS_OP_LAYER_NORM,
                        .desc = &l,
                        .max_batch = 3,
                        .x_count = 10,
                        .y_count = 10,
                        .params = 2,
                        .param_count = {5, 5},
                        .training = true};
    check_call_fill(&layer, 7);
    check_ok(check_call_run(*state, &layer));
    for (int i = 0; i < 5; i++)
        assert_true(layer.dparam[0][i] == 0 && layer.dparam[1][i] == 0);
    check_call_free(&layer);
}

/* ---- layer norm ---- */

static void layer_norm_expected(const check_call *call, expected *e) {
    const lks_layer_norm_desc *d = call->desc;
    const int64_t width = d->width, rows = call->batch * d->rows_per_sample;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = call->x + r * width, *dy = call->dy + r * width;
        double mean = 0, variance = 0, sum = 0, product = 0;
        for (int64_t i = 0; i < width; i++)
            mean += (double)x[i] / (double)width;
        for (int64_t i = 0; i < width; i++)
            variance += pow((double)x[i] - mean, 2) / (double)width;
        const double invstd = 1 / sqrt(variance + d->eps);
        for (int64_t i = 0; i < width; i++) {
            const double xhat = ((double)x[i] - mean) * invstd;
            const double weight = d->affine ? (double)call->param[0][i] : 1;
            const double bias = d->affine && d->bias ? (double)call->param[1][i] : 0;
            e->y[r * width + i] = xhat * weight + bias;
            e->dparam[i] += (double)dy[i] * xhat;
            e->dparam[width + i] += (double)dy[i];
            sum += (double)dy[i] * weight / (double)width;
            product += (double)dy[i] * weight * xhat / (double)width;
        }
        for (int64_t i = 0; i < width; i++) {
            const double xhat = ((double)x[i] - mean) * invstd;
            const double weight = d->affine ? (double)call->param[0][i] : 1;
            e->dx[r * width + i] = invstd * ((double)dy[i] * weight - sum - xhat * product);
        }
    }
}

static void layer_norm_case(lks_device *device, int64_t width, int variant) {
    const lks_layer_norm_desc d = {.width = width,
                                   .rows_per_sample = variant & 1 ? 11 : 1,
                                   .eps = 1e-5,
                                   .affine = variant >= 2,
                                   .bias = variant >= 4};
    check_call call = {.kind = LKS_OP_LAYER_NORM,
                       .desc = &d,
                       .max_batch = 9,
                       .batch = variant & 1 ? 9 : 5,
                       .x_count = d.width * d.rows_per_sample,
                       .y_count = d.width * d.rows_per_sample,
                       .params = d.bias ? 2 : d.affine,
                       .param_count = {d.width, d.width},
                       .training = true,
                       .accumulate = variant & 1,
                       .without_dx = variant == 4,
                       .without_dparam = {variant == 6, variant == 7}};
    check_call_fill(&call, 1000 + (uint64_t)width);
    expected e = make_expected(call.batch * call.x_count, d.width);
    layer_norm_expected(&call, &e);
    for (int i = 0; i < call.params && call.accumulate; i++)
        for (int64_t j = 0; j < d.width; j++)
            e.dparam[i * d.width + j] += (double)call.dparam[i][j];
    check_ok(check_call_run(device, &call));
    compare(&call, &e, d.width);
    release(&e);
    check_call_free(&call);
}

static void layer_norm_agrees(void **state) {
    static const int64_t width[] = {1, 3, 16, 61, 300, 1036, 1038, 1040, 1101};
    for (size_t c = 0; c < sizeof width / sizeof *width; c++)
        for (int variant = 0; variant < 8; variant++)
            layer_norm_case(*state, width[c], variant);
}

/* Of two numbers everything cancels, and what remains is rounding. */
static void layer_norm_agrees_on_narrow_rows(void **state) {
    for (int64_t width = 3; width <= CHECK_NARROW; width++)
        layer_norm_case(*state, width, 5);
}

/* The norm of x + x2, a sum that is rounded as an addition of its own would: where the device does
 * so. */
static void layer_norm_adds_x2(void **state) {
    static const int64_t width[] = {3, 16, 61, 1036, 1101};
    for (size_t c = 0; c < sizeof width / sizeof *width; c++)
        for (int variant = 0; variant < 3; variant++) {
            lks_layer_norm_desc d = {.width = width[c],
                                     .rows_per_sample = 1 + variant,
                                     .eps = 1e-5,
                                     .affine = variant != 1,
                                     .bias = variant != 1};
            if (!lks_op_add(*state, LKS_OP_LAYER_NORM, &d, LKS_ADD_IN_FRONT)) skip();
            check_call call = {.kind = LKS_OP_LAYER_NORM,
                               .desc = &d,
                               .max_batch = 7,
                               .batch = variant ? 5 : 7,
                               .x_count = d.width * d.rows_per_sample,
                               .y_count = d.width * d.rows_per_sample,
                               .has_x2 = true,
                               .params = d.affine ? 2 : 0,
                               .param_count = {d.width, d.width},
                               .training = true,
                               .without_dx = variant == 1,
                               .without_dx2 = variant == 2};
            check_call_fill(&call, 300 + c);
            const int64_t count = call.batch * call.x_count;
            float *x = call.x, *sum = malloc((size_t)count * sizeof *sum);
            assert_non_null(sum);
            for (int64_t i = 0; i < count; i++)
                sum[i] = check_rounded(x[i] + call.x2[i]);
            expected e = make_expected(count, d.width);
            call.x = sum;
            layer_norm_expected(&call, &e);
            call.x = x;
            check_ok(check_call_run(*state, &call));
            compare(&call, &e, d.width);
            if (call.dx2) check_close_elements("dx2", call.dx2, e.dx, count, BACKWARD);
            free(sum);
            release(&e);
            check_call_free(&call);
        }
}

static void norms_refuse(void **state) {
    lks_op *op = NULL;
    lks_batch_norm_desc d = norm_cases[0];
    d.channels = 0;
    assert_int_equal(lks_op_create(*state, LKS_OP_BATCH_NORM, &d, 2, &op), LKS_EINVAL);
    d = norm_cases[0];
    d.eps = NAN;
    assert_int_equal(lks_op_create(*state, LKS_OP_BATCH_NORM, &d, 2, &op), LKS_EINVAL);
    d = norm_cases[0];
    d.activation = LKS_ACTIVATION_SILU;
    assert_int_equal(lks_op_create(*state, LKS_OP_BATCH_NORM, &d, 2, &op), LKS_EUNSUPPORTED);
    const lks_layer_norm_desc l = {.width = 0, .rows_per_sample = 1};
    assert_int_equal(lks_op_create(*state, LKS_OP_LAYER_NORM, &l, 2, &op), LKS_EINVAL);
    assert_null(op);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_norm_agrees),
        cmocka_unit_test(batch_norm_agrees_on_few_channels),
        cmocka_unit_test(batch_norm_adds_x2),
        cmocka_unit_test(what_adds),
        cmocka_unit_test(batch_norm_leaves_out_what_is_not_wanted),
        cmocka_unit_test(batch_norm_keeps_digits_far_from_zero),
        cmocka_unit_test(batch_norm_needs_two_values),
        cmocka_unit_test(norms_take_an_empty_batch),
        cmocka_unit_test(layer_norm_agrees),
        cmocka_unit_test(layer_norm_agrees_on_narrow_rows),
        cmocka_unit_test(layer_norm_adds_x2),
        cmocka_unit_test(norms_refuse),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
