/* Optimizer updates, against plain loops in double and numbers from PyTorch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/update_cases.h"

/* Three steps in float32: some units of 2^-24 = 6e-8 of the largest operand. */
static const double tolerance = 1e-6;

/* ---- the reference: one element, one step, after the documentation of torch.optim ---- */

static void reference_sgd(const update_case *c, int step, double g, double *p, double *buffer) {
    if (c->momentum != 0) {
        *buffer = step == 1 ? g : c->momentum * *buffer + (1 - c->dampening) * g;
        g = c->nesterov ? g + c->momentum * *buffer : *buffer;
    }
    *p -= c->lr * g;
}

static void reference_adam(const update_case *c, int step, double g, double *p, double state[]) {
    if (c->decoupled) *p -= c->lr * c->weight_decay * *p;
    state[0] = c->beta1 * state[0] + (1 - c->beta1) * g;
    state[1] = c->beta2 * state[1] + (1 - c->beta2) * g * g;
    state[2] = fmax(state[2], state[1]);
    const double mean = state[0] / (1 - pow(c->beta1, step));
    const double square = (c->amsgrad ? state[2] : state[1]) / (1 - pow(c->beta2, step));
    *p -= c->lr * mean / (sqrt(square) + c->eps);
}

static void reference_rmsprop(const update_case *c, double g, double *p, double state[]) {
    double *buffer = &state[1], *mean = &state[c->momentum != 0 ? 2 : 1];
    state[0] = c->alpha * state[0] + (1 - c->alpha) * g * g;
    double variance = state[0];
    if (c->centered) {
        *mean = c->alpha * *mean + (1 - c->alpha) * g;
        variance -= *mean * *mean;
    }
    const double step = g / (sqrt(variance) + c->eps);
    if (c->momentum != 0) *buffer = c->momentum * *buffer + step;
    *p -= c->lr * (c->momentum != 0 ? *buffer : step);
}

static void reference_adagrad(const update_case *c, int step, double g, double *p, double *sum) {
    *sum += g * g;
    *p -= c->lr / (1 + (step - 1) * c->lr_decay) * g / (sqrt(*sum) + c->eps);
}

static void reference_step(const update_case *c, int step, double grad, double *p, double state[]) {
    double g = grad * (c->grad_scale != 0 ? c->grad_scale : 1);
    g /= c->divisor != 0 ? c->divisor : 1;
    if (c->clip_value > 0) g = fmin(fmax(g, -c->clip_value), c->clip_value);
    if (c->maximize) g = -g;
    if (!c->decoupled) g += c->weight_decay * *p;
    switch (c->kind) {
    case SGD:
        reference_sgd(c, step, g, p, state);
        break;
    case ADAM:
        reference_adam(c, step, g, p, state);
        break;
    case RMSPROP:
        reference_rmsprop(c, g, p, state);
        break;
    case ADAGRAD:
        reference_adagrad(c, step, g, p, state);
        break;
    }
}

/* ---- tests ---- */

static void check_against_reference(lks_device *device, const update_case *c, int64_t count) {
    arrays a = make_arrays(count, 1);
    double *param = check_zeros(count), *state[MAX_STATES];
    for (int i = 0; i < MAX_STATES; i++)
        state[i] = check_zeros(count);
    for (int64_t e = 0; e < count; e++) {
        const double start = c->kind == SGD ? 0 : initial_state(c);
        double p = (double)a.param[e], s[MAX_STATES] = {start, start, start};
        for (int step = 1; step <= STEPS; step++)
            reference_step(c, step, (double)a.grad[step - 1][e], &p, s);
        param[e] = p;
        for (int i = 0; i < MAX_STATES; i++)
            state[i][e] = s[i];
    }
    run_updates(device, c, count, &a, false);
    check_close("param", a.param, param, count, tolerance);
    for (int i = 0; i < state_count(c); i++)
        check_close("state", a.state[i], state[i], count, tolerance);
    free(param);
    for (int i = 0; i < MAX_STATES; i++)
        free(state[i]);
    free_arrays(&a);
}

static void test_against_reference(void **state) {
    const int64_t counts[] = {0, 1, 15, 16, 67, 40009};
    for (int i = 0; i < CASES; i++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            update_case scaled = cases[i];
            check_against_reference(*state, &scaled, counts[c]);
            scaled.grad_scale = 2;
            scaled.divisor = 3;
            check_against_reference(*state, &scaled, counts[c]);
            scaled.clip_value = 0.5; /* most gradients are 2/3 of 0.25 to 1.25 */
            check_against_reference(*state, &scaled, counts[c]);
            scaled.clip_value = (double)INFINITY;
            check_against_reference(*state, &scaled, counts[c]);
        }
}

/* torch.optim of PyTorch 2.15.0 (foreach=False), float32, three steps with the options of `cases`
 * from p[i] = ((29 i) % 31 - 15) / 8 with the gradients ((17 i + 11 step) % 23 - 11) / 16. */
