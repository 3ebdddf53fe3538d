/* Losses, their gradients and sums, against plain loops in double and numbers from PyTorch. */
#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A term of float32 has an error of some 2^-24 = 6e-8, and sums are float64. */
static const double tolerance = 1e-6;

/* One call: operands in host memory, results of run_loss. */
typedef struct loss_case {
    lks_loss_desc desc;
    int64_t batch;
    float *logits;
    float *values;   /* targets of regressions and bce */
    int32_t *labels; /* targets of cross-entropy */
    float *dlogits;
    double sums[LKS_LOSS_SUM_COUNT];
} loss_case;

static const lks_loss_desc every_loss[] = {
    {.kind = LKS_LOSS_CROSS_ENTROPY, .ignore_index = -100},
    {.kind = LKS_LOSS_CROSS_ENTROPY, .ignore_index = 1, .label_smoothing = 0.1},
    {.kind = LKS_LOSS_MSE},
    {.kind = LKS_LOSS_L1},
    {.kind = LKS_LOSS_HUBER, .delta = 0.75},
    {.kind = LKS_LOSS_BCE_WITH_LOGITS},
};
enum { LOSSES = sizeof every_loss / sizeof *every_loss };

static loss_case make_case(lks_loss_desc desc, int64_t batch, int64_t width) {
    const int64_t count = batch * width;
    loss_case c = {.desc = desc, .batch = batch};
    c.desc.width = width;
    c.logits = check_random(1, count, -4, 4);
    c.dlogits = check_random(2, count, 0, 1);
    if (desc.kind == LKS_LOSS_CROSS_ENTROPY) {
        float *random = check_random(3, batch, 0, (double)width);
        c.labels = calloc((size_t)batch + 1, sizeof *c.labels);
        assert_non_null(c.labels);
        for (int64_t i = 0; i < batch; i++)
            c.labels[i] = i % 7 == 3 ? (int32_t)desc.ignore_index : (int32_t)random[i];
        free(random);
    } else {
        c.values = check_random(3, count, -4, 4);
        for (int64_t i = 0; i < count && desc.kind == LKS_LOSS_BCE_WITH_LOGITS; i++)
            c.values[i] = 0.125f * fabsf(c.values[i]) + 0.25f;
    }
    return c;
}

static void free_case(loss_case *c) {
    free(c->logits);
    free(c->values);
    free(c->labels);
    free(c->dlogits);
}

typedef enum gradient { GRADIENT, GRADIENT_IN_PLACE, NO_GRADIENT } gradient;

/* Adds to c->sums; with a gradient fills c->dlogits. */
static void run_loss(lks_device *device, loss_case *c, gradient gradient) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const size_t bytes = (size_t)(c->batch * c->desc.width) * sizeof(float);
    void *logits = check_device_copy(device, c->logits, bytes);
    void *dlogits = check_device_copy(device, NULL, bytes);
    void *targets = c->labels
                        ? check_device_copy(device, c->labels, (size_t)c->batch * sizeof(int32_t))
                        : check_device_copy(device, c->values, bytes);
    void *sums = check_device_copy(device, c->sums, sizeof c->sums);
    void *to[] = {dlogits, logits, NULL};
    check_ok(
        lks_device_loss(device, stream, &c->desc, c->batch, logits, targets, to[gradient], sums));
    check_download(device, c->sums, sums, sizeof c->sums);
    if (to[gradient]) check_download(device, c->dlogits, to[gradient], bytes);
    lks_device_free(device, logits);
    lks_device_free(device, dlogits);
    lks_device_free(device, targets);
    lks_device_free(device, sums);
}

/* ---- the reference ---- */

static void reference_classes(const loss_case *c, double *gradient, double *sums) {
    const int64_t width = c->desc.width;
    const double smoothing = c->desc.label_smoothing;
    for (int64_t s = 0; s < c->batch; s++) {
        const float *x = c->logits + s * width;
        const int32_t target = c->labels[s];
        double max = -INFINITY, sum = 0;
        int64_t best = 0;
        if (target == c->desc.ignore_index) continue;
        for (int64_t i = 0; i < width; i++)
            if ((double)x[i] > max) max = (double)x[best = i];
        for (int64_t i = 0; i < width; i++)
            sum += exp((double)x[i] - max);
        for (int64_t i = 0; i < width; i++) {
            const double log_p = (double)x[i] - max - log(sum);
            const double wanted = (i == target) * (1 - smoothing) + smoothing / (double)width;
            gradient[s * width + i] = exp(log_p) - wanted;
            if (wanted > 0) sums[LKS_SUM_LOSS] -= wanted * log_p;
        }
        sums[LKS_SUM_WEIGHT] += 1;
        sums[LKS_SUM_COUNTED] += 1;
        sums[LKS_SUM_CORRECT] += best == target;
    }
}

