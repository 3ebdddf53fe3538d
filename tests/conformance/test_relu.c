/* ReLU, by itself and fused into an operation: what it lets through, NaN among it, is what
 * PyTorch's does. An operation with it must give what the same operation gives without it, its y
 * cut off at 0 and its dy set to 0 where y <= 0. Small integers keep the sums of products exact
 * with every precision, so that the signs of y are certain. */
#include <math.h>
#include <stdlib.h>

#include "conformance/ops_check.h"

enum { BATCH = 3 };

/* Integers in [-limit, limit]. */
static void fill_integers(uint64_t seed, int64_t count, int limit, float *values) {
    float *random = check_random(seed, count, -limit, limit + 1);
    for (int64_t i = 0; i < count; i++)
        values[i] = floorf(random[i]);
    free(random);
}

/* With NaN in the first sample. */
static void fill(check_call *call) {
    check_call_fill(call, 1);
    fill_integers(2, call->batch * call->x_count, 2, call->x);
    fill_integers(3, call->batch * call->y_count, 3, call->dy);
    for (int i = 0; i < call->params; i++)
        fill_integers(4 + (uint64_t)i, call->param_count[i], 1, call->param[i]);
    call->x[1] = NAN;
}

static void expect_same(const char *what, const float *got, const float *want, int64_t count) {
    for (int64_t i = 0; i < count && got; i++)
        if (got[i] != want[i] && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s[%lld of %lld] is %.9g with ReLU, expected %.9g", what, (long long)i,
                     (long long)count, (double)got[i], (double)want[i]);
}

/* Of y <= 0 the first place in the last sample. */
static int64_t find_blocked(const check_call *call, const float *y) {
    int64_t i = (call->batch - 1) * call->y_count;
    while (i < call->batch * call->y_count && !(y[i] <= 0))
        i++;
    assert_true(i < call->batch * call->y_count);
    return i;
}

/* `plain` and `fused` differ in the description's activation alone. */
static void check_fused(lks_device *device, check_call plain, check_call fused) {
    check_call product = plain;
    product.forward_only = true;
    fill(&product);
    check_ok(check_call_run(device, &product));
    const int64_t y_count = plain.batch * plain.y_count, x_count = plain.batch * plain.x_count;
    float *y = product.y;
    for (int64_t i = 0; i < y_count; i++)
        y[i] = y[i] <= 0 ? 0 : y[i];

    fill(&fused);
    fill(&plain);
    const int64_t blocked = find_blocked(&plain, y);
    fused.dy[blocked] = NAN; /* is replaced, not multiplied by 0 */
    for (int64_t i = 0; i < y_count; i++)
        plain.dy[i] = y[i] <= 0 ? 0 : plain.dy[i];
    check_ok(check_call_run(device, &fused));
    check_ok(check_call_run(device, &plain));
    expect_same("y", fused.y, y, y_count);
    expect_same("dx", fused.dx, plain.dx, x_count);
    expect_same("dx2", fused.dx2, plain.dx2, x_count);
    for (int i = 0; i < plain.params; i++)
        expect_same(i ? "dbias" : "dweight", fused.dparam[i], plain.dparam[i],
                    plain.param_count[i]);
    check_call_free(&product);
    check_call_free(&plain);
    check_call_free(&fused);
}

/* The same operation with ReLU: `fused` is room for its description, a copy of plain's. */
static void check(lks_device *device, const check_call *plain, void *fused) {
    assert_true(lks_op_fuse(device, plain->kind, fused, LKS_ACTIVATION_RELU));
    check_call call = *plain;
    call.desc = fused;
    check_fused(device, *plain, call);
}