static void test_numbers_of_pytorch(void **state) {
    enum { COUNT = 4 };
    const double golden[CASES][1 + MAX_STATES][COUNT] = {
        {{-1.875, 1.71875, 1.4375, 1.30000007}},
        {{-1.84632957, 1.75494444, 1.53976858, 1.18156135}},
        {{-1.69559169, 1.63620877, 1.37040234, 1.30903566},
         {-0.24232541, 0.476521313, 0.581881464, -0.27902782}},
        {{-1.69791293, 1.59471321, 1.26695609, 1.32616699},
         {-0.105351746, 0.508426726, 0.750605464, -0.287309468}},
        {{-1.85915804, 1.73763192, 1.48740864, 1.26486611},
         {0.0130624995, 0.0278750025, 0.0556250028, -0.0460000038},
         {0.000944367726, 0.000378484488, 0.000476089888, 0.00042930874}},
        {{-1.85568678, 1.73042631, 1.47432637, 1.25775671},
         {-0.041482795, 0.135475233, 0.170165226, -0.0242137685},
         {0.0487904437, 0.0273877215, 0.0346191861, 0.0168168284},
         {0.0487904437, 0.0273877215, 0.0360553637, 0.0168168284}},
        {{-1.88025379, 1.75934994, 1.51344609, 1.2372874},
         {-0.437937498, -0.163625002, -0.100625001, 0.26425001},
         {0.00935906637, 0.00374701549, 0.00471835956, 0.00425912486}},
        {{-1.85356545, 1.73240674, 1.48292065, 1.26109946},
         {0.0130624995, 0.0278750025, 0.0556250028, -0.0460000038},
         {0.000944367726, 0.000378484488, 0.000476089888, 0.00042930874}},
        {{-1.86149061, 1.73669338, 1.48567033, 1.25658762},
         {0.2578125, 0.109375, 0.140625, -0.1875},
         {0.25712502, 0.0930625051, 0.11500001, 0.120250002},
         {0.25712502, 0.0930625051, 0.189062506, 0.120250002}},
        {{-1.85982132, 1.71600521, 1.43648422, 1.27688563},
         {0.0856681913, 0.0407906696, 0.0525741316, 0.0347104594}},
        {{-1.82134545, 1.69714069, 1.44609547, 1.31165755},
         {0.0855507776, 0.0338125005, 0.0429296903, 0.0393203124},
         {0.326645136, 1.88799334, 2.22817349, -2.5606153}},
        {{-1.88010418, 1.76804769, 1.51790357, 1.22784078},
         {0.328968763, 0.105843753, 0.115781263, 0.151781261},
         {-0.346500009, -0.13350001, -0.127499998, 0.223499998}},
        {{-1.78800595, 1.65980124, 1.34506249, 1.30326259},
         {0.0907776579, 0.0514900945, 0.065066427, 0.0320998505},
         {-1.65839863, 3.88208437, 5.9671526, -1.86945462},
         {-0.0367470421, 0.0744880363, 0.0950288624, -0.0114832669}},
        {{-1.84571064, 1.66994333, 1.40905356, 1.35272396},
         {0.9453125, 0.37890625, 0.4765625, 0.4296875}},
        {{-1.88956702, 1.74815834, 1.50550008, 1.16683567},
         {1.31277311, 0.615791917, 0.610473633, 0.848331571}},
    };
    for (int n = 0; n < CASES; n++) {
        arrays a = make_arrays(COUNT, 1);
        for (int i = 0; i < COUNT; i++) {
            a.param[i] = (float)(i * 29 % 31 - 15) / 8;
            for (int step = 0; step < STEPS; step++)
                a.grad[step][i] = (float)((i * 17 + step * 11) % 23 - 11) / 16;
        }
        run_updates(*state, &cases[n], COUNT, &a, false);
        check_close("param", a.param, golden[n][0], COUNT, tolerance);
        for (int i = 0; i < state_count(&cases[n]); i++)
            check_close("state", a.state[i], golden[n][1 + i], COUNT, tolerance);
        free_arrays(&a);
    }
}

/* Sharding and threads are choices of range: each element's bits are its own. */
static void test_any_partition(void **state) {
    enum { COUNT = 50021, CUT = 16403 };
    for (int n = 0; n < CASES; n++) {
        arrays whole = make_arrays(COUNT, 1), parts = make_arrays(COUNT, 1);
        run_updates(*state, &cases[n], COUNT, &whole, false);
        const lks_device_config config = {.kind = "cpu", .threads = 1, .local_size = 1};
        lks_device *other = *state;
        if (lks_device_is_host(*state)) check_ok(lks_device_create(&config, &other));
        for (int64_t begin = 0; begin < COUNT; begin += CUT) {
            const int64_t count = COUNT - begin < CUT ? COUNT - begin : CUT;
            arrays part = {.param = parts.param + begin};
            for (int i = 0; i < STEPS; i++)
                part.grad[i] = parts.grad[i] + begin;
            for (int i = 0; i < MAX_STATES; i++)
                part.state[i] = parts.state[i] + begin;
            run_updates(other, &cases[n], count, &part, false);
        }
        if (other != *state) lks_device_destroy(other);
        assert_memory_equal(parts.param, whole.param, COUNT * sizeof(float));
        for (int i = 0; i < state_count(&cases[n]); i++)
            assert_memory_equal(parts.state[i], whole.state[i], COUNT * sizeof(float));
        free_arrays(&whole);
        free_arrays(&parts);
    }
}