static double reference_element(const lks_loss_desc *desc, double x, double t, double *slope) {
    const double e = x - t, sign = (e > 0) - (e < 0), p = 1 / (1 + exp(-x));
    switch (desc->kind) {
    case LKS_LOSS_MSE:
        *slope = 2 * e;
        return e * e;
    case LKS_LOSS_L1:
        *slope = sign;
        return fabs(e);
    case LKS_LOSS_HUBER:
        *slope = fabs(e) <= desc->delta ? e : desc->delta * sign;
        return fabs(e) <= desc->delta ? e * e / 2 : desc->delta * (fabs(e) - desc->delta / 2);
    default:
        *slope = p - t;
        return -t * log(p) - (1 - t) * log(1 - p);
    }
}

static void reference_elements(const loss_case *c, double *gradient, double *sums) {
    for (int64_t i = 0; i < c->batch * c->desc.width; i++) {
        const double x = (double)c->logits[i], t = (double)c->values[i];
        sums[LKS_SUM_LOSS] += reference_element(&c->desc, x, t, &gradient[i]);
        sums[LKS_SUM_WEIGHT] += 1;
        if (c->desc.kind != LKS_LOSS_BCE_WITH_LOGITS) continue;
        sums[LKS_SUM_COUNTED] += 1;
        sums[LKS_SUM_CORRECT] += (x > 0) == (t > 0.5);
    }
}

/* ---- tests ---- */

static void check_sums(const loss_case *c, const double *want) {
    const double error = fabs(c->sums[LKS_SUM_LOSS] - want[LKS_SUM_LOSS]);
    if (!(error <= tolerance * fabs(want[LKS_SUM_LOSS])))
        fail_msg("loss %d over %lld x %lld is %.12g, expected %.12g", (int)c->desc.kind,
                 (long long)c->batch, (long long)c->desc.width, c->sums[LKS_SUM_LOSS],
                 want[LKS_SUM_LOSS]);
    for (int i = LKS_SUM_WEIGHT; i < LKS_LOSS_SUM_COUNT; i++)
        assert_true(c->sums[i] == want[i]);
}

/* A gradient is a difference of numbers around 1, whose error is absolute. */
static void check_gradient(const loss_case *c, const double *want) {
    for (int64_t i = 0; i < c->batch * c->desc.width; i++)
        if (!(fabs((double)c->dlogits[i] - want[i]) <= tolerance * fmax(1, fabs(want[i]))))
            fail_msg("loss %d over %lld x %lld: gradient %lld is %.9g, expected %.9g",
                     (int)c->desc.kind, (long long)c->batch, (long long)c->desc.width, (long long)i,
                     (double)c->dlogits[i], want[i]);
}

/* Starts from sums that are not zero, and runs with, without, and in place of the gradient. */
static void check_case(lks_device *device, loss_case *c) {
    const int64_t count = c->batch * c->desc.width;
    const double start[LKS_LOSS_SUM_COUNT] = {0.5, 3, 1, 2};
    double sums[LKS_LOSS_SUM_COUNT], first[LKS_LOSS_SUM_COUNT], *gradient = check_zeros(count);
    memcpy(sums, start, sizeof sums);
    if (c->labels)
        reference_classes(c, gradient, sums);
    else
        reference_elements(c, gradient, sums);
    for (int way = GRADIENT; way <= NO_GRADIENT; way++) {
        memcpy(c->sums, start, sizeof start);
        run_loss(device, c, (enum gradient)way);
        if (way == GRADIENT) memcpy(first, c->sums, sizeof first);
        assert_memory_equal(first, c->sums, sizeof first);
        check_sums(c, sums);
        check_gradient(c, gradient);
    }
    free(gradient);
}

static void test_every_loss(void **state) {
    const int64_t sizes[][2] = {{0, 5},  {1, 1},     {3, 2},     {5, 10},    {7, 16},
                                {4, 17}, {1000, 33}, {3, 10007}, {300, 100}, {2, 4096}};
    for (int i = 0; i < LOSSES; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            loss_case c = make_case(every_loss[i], sizes[s][0], sizes[s][1]);
            check_case(*state, &c);
            free_case(&c);
        }
}

