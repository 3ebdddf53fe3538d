/* Optimizer updates, against plain loops in double and numbers from PyTorch. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Three steps in float32: some units of 2^-24 = 6e-8 of the largest operand. */
static const double tolerance = 1e-6;

enum { STEPS = 3, MAX_STATES = 3 };

/* The options of both optimizers; is_adam says which are meant. */
typedef struct update_case {
    bool is_adam;
    double lr, weight_decay;
    bool maximize;
    double momentum, dampening;
    bool nesterov;
    double beta1, beta2, eps;
    bool decoupled, amsgrad;
    double grad_scale, divisor;
} update_case;

static const update_case cases[] = {
    {.lr = 0.1},
    {.lr = 0.1, .weight_decay = 0.05, .maximize = true},
    {.lr = 0.1, .momentum = 0.9, .dampening = 0.25, .weight_decay = 0.05},
    {.lr = 0.1, .momentum = 0.9, .nesterov = true, .weight_decay = 0.05},
    {.is_adam = true, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
    {.is_adam = true,
     .lr = 0.01,
     .beta1 = 0.8,
     .beta2 = 0.95,
     .eps = 1e-6,
     .weight_decay = 0.1,
     .amsgrad = true},
    {.is_adam = true, .lr = 0.01, .beta1 = 0.3, .beta2 = 0.99, .eps = 1e-8, .maximize = true},
    {.is_adam = true,
     .lr = 0.01,
     .beta1 = 0.9,
     .beta2 = 0.999,
     .eps = 1e-8,
     .weight_decay = 0.1,
     .decoupled = true},
    {.is_adam = true,
     .lr = 0.01,
     .beta1 = 0.5,
     .beta2 = 0.6,
     .eps = 0.1,
     .weight_decay = 0.1,
     .decoupled = true,
     .amsgrad = true},
};
enum { CASES = sizeof cases / sizeof *cases };

static int state_count(const update_case *c) {
    if (c->is_adam) return c->amsgrad ? 3 : 2;
    return c->momentum != 0;
}

/* STEPS steps over count elements; grad[step] and state[i] are [count]. State starts at zero, but
 * SGD's at NaN, as its first step must not read it. */
static void run_updates(lks_device *device, const update_case *c, int64_t count, float *param,
                        float *const grad[STEPS], float *state[MAX_STATES]) {
    const size_t bytes = (size_t)count * sizeof(float);
    const double divisor = c->divisor != 0 ? c->divisor : 1;
    void *p = check_device_copy(device, param, bytes), *g = check_device_copy(device, NULL, bytes);
    void *d = check_device_copy(device, &divisor, sizeof divisor), *s[MAX_STATES] = {NULL};
    for (int i = 0; i < state_count(c); i++) {
        for (int64_t e = 0; e < count; e++)
            state[i][e] = c->is_adam ? 0.0f : NAN;
        s[i] = check_device_copy(device, state[i], bytes);
    }
    for (int step = 0; step < STEPS; step++) {
        lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
        const lks_update update = {.count = count,
                                   .param = p,
                                   .grad = g,
                                   .divisor = d,
                                   .grad_scale = c->grad_scale != 0 ? c->grad_scale : 1,
                                   .lr = c->lr,
                                   .weight_decay = c->weight_decay,
                                   .maximize = c->maximize,
                                   .step = step + 1};
        const lks_sgd_update sgd = {c->momentum, c->dampening, c->nesterov, s[0]};
        const lks_adam_update adam = {c->beta1, c->beta2, c->eps, c->decoupled, s[0], s[1], s[2]};
        check_upload(device, g, grad[step], bytes);
        check_ok(c->is_adam ? lks_device_adam(device, stream, &update, &adam)
                            : lks_device_sgd(device, stream, &update, &sgd));
        check_ok(lks_stream_synchronize(stream));
    }
    check_download(device, param, p, bytes);
    for (int i = 0; i < state_count(c); i++) {
        check_download(device, state[i], s[i], bytes);
        lks_device_free(device, s[i]);
    }
    lks_device_free(device, p);
    lks_device_free(device, g);
    lks_device_free(device, d);
}

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

static void reference_step(const update_case *c, int step, double grad, double *p, double state[]) {
    double g = grad * (c->grad_scale != 0 ? c->grad_scale : 1);
    g /= c->divisor != 0 ? c->divisor : 1;
    if (c->maximize) g = -g;
    if (!c->decoupled) g += c->weight_decay * *p;
    if (c->is_adam)
        reference_adam(c, step, g, p, state);
    else
        reference_sgd(c, step, g, p, state);
}

/* ---- operands ---- */

typedef struct arrays {
    float *param, *grad[STEPS], *state[MAX_STATES];
} arrays;

/* Gradients keep away from 0, around which Adam's step is a jump that magnifies any rounding. */
static arrays make_arrays(int64_t count, uint64_t seed) {
    arrays a = {.param = check_random(seed, count, -1, 1)};
    for (int i = 0; i < STEPS; i++) {
        a.grad[i] = check_random(seed + 1 + (uint64_t)i, count, -1, 1);
        for (int64_t e = 0; e < count; e++)
            a.grad[i][e] += copysignf(0.25f, a.grad[i][e]);
    }
    for (int i = 0; i < MAX_STATES; i++)
        a.state[i] = check_random(0, count, 0, 1);
    return a;
}

static void free_arrays(arrays *a) {
    free(a->param);
    for (int i = 0; i < STEPS; i++)
        free(a->grad[i]);
    for (int i = 0; i < MAX_STATES; i++)
        free(a->state[i]);
}

/* ---- tests ---- */

static void check_against_reference(lks_device *device, const update_case *c, int64_t count) {
    arrays a = make_arrays(count, 1);
    double *param = check_zeros(count), *state[MAX_STATES];
    for (int i = 0; i < MAX_STATES; i++)
        state[i] = check_zeros(count);
    for (int64_t e = 0; e < count; e++) {
        double p = (double)a.param[e], s[MAX_STATES] = {0};
        for (int step = 1; step <= STEPS; step++)
            reference_step(c, step, (double)a.grad[step - 1][e], &p, s);
        param[e] = p;
        for (int i = 0; i < MAX_STATES; i++)
            state[i][e] = s[i];
    }
    run_updates(device, c, count, a.param, a.grad, a.state);
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
    };
    for (int n = 0; n < CASES; n++) {
        arrays a = make_arrays(COUNT, 1);
        for (int i = 0; i < COUNT; i++) {
            a.param[i] = (float)(i * 29 % 31 - 15) / 8;
            for (int step = 0; step < STEPS; step++)
                a.grad[step][i] = (float)((i * 17 + step * 11) % 23 - 11) / 16;
        }
        run_updates(*state, &cases[n], COUNT, a.param, a.grad, a.state);
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
        run_updates(*state, &cases[n], COUNT, whole.param, whole.grad, whole.state);
        const lks_device_config config = {.kind = "cpu", .threads = 1, .local_size = 1};
        lks_device *other = *state;
        if (lks_device_is_host(*state)) check_ok(lks_device_create(&config, &other));
        for (int64_t begin = 0; begin < COUNT; begin += CUT) {
            const int64_t count = COUNT - begin < CUT ? COUNT - begin : CUT;
            float *grad[STEPS], *states[MAX_STATES];
            for (int i = 0; i < STEPS; i++)
                grad[i] = parts.grad[i] + begin;
            for (int i = 0; i < MAX_STATES; i++)
                states[i] = parts.state[i] + begin;
            run_updates(other, &cases[n], count, parts.param + begin, grad, states);
        }
        if (other != *state) lks_device_destroy(other);
        assert_memory_equal(parts.param, whole.param, COUNT * sizeof(float));
        for (int i = 0; i < state_count(&cases[n]); i++)
            assert_memory_equal(parts.state[i], whole.state[i], COUNT * sizeof(float));
        free_arrays(&whole);
        free_arrays(&parts);
    }
}

/* A gradient that is not finite shows in the parameter, and spreads no further. */
static void test_not_finite(void **state) {
    enum { COUNT = 40, AT = 33 };
    for (int n = 0; n < CASES; n++) {
        arrays a = make_arrays(COUNT, 1);
        a.grad[1][AT] = NAN;
        run_updates(*state, &cases[n], COUNT, a.param, a.grad, a.state);
        for (int i = 0; i < COUNT; i++)
            assert_true(isfinite(a.param[i]) == (i != AT));
        free_arrays(&a);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_numbers_of_pytorch),
        cmocka_unit_test(test_any_partition),
        cmocka_unit_test(test_not_finite),
    };
    return check_on_every_device(tests, sizeof tests / sizeof *tests);
}