/* The same numbers from device memory give the same bits. */
static void test_numbers_on_the_device(void **state) {
    enum { COUNT = 67 };
    for (int n = 0; n < CASES; n++) {
        update_case c = cases[n];
        c.grad_scale = 0.75;
        arrays by_value = make_arrays(COUNT, 1), on_device = make_arrays(COUNT, 1);
        run_updates(*state, &c, COUNT, &by_value, false);
        run_updates(*state, &c, COUNT, &on_device, true);
        assert_memory_equal(on_device.param, by_value.param, COUNT * sizeof(float));
        for (int i = 0; i < state_count(&c); i++)
            assert_memory_equal(on_device.state[i], by_value.state[i], COUNT * sizeof(float));
        free_arrays(&by_value);
        free_arrays(&on_device);
    }
}

/* A constant gradient has no variance: what rounding leaves of it must not be a negative number
 * under a root. */
static void test_centered_constant_gradient(void **state) {
    enum { COUNT = 64, MANY = 2000 };
    float *param = check_random(1, COUNT, -1, 1), *grad = check_random(2, COUNT, 0.5, 1);
    const double divisor = 1;
    const size_t bytes = COUNT * sizeof(float);
    void *p = check_device_copy(*state, param, bytes), *g = check_device_copy(*state, grad, bytes);
    void *d = check_device_copy(*state, &divisor, sizeof divisor), *s[MAX_STATES];
    const update_case c = {
        .kind = RMSPROP, .lr = 1e-6, .alpha = 0.5, .eps = 1e-3, .centered = true};
    memset(param, 0, bytes);
    for (int i = 0; i < MAX_STATES; i++)
        s[i] = check_device_copy(*state, param, bytes);
    for (int step = 1; step <= MANY; step++) {
        const lks_update update = {.count = COUNT,
                                   .param = p,
                                   .grad = g,
                                   .divisor = d,
                                   .grad_scale = 1,
                                   .lr = c.lr,
                                   .step = step};
        check_ok(update_once(*state, &c, &update, s));
    }
    check_download(*state, param, p, bytes);
    for (int i = 0; i < COUNT; i++)
        assert_true(isfinite(param[i]));
    for (int i = 0; i < MAX_STATES; i++)
        lks_device_free(*state, s[i]);
    lks_device_free(*state, d);
    lks_device_free(*state, g);
    lks_device_free(*state, p);
    free(grad);
    free(param);
}

static void test_refused(void **state) {
    float array[1] = {0};
    const double divisor = 1;
    void *s[MAX_STATES] = {array, array, array}, *nothing[MAX_STATES] = {NULL};
    const lks_update good = {
        .count = 1, .param = array, .grad = array, .divisor = &divisor, .grad_scale = 1, .step = 1};
    for (int n = 0; n < CASES; n++) {
        lks_update bad = good;
        bad.count = -1;
        assert_int_equal(update_once(*state, &cases[n], &bad, s), LKS_EINVAL);
        bad = good;
        bad.divisor = NULL;
        assert_int_equal(update_once(*state, &cases[n], &bad, s), LKS_EINVAL);
        bad = good;
        bad.clip_value = -1;
        assert_int_equal(update_once(*state, &cases[n], &bad, s), LKS_EINVAL);
        bad.clip_value = (double)NAN;
        assert_int_equal(update_once(*state, &cases[n], &bad, s), LKS_EINVAL);
        if (state_count(&cases[n]) > 0)
            assert_int_equal(update_once(*state, &cases[n], &good, nothing), LKS_EINVAL);
    }
}

/* A gradient that is not finite shows in the parameter, and spreads no further. */
static void test_not_finite(void **state) {
    enum { COUNT = 40, AT = 33 };
    for (int n = 0; n < CASES; n++) {
        for (int clipped = 0; clipped <= 1; clipped++) {
            update_case c = cases[n];
            c.clip_value = clipped;
            arrays a = make_arrays(COUNT, 1);
            a.grad[1][AT] = NAN;
            run_updates(*state, &c, COUNT, &a, false);
            for (int i = 0; i < COUNT; i++)
                assert_true(isfinite(a.param[i]) == (i != AT));
            free_arrays(&a);
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference), cmocka_unit_test(test_numbers_of_pytorch),
        cmocka_unit_test(test_any_partition),     cmocka_unit_test(test_numbers_on_the_device),
        cmocka_unit_test(test_not_finite),        cmocka_unit_test(test_centered_constant_gradient),
        cmocka_unit_test(test_refused),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