/* The bits depend neither on the threads nor, sample by sample, on who else is in the batch. */
static void test_same_bits(void **state) {
    const int64_t batch = 301, half = 120, width = 170;
    for (int i = 0; i < LOSSES; i++) {
        loss_case whole = make_case(every_loss[i], batch, width), part = whole;
        part.dlogits = check_random(5, batch * width, 0, 1);
        run_loss(*state, &whole, GRADIENT);
        for (int threads = 1; threads <= 2 && lks_device_is_host(*state); threads++) {
            const lks_device_config config = {.kind = "cpu", .threads = threads, .local_size = 1};
            lks_device *other = NULL;
            check_ok(lks_device_create(&config, &other));
            memset(part.sums, 0, sizeof part.sums);
            run_loss(other, &part, GRADIENT);
            assert_memory_equal(part.sums, whole.sums, sizeof part.sums);
            assert_memory_equal(part.dlogits, whole.dlogits,
                                (size_t)(batch * width) * sizeof(float));
            lks_device_destroy(other);
        }
        memset(part.sums, 0, sizeof part.sums);
        part.batch = half;
        run_loss(*state, &part, GRADIENT);
        assert_memory_equal(part.dlogits, whole.dlogits, (size_t)(half * width) * sizeof(float));
        loss_case rest = whole;
        rest.batch = batch - half;
        rest.logits += half * width;
        if (rest.labels) rest.labels += half;
        if (rest.values) rest.values += half * width;
        rest.dlogits = part.dlogits;
        memcpy(rest.sums, part.sums, sizeof rest.sums);
        run_loss(*state, &rest, GRADIENT);
        assert_memory_equal(rest.dlogits, whole.dlogits + half * width,
                            (size_t)((batch - half) * width) * sizeof(float));
        /* sums of float64 in another order */
        assert_true(fabs(rest.sums[LKS_SUM_LOSS] - whole.sums[LKS_SUM_LOSS]) <=
                    1e-13 * whole.sums[LKS_SUM_LOSS]);
        free(part.dlogits);
        free_case(&whole);
    }
}

/* F.cross_entropy and its like of PyTorch 2.15.0 with reduction="sum", for
 * x[i] = ((37 i) % 101 - 50) / 16, t[i] = ((53 i) % 97 - 48) / 16 (bce: ((53 i) % 7) / 8),
 * labels 1, 4, -100, 0, and the gradient at six places. */
static void test_numbers_of_pytorch(void **state) {
    enum { BATCH = 4, WIDTH = 5, PLACES = 6 };
    const int place[PLACES] = {0, 3, 6, 9, 11, 17};
    const int32_t labels[BATCH] = {1, 4, -100, 0};
    const struct {
        lks_loss_desc desc;
        double loss, weight;
        double gradient[PLACES];
    } golden[] = {
        {{.kind = LKS_LOSS_CROSS_ENTROPY, .ignore_index = -100},
         10.5588055,
         3,
         {0.00747164711, 0.0139588742, 0.00589731103, -0.988982379, 0, 0.00577678904}},
        {{.kind = LKS_LOSS_CROSS_ENTROPY, .ignore_index = -100, .label_smoothing = 0.1},
         10.3275557,
         3,
         {-0.0125283534, -0.00604112726, -0.014102689, -0.908982337, 0, -0.0142232114}},
        {{.kind = LKS_LOSS_MSE}, 110.011719, 20, {-0.25, -6.75, -1.125, -7.625, 0, -0.875}},
        {{.kind = LKS_LOSS_L1}, 38.0625, 20, {-1, -1, -1, -1, 0, -1}},
        {{.kind = LKS_LOSS_HUBER, .delta = 0.75},
         23.4667969,
         20,
         {-0.125, -0.75, -0.5625, -0.75, 0, -0.4375}},
        {{.kind = LKS_LOSS_BCE_WITH_LOGITS},
         18.3095531,
         20,
         {0.0420877263, -0.549141824, -0.242035761, 0.0977001339, -0.199669361, -0.468895108}},
    };
    for (size_t g = 0; g < sizeof golden / sizeof *golden; g++) {
        loss_case c = make_case(golden[g].desc, BATCH, WIDTH);
        for (int i = 0; i < BATCH * WIDTH; i++) {
            c.logits[i] = (float)(i * 37 % 101 - 50) / 16;
            if (c.values) c.values[i] = (float)(i * 53 % 97 - 48) / 16;
            if (c.desc.kind == LKS_LOSS_BCE_WITH_LOGITS) c.values[i] = (float)(i * 53 % 7) / 8;
        }
        if (c.labels) memcpy(c.labels, labels, sizeof labels);
        run_loss(*state, &c, GRADIENT);
        assert_true(fabs(c.sums[LKS_SUM_LOSS] - golden[g].loss) <= tolerance * golden[g].loss);
        assert_true(c.sums[LKS_SUM_WEIGHT] == golden[g].weight);
        for (int i = 0; i < PLACES; i++)
            assert_true(fabs((double)c.dlogits[place[i]] - golden[g].gradient[i]) <= tolerance);
        free_case(&c);
    }
}

