/* Pooling against plain loops in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

/* A window of at most a few hundred float32 numbers in [-1, 1], and a rounded 1 / count. */
static const double TOLERANCE = 1e-6;

typedef struct pool_case {
    lks_pool_kind kind;
    int64_t channels, size[2], kernel[2], stride[2], padding[2], dilation[2];
    bool ceil_mode, count_include_pad;
    int64_t out[2]; /* adaptive */
} pool_case;

static int64_t out_size(const pool_case *c, int i) {
    const int64_t room = c->size[i] + 2 * c->padding[i] - c->dilation[i] * (c->kernel[i] - 1) - 1;
    int64_t out = room / c->stride[i] + 1;
    if (!c->ceil_mode) return out;
    out = (room + c->stride[i] - 1) / c->stride[i] + 1;
    return (out - 1) * c->stride[i] >= c->size[i] + c->padding[i] ? out - 1 : out;
}

static lks_pool2d_desc pool_desc(const pool_case *c) {
    lks_pool2d_desc d = {
        .kind = c->kind, .channels = c->channels, .count_include_pad = c->count_include_pad};
    for (int i = 0; i < 2; i++) {
        d.in_size[i] = c->size[i];
        d.kernel[i] = c->kernel[i];
        d.stride[i] = c->stride[i];
        d.padding[i] = c->padding[i];
        d.dilation[i] = c->dilation[i];
        d.out_size[i] = c->kind == LKS_POOL_ADAPTIVE_AVG ? c->out[i] : out_size(c, i);
    }
    return d;
}

static check_call pool_call(const lks_pool2d_desc *d, int64_t max_batch, int64_t batch) {
    return (check_call){
        .kind = LKS_OP_POOL2D,
        .desc = d,
        .max_batch = max_batch,
        .batch = batch,
        .x_count = d->channels * d->in_size[0] * d->in_size[1],
        .y_count = d->channels * d->out_size[0] * d->out_size[1],
        .training = true,
    };
}

/* Inputs [begin, end) of output o along one axis before clipping, as PyTorch documents them. */
static void window_of(const lks_pool2d_desc *d, int i, int64_t o, int64_t *begin, int64_t *end) {
    if (d->kind == LKS_POOL_ADAPTIVE_AVG) {
        *begin = (int64_t)floor((double)(o * d->in_size[i]) / (double)d->out_size[i]);
        *end = (int64_t)ceil((double)((o + 1) * d->in_size[i]) / (double)d->out_size[i]);
        return;
    }
    const int64_t dilation = d->kind == LKS_POOL_MAX ? d->dilation[i] : 1;
    *begin = o * d->stride[i] - d->padding[i];
    *end = *begin + dilation * (d->kernel[i] - 1) + 1;
    if (d->kind == LKS_POOL_AVG && *end > d->in_size[i] + d->padding[i])
        *end = d->in_size[i] + d->padding[i];
}

/* One output element: forward, then its share of dx. */
static void pool_one(const check_call *call, int64_t n, int64_t c, const int64_t *o, double *y,
                     double *dx) {
    const lks_pool2d_desc *d = call->desc;
    const int64_t step[] = {d->kind == LKS_POOL_MAX ? d->dilation[0] : 1,
                            d->kind == LKS_POOL_MAX ? d->dilation[1] : 1};
    const int64_t to = ((n * d->out_size[0] + o[0]) * d->out_size[1] + o[1]) * d->channels + c;
    int64_t begin[2], end[2], winner = -1, inside = 0;
    double sum = 0, largest = 0;
    for (int i = 0; i < 2; i++)
        window_of(d, i, o[i], &begin[i], &end[i]);
    double divisor = (double)((end[0] - begin[0]) * (end[1] - begin[1]));
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t h = begin[0]; h < end[0]; h += step[0])
            for (int64_t w = begin[1]; w < end[1]; w += step[1]) {
                if (h < 0 || h >= d->in_size[0] || w < 0 || w >= d->in_size[1]) continue;
                const int64_t from =
                    ((n * d->in_size[0] + h) * d->in_size[1] + w) * d->channels + c;
                const double x = (double)call->x[from];
                if (pass == 1 && d->kind != LKS_POOL_MAX)
                    dx[from] += (double)call->dy[to] / divisor;
                if (pass == 1) continue;
                if (winner < 0 || x > largest || isnan(x)) {
                    largest = x;
                    winner = from;
                }
                sum += x;
                inside++;
            }
        if (d->kind == LKS_POOL_AVG && !d->count_include_pad) divisor = (double)inside;
    }
    if (d->kind == LKS_POOL_MAX) dx[winner] += (double)call->dy[to];
    y[to] = d->kind == LKS_POOL_MAX ? largest : sum / divisor;
}

static void pool_expected(const check_call *call, double *y, double *dx) {
    const lks_pool2d_desc *d = call->desc;
    for (int64_t n = 0; n < call->batch; n++)
        for (int64_t h = 0; h < d->out_size[0]; h++)
            for (int64_t w = 0; w < d->out_size[1]; w++)
                for (int64_t c = 0; c < d->channels; c++)
                    pool_one(call, n, c, (int64_t[]){h, w}, y, dx);
}

static void run_pool(lks_device *device, check_call *call, uint64_t seed, bool ties) {
    check_call_fill(call, seed);
    for (int64_t i = 0; i < call->batch * call->x_count && ties; i++)
        call->x[i] = roundf(call->x[i] * 2); /* few values: the first of equals must win */
    double *y = check_zeros(call->batch * call->y_count);
    double *dx = check_zeros(call->batch * call->x_count);
    pool_expected(call, y, dx);
    check_ok(check_call_run(device, call));
    check_close_elements("y", call->y, y, call->batch * call->y_count, TOLERANCE);
    check_close_elements("dx", call->dx, dx, call->batch * call->x_count, TOLERANCE);
    free(y);
    free(dx);
    check_call_free(call);
}