static void in_linear(void **state) {
    static const int64_t sizes[][2] = {{16, 24}, {5, 7}, {9, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int variant = 0; variant < 4; variant++) {
            const lks_linear_desc d = {.in_features = sizes[s][0],
                                       .out_features = sizes[s][1],
                                       .rows_per_sample = 1 + 20 * (variant & 1),
                                       .bias = variant < 2};
            const check_call call = {
                .kind = LKS_OP_LINEAR,
                .desc = &d,
                .max_batch = BATCH,
                .batch = BATCH,
                .x_count = d.rows_per_sample * d.in_features,
                .y_count = d.rows_per_sample * d.out_features,
                .params = d.bias ? 2 : 1,
                .param_count = {d.in_features * d.out_features, d.out_features},
                .training = true};
            lks_linear_desc fused = d;
            check(*state, &call, &fused);
        }
}

static void conv_case(lks_device *device, int64_t in, int64_t out, int64_t groups, int64_t kernel,
                      int64_t size, int64_t batch) {
    const int64_t padding = kernel / 2;
    const lks_conv2d_desc d = {.in_channels = in,
                               .out_channels = out,
                               .groups = groups,
                               .in_size = {size, size},
                               .out_size = {size, size},
                               .kernel = {kernel, kernel},
                               .stride = {1, 1},
                               .padding = {padding, padding},
                               .dilation = {1, 1},
                               .bias = true};
    const check_call call = {.kind = LKS_OP_CONV2D,
                             .desc = &d,
                             .max_batch = batch,
                             .batch = batch,
                             .x_count = in * size * size,
                             .y_count = out * size * size,
                             .params = 2,
                             .param_count = {out * (in / groups) * kernel * kernel, out},
                             .training = true};
    lks_conv2d_desc fused = d;
    check(device, &call, &fused);
}

static void in_conv2d(void **state) {
    conv_case(*state, 3, 5, 1, 3, 6, BATCH);
    conv_case(*state, 8, 24, 1, 1, 5, BATCH); /* a product of the pixels */
    conv_case(*state, 6, 10, 2, 3, 7, BATCH);
    conv_case(*state, 16, 16, 16, 3, 7, BATCH); /* every channel by itself */
    conv_case(*state, 16, 32, 1, 3, 16, BATCH); /* Winograd's method on the CPU, */
    if (lks_device_is_host(*state)) conv_case(*state, 48, 48, 1, 3, 32, 4); /* and in bfloat16 */
}

static void in_batch_norm(void **state) {
    for (int variant = 0; variant < 16; variant++) {
        const lks_batch_norm_desc d = {
            .channels = variant & 1 ? 24 : 5,
            .spatial = 9,
            .layout = variant & 2 ? LKS_LAYOUT_ROWS : LKS_LAYOUT_CHANNELS_LAST,
            .eps = 1e-5,
            .momentum = 0.1,
            .affine = true,
            .track_running_stats = true,
        };
        lks_batch_norm_desc sum = d;
        const bool adds =
            variant & 8 && lks_op_add(*state, LKS_OP_BATCH_NORM, &sum, LKS_ADD_BEHIND);
        const check_call call = {.kind = LKS_OP_BATCH_NORM,
                                 .desc = adds ? &sum : &d,
                                 .max_batch = BATCH,
                                 .batch = BATCH,
                                 .x_count = d.channels * d.spatial,
                                 .y_count = d.channels * d.spatial,
                                 .has_x2 = adds,
                                 .params = 2,
                                 .param_count = {d.channels, d.channels},
                                 .buffers = 2,
                                 .buffer_count = {d.channels, d.channels},
                                 .training = (variant & 4) != 0};
        lks_batch_norm_desc fused = adds ? sum : d;
        check(*state, &call, &fused);
    }
}

static void in_add(void **state) {
    static const int64_t counts[] = {1031, 2048};
    for (int c = 0; c < 2; c++) {
        const lks_add_desc d = {.count = counts[c]};
        const check_call call = {.kind = LKS_OP_ADD,
                                 .desc = &d,
                                 .max_batch = BATCH,
                                 .batch = BATCH,
                                 .x_count = d.count,
                                 .y_count = d.count,
                                 .has_x2 = true};
        lks_add_desc fused = d;
        check(*state, &call, &fused);
    }
}

static void by_itself(void **state) {
    static const int64_t counts[] = {1031, 2048};
    for (int c = 0; c < 2; c++) {
        const lks_eltwise_desc d = {.count = counts[c]}, relu = {counts[c], LKS_ACTIVATION_RELU, 0};
        const check_call call = {.kind = LKS_OP_ELTWISE,
                                 .desc = &d,
                                 .max_batch = BATCH,
                                 .batch = BATCH,
                                 .x_count = d.count,
                                 .y_count = d.count};
        check_call fused = call;
        fused.desc = &relu;
        check_fused(*state, call, fused);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_linear), cmocka_unit_test(in_conv2d), cmocka_unit_test(in_batch_norm),
        cmocka_unit_test(in_add),    cmocka_unit_test(by_itself),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