static void test_large_logits(void **state) {
    loss_case c = make_case(every_loss[0], 3, 20);
    for (int i = 0; i < 60; i++)
        c.logits[i] = i % 20 == 4 ? 1e4f : -1e4f;
    c.labels[0] = 4;
    c.labels[1] = 5;
    c.labels[2] = -100;
    run_loss(*state, &c, GRADIENT);
    assert_true(c.sums[LKS_SUM_LOSS] == 2e4);
    assert_true(c.sums[LKS_SUM_CORRECT] == 1);
    assert_true(c.dlogits[4] == 0.0f && c.dlogits[24] == 1.0f && c.dlogits[25] == -1.0f);
    free_case(&c);
    c = make_case(every_loss[5], 1, 4);
    const float logits[] = {1e4f, -1e4f, 1e4f, -1e4f}, values[] = {1, 0, 0, 1};
    memcpy(c.logits, logits, sizeof logits);
    memcpy(c.values, values, sizeof values);
    run_loss(*state, &c, GRADIENT);
    assert_true(c.sums[LKS_SUM_LOSS] == 2e4);
    assert_true(c.sums[LKS_SUM_CORRECT] == 2);
    assert_true(c.dlogits[0] == 0.0f && c.dlogits[2] == 1.0f && c.dlogits[3] == -1.0f);
    free_case(&c);
}

/* Of equal logits the first is the prediction. */
static void test_ties(void **state) {
    loss_case c = make_case(every_loss[0], 3, 40);
    for (int i = 0; i < 120; i++)
        c.logits[i] = i % 40 == 6 || i % 40 == 21 ? 2.0f : 1.0f;
    c.labels[0] = 6;
    c.labels[1] = 21;
    c.labels[2] = 0;
    run_loss(*state, &c, NO_GRADIENT);
    assert_true(c.sums[LKS_SUM_CORRECT] == 1);
    assert_true(c.sums[LKS_SUM_COUNTED] == 3);
    free_case(&c);
}

/* A number that is not finite, wherever it stands, makes the loss not finite; so does a label that
 * is no class. The other samples' gradients do not suffer. */
static void test_not_finite(void **state) {
    const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < LOSSES; i++)
        for (int b = 0; b < 2; b++)
            for (int64_t at = 0; at < 37; at += 9) {
                loss_case c = make_case(every_loss[i], 3, 37);
                if (c.labels) c.labels[1] = 2;
                c.logits[37 + at] = bad[b];
                run_loss(*state, &c, GRADIENT);
                assert_false(isfinite(c.sums[LKS_SUM_LOSS]));
                for (int e = 0; e < 37; e++)
                    assert_true(isfinite(c.dlogits[e]) && isfinite(c.dlogits[74 + e]));
                free_case(&c);
            }
    loss_case c = make_case(every_loss[0], 2, 8);
    for (int i = 0; i < 8; i++)
        c.logits[i] = -INFINITY;
    run_loss(*state, &c, GRADIENT);
    assert_false(isfinite(c.sums[LKS_SUM_LOSS]));
    const int32_t no_class[] = {8, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof no_class / sizeof *no_class; i++) {
        c.logits[0] = 1;
        c.labels[0] = no_class[i];
        memset(c.sums, 0, sizeof c.sums);
        run_loss(*state, &c, GRADIENT_IN_PLACE);
        assert_true(isnan(c.sums[LKS_SUM_LOSS]));
    }
    free_case(&c);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_loss),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_numbers_of_pytorch),
        cmocka_unit_test(test_large_logits),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_not_finite),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