static const pool_case cases[] = {
    {LKS_POOL_MAX, 16, {8, 8}, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 0, 0, {0}},
    {LKS_POOL_MAX, 5, {9, 7}, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 0, 0, {0}},
    {LKS_POOL_MAX, 3, {9, 7}, {3, 2}, {2, 1}, {1, 1}, {1, 1}, 0, 0, {0}},
    {LKS_POOL_MAX, 33, {12, 11}, {3, 3}, {2, 3}, {1, 1}, {2, 3}, 0, 0, {0}},
    {LKS_POOL_MAX, 4, {8, 8}, {3, 3}, {2, 2}, {0, 0}, {1, 1}, true, 0, {0}},
    {LKS_POOL_MAX, 1, {3, 3}, {1, 1}, {2, 2}, {0, 0}, {1, 1}, 0, 0, {0}},
    {LKS_POOL_MAX, 70, {6, 5}, {2, 2}, {2, 1}, {0, 0}, {1, 1}, 0, 0, {0}},
    {LKS_POOL_AVG, 131, {5, 6}, {3, 2}, {1, 2}, {1, 0}, {1, 1}, 0, true, {0}},
    {LKS_POOL_AVG, 16, {8, 8}, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 0, true, {0}},
    {LKS_POOL_AVG, 5, {9, 7}, {3, 2}, {2, 1}, {1, 1}, {1, 1}, 0, true, {0}},
    {LKS_POOL_AVG, 5, {9, 7}, {3, 2}, {2, 1}, {1, 1}, {1, 1}, 0, false, {0}},
    {LKS_POOL_AVG, 2, {8, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, true, {0}},
    {LKS_POOL_AVG, 2, {8, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, false, {0}},
    {LKS_POOL_ADAPTIVE_AVG, 17, {7, 5}, {0}, {0}, {0}, {0}, 0, 0, {1, 1}},
    {LKS_POOL_ADAPTIVE_AVG, 3, {7, 10}, {0}, {0}, {0}, {0}, 0, 0, {3, 4}},
    {LKS_POOL_ADAPTIVE_AVG, 3, {2, 3}, {0}, {0}, {0}, {0}, 0, 0, {5, 7}},
    {LKS_POOL_ADAPTIVE_AVG, 64, {16, 16}, {0}, {0}, {0}, {0}, 0, 0, {4, 4}},
};

static void pool_agrees(void **state) {
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int variant = 0; variant < 4; variant++) {
            const lks_pool2d_desc d = pool_desc(&cases[c]);
            check_call call = pool_call(&d, 5, variant & 1 ? 5 : 3);
            run_pool(*state, &call, 100 * c, (variant & 2) != 0);
        }
}

/* Channels of every kind that accesses to memory may be as wide as. */
static void pool_agrees_with_few_channels(void **state) {
    for (int64_t channels = 1; channels <= CHECK_NARROW; channels++)
        for (int kind = LKS_POOL_MAX; kind <= LKS_POOL_AVG; kind++) {
            const pool_case c = {kind,   channels, {4, 5}, {3, 2}, {2, 1},
                                 {1, 0}, {1, 1},   false,  true,   {0}};
            const lks_pool2d_desc d = pool_desc(&c);
            check_call call = pool_call(&d, 2, 2);
            run_pool(*state, &call, (uint64_t)channels, false);
        }
}

static void max_passes_nan_and_minus_infinity(void **state) {
    const lks_pool2d_desc d = pool_desc(&cases[0]);
    check_call call = pool_call(&d, 1, 1);
    check_call_fill(&call, 1);
    for (int64_t i = 0; i < call.x_count; i++)
        call.x[i] = -INFINITY;
    call.x[(1 * 8 + 0) * 16 + 3] = NAN; /* row 1, column 0, channel 3 */
    call.x[(0 * 8 + 2) * 16 + 5] = NAN; /* the first tap of the second window */
    check_ok(check_call_run(*state, &call));
    for (int64_t i = 0; i < call.y_count; i++)
        if (i == 3 || i == 16 + 5)
            assert_true(isnan(call.y[i]));
        else
            assert_true(isinf(call.y[i]) && call.y[i] < 0);
    assert_true(call.dx[8 * 16 + 3] == call.dy[3]);
    assert_true(call.dx[0] == call.dy[0]); /* all equal: the first tap */
    check_call_free(&call);
}

static void pool_takes_an_empty_batch(void **state) {
    const lks_pool2d_desc d = pool_desc(&cases[0]);
    check_call call = pool_call(&d, 2, 0);
    run_pool(*state, &call, 1, false);
}

static void pool_refuses(void **state) {
    const lks_pool2d_desc good = pool_desc(&cases[0]);
    lks_op *op = NULL;
    lks_pool2d_desc d = good;
    d.stride[1] = 0;
    assert_int_equal(lks_op_create(*state, LKS_OP_POOL2D, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.out_size[0] = 6; /* its last window begins behind the image */
    assert_int_equal(lks_op_create(*state, LKS_OP_POOL2D, &d, 2, &op), LKS_EINVAL);
    d = good;
    d.kernel[0] = d.kernel[1] = 300;
    assert_int_equal(lks_op_create(*state, LKS_OP_POOL2D, &d, 2, &op), LKS_EUNSUPPORTED);
    assert_null(op);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_agrees),
        cmocka_unit_test(pool_agrees_with_few_channels),
        cmocka_unit_test(max_passes_nan_and_minus_infinity),
        cmocka_unit_test(pool_takes_an_empty_batch),
        cmocka_unit_test(pool_refuses),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
