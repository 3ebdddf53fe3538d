#include "conformance/ops_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 64, POISON = 0xFF }; /* four 0xFF bytes are a NaN */

static lks_precision precision = LKS_PRECISION_FP32; /* set once, from the program's arguments */

lks_precision check_precision(void) {
    return precision;
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

/* Returns the number of failed tests; a device that is not there has none, unless it is asked for.
 */
static int check_on(const char *kind, bool required, const struct CMUnitTest *tests, size_t count) {
    lks_device *device = NULL;
    const lks_device_config config = {.kind = kind, .local_size = 1, .precision = precision};
    const lks_status status = lks_device_create(&config, &device);
    if (status == LKS_EUNSUPPORTED && !required) return 0;
    if (status != LKS_OK) {
        print_error("%s: %s\n", kind, lks_last_error());
        return 1;
    }
    struct CMUnitTest *copies = allocate(count * sizeof *copies);
    memcpy(copies, tests, count * sizeof *copies);
    for (size_t i = 0; i < count; i++)
        copies[i].initial_state = device;
    print_message("on %s: %s\n", kind, lks_device_description(device));
    const int failed = _cmocka_run_group_tests(kind, copies, count, NULL, NULL);
    free(copies);
    lks_device_destroy(device);
    return failed;
}

/* Returns false for a word that is none of them. */
static bool read_precision(const char *word) {
    static const char *const names[] = {"fp32", "tf32", "bf16"}; /* as in lks_precision */
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, names[i]) != 0) continue;
        precision = (lks_precision)i;
        return true;
    }
    return false;
}

int check_on_every_device(int argc, char **argv, const struct CMUnitTest *tests, size_t count) {
    if (argc > 3 || (argc == 3 && !read_precision(argv[2]))) {
        print_error("usage: %s [DEVICE [fp32|tf32|bf16]]\n", argv[0]);
        return 1;
    }
    if (argc > 1) return check_on(argv[1], true, tests, count);
    return check_on("cpu", true, tests, count) + check_on("cuda", false, tests, count);
}

/* ---- numbers ---- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

float *check_random(uint64_t seed, int64_t count, double low, double high) {
    float *values = allocate((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(low + (high - low) * (double)(next_random(&seed) >> 40) / (1 << 24));
    return values;
}

double *check_zeros(int64_t count) {
    double *values = calloc(count ? (size_t)count : 1, sizeof *values);
    assert_non_null(values);
    return values;
}

/* Fails unless every |got - want| <= tolerance * max |want| + relative * |want|. */
static void compare(const char *what, const float *got, const double *want, int64_t count,
                    double tolerance, double relative) {
    double largest = 0, worst = 0;
    int64_t place = -1;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < count; i++) {
        const double error = fabs((double)got[i] - want[i]);
        if (error <= tolerance * largest + relative * fabs(want[i])) continue;
        if (place < 0 || error > worst || isnan(error)) {
            worst = error;
            place = i;
        }
    }
    if (place >= 0)
        fail_msg("%s[%lld of %lld] is %.9g, expected %.9g (largest %.9g, tolerance %g)", what,
                 (long long)place, (long long)count, (double)got[place], want[place], largest,
                 tolerance);
}

void check_close(const char *what, const float *got, const double *want, int64_t count,
                 double tolerance) {
    compare(what, got, want, count, tolerance, 0);
}

void check_ok(lks_status status) {
    if (status != LKS_OK) fail_msg("%s: %s", lks_status_text(status), lks_last_error());
}

void check_upload(lks_device *device, void *to, const void *from, size_t bytes) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    check_ok(lks_device_copy(device, stream, to, from, bytes, LKS_COPY_TO_DEVICE));
    check_ok(lks_stream_synchronize(stream));
}

void check_download(lks_device *device, void *to, const void *from, size_t bytes) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    check_ok(lks_device_copy(device, stream, to, from, bytes, LKS_COPY_TO_HOST));
    check_ok(lks_stream_synchronize(stream));
}

void *check_device_copy(lks_device *device, const void *from, size_t bytes) {
    void *memory = NULL;
    check_ok(lks_device_alloc(device, bytes, &memory));
    if (from) check_upload(device, memory, from, bytes);
    return memory;
}

/* ---- elements of activations and parameters: float32, or bfloat16, whose bits are its upper half
 * ---- */

static bool is_bf16(void) {
    return precision == LKS_PRECISION_BF16;
}

static size_t element_bytes(int64_t count) {
    return (size_t)count * (is_bf16() ? sizeof(uint16_t) : sizeof(float));
}

double check_tolerance(double fp32) {
    return is_bf16() ? fp32 + 0x1p-8 : fp32;
}

void check_close_elements(const char *what, const float *got, const double *want, int64_t count,
                          double fp32) {
    compare(what, got, want, count, fp32, check_tolerance(0));
}

float check_rounded(float x) {
    return is_bf16() ? lks_bf16_to_float(lks_bf16_of_float(x)) : x;
}

/* `count` numbers that the device's elements can hold, so that a test computes with the same. */
static float *random_elements(uint64_t seed, int64_t count) {
    float *values = check_random(seed, count, -1, 1);
    for (int64_t i = 0; i < count; i++)
        values[i] = check_rounded(values[i]);
    return values;
}

void *check_upload_elements(lks_device *device, const float *from, int64_t count) {
    if (!is_bf16()) return check_device_copy(device, from, element_bytes(count));
    uint16_t *halves = allocate(element_bytes(count));
    for (int64_t i = 0; i < count; i++)
        halves[i] = lks_bf16_of_float(from[i]);
    void *memory = check_device_copy(device, halves, element_bytes(count));
    free(halves);
    return memory;
}

float *check_download_elements(lks_device *device, const void *memory, int64_t count) {
    float *values = allocate((size_t)count * sizeof *values);
    if (!is_bf16()) {
        check_download(device, values, memory, element_bytes(count));
        return values;
    }
    uint16_t *halves = allocate(element_bytes(count));
    check_download(device, halves, memory, element_bytes(count));
    for (int64_t i = 0; i < count; i++)
        values[i] = lks_bf16_to_float(halves[i]);
    free(halves);
    return values;
}

/* ---- one operation ---- */

/* Device memory of one run; counts are of the whole batch. */
typedef struct operands {
    lks_device *device;
    lks_op *op;
    int64_t x_count, y_count;
    void *x, *x2, *y, *dy, *dy2, *dx, *dx2, *saved, *scratch;
    void *param[CHECK_MAX_PARAMS], *buffer[CHECK_MAX_PARAMS], *dparam[CHECK_MAX_PARAMS];
    lks_step_counters host_counters; /* parts of the call's numbers */
    void *counters;                  /* the same on the device */
} operands;

static void poison(lks_device *device, void *memory, size_t bytes) {
    void *bad = allocate(bytes);
    memset(bad, POISON, bytes);
    check_upload(device, memory, bad, bytes);
    free(bad);
}

static void *poisoned(lks_device *device, size_t bytes) {
    void *memory = check_device_copy(device, NULL, bytes);
    poison(device, memory, bytes);
    return memory;
}

static void check_guard(lks_device *device, const char *what, const void *memory, size_t bytes) {
    unsigned char guard[GUARD_BYTES];
    check_download(device, guard, (const char *)memory + bytes, GUARD_BYTES);
    for (int i = 0; i < GUARD_BYTES; i++)
        if (guard[i] != POISON) fail_msg("the operation wrote behind its %s memory", what);
}

void check_call_fill(check_call *call, uint64_t seed) {
    const int64_t x_count = call->batch * call->x_count, y_count = call->batch * call->y_count;
    call->x = random_elements(seed + 1, x_count);
    call->dy = random_elements(seed + 2, y_count);
    if (call->has_x2) call->x2 = random_elements(seed + 3, x_count);
    if (call->has_dy2) call->dy2 = random_elements(seed + 4, y_count);
    for (int i = 0; i < call->params; i++) {
        call->param[i] = random_elements(seed + 10 + (uint64_t)i, call->param_count[i]);
        call->dparam[i] = check_random(seed + 20 + (uint64_t)i, call->param_count[i], -1, 1);
    }
    for (int i = 0; i < call->buffers; i++)
        call->buffer[i] = check_random(seed + 30 + (uint64_t)i, call->buffer_count[i], 0.5, 1.5);
}

static void operands_create(operands *o, lks_device *device, lks_op *op, const check_call *call) {
    const lks_op_needs *needs = lks_op_get_needs(op);
    *o = (operands){.device = device, .op = op};
    o->host_counters =
        (lks_step_counters){.step = call->step / 3, .batches_tracked = call->batches_tracked / 2};
    o->counters = check_device_copy(device, &o->host_counters, sizeof o->host_counters);
    const int64_t x_count = call->batch * call->x_count, y_count = call->batch * call->y_count;
    o->x_count = x_count;
    o->y_count = y_count;
    o->x = check_upload_elements(device, call->x, x_count);
    o->y = poisoned(device, element_bytes(y_count));
    if (call->has_x2) o->x2 = check_upload_elements(device, call->x2, x_count);
    if (call->has_dy2) o->dy2 = check_upload_elements(device, call->dy2, y_count);
    o->dy = check_upload_elements(device, call->dy, y_count);
    if (!call->without_dx) o->dx = poisoned(device, element_bytes(x_count));
    if (call->has_x2 && !call->without_dx2) o->dx2 = poisoned(device, element_bytes(x_count));
    o->saved = poisoned(device, needs->saved_bytes + GUARD_BYTES);
    o->scratch = poisoned(device, needs->scratch_bytes + GUARD_BYTES);
    for (int i = 0; i < call->params; i++) {
        const size_t bytes = (size_t)call->param_count[i] * sizeof(float);
        o->param[i] = check_upload_elements(device, call->param[i], call->param_count[i]);
        if (call->without_dparam[i]) continue;
        o->dparam[i] = call->accumulate ? check_device_copy(device, call->dparam[i], bytes)
                                        : poisoned(device, bytes);
    }
    for (int i = 0; i < call->buffers; i++)
        o->buffer[i] = check_device_copy(device, call->buffer[i],
                                         (size_t)call->buffer_count[i] * sizeof(float));
}

static void operands_destroy(operands *o) {
    void *const all[] = {o->x,  o->x2,  o->y,     o->dy,      o->dy2,
                         o->dx, o->dx2, o->saved, o->scratch, o->counters};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lks_device_free(o->device, all[i]);
    for (int i = 0; i < CHECK_MAX_PARAMS; i++) {
        lks_device_free(o->device, o->param[i]);
        lks_device_free(o->device, o->buffer[i]);
        lks_device_free(o->device, o->dparam[i]);
    }
}

static lks_op_args make_args(const operands *o, const check_call *call) {
    return (lks_op_args){
        .batch = call->batch,
        .training = call->training,
        .accumulate = call->accumulate,
        .counters = o->counters,
        .step = call->step - o->host_counters.step,
        .first_row = call->first_row,
        .x = o->x,
        .x2 = o->x2,
        .y = o->y,
        .params = call->params ? (const void *const *)o->param : NULL,
        .buffers = call->buffers ? o->buffer : NULL,
        .batches_tracked = call->batches_tracked - o->host_counters.batches_tracked,
        .dy = o->dy,
        .dy2 = o->dy2,
        .dx = o->dx,
        .dx2 = o->dx2,
        .dparams = call->params && !call->without_dparams ? o->dparam : NULL,
        .saved = o->saved,
        .scratch = o->scratch,
        .all_reduce = call->all_reduce,
        .all_reduce_data = call->all_reduce_data,
    };
}

static lks_status run_forward(const operands *o, const lks_op_args *args) {
    const lks_op_needs *needs = lks_op_get_needs(o->op);
    lks_stream *stream = lks_device_stream(o->device, LKS_STREAM_COMPUTE);
    const lks_status status = lks_op_forward(o->op, stream, args);
    if (status != LKS_OK) return status;
    check_ok(lks_stream_synchronize(stream));
    check_guard(o->device, "saved", o->saved, needs->saved_bytes);
    check_guard(o->device, "scratch", o->scratch, needs->scratch_bytes);
    return LKS_OK;
}

/* Takes away what the operation said it would not need, so that it must have told the truth. */
static lks_status run_backward(const operands *o, const lks_op_args *args) {
    const lks_op_needs *needs = lks_op_get_needs(o->op);
    lks_stream *stream = lks_device_stream(o->device, LKS_STREAM_COMPUTE);
    lks_op_args strict = *args;
    strict.x2 = NULL;
    if (!needs->backward_needs_x) strict.x = NULL;
    if (!needs->backward_needs_y) strict.y = NULL;
    poison(o->device, o->scratch, needs->scratch_bytes);
    const lks_status status = lks_op_backward(o->op, stream, &strict);
    if (status != LKS_OK) return status;
    check_ok(lks_stream_synchronize(stream));
    check_guard(o->device, "saved", o->saved, needs->saved_bytes);
    check_guard(o->device, "scratch", o->scratch, needs->scratch_bytes);
    return LKS_OK;
}

static void expect_same(lks_device *device, const char *what, const void *want, const void *memory,
                        size_t bytes) {
    void *got = allocate(bytes);
    check_download(device, got, memory, bytes);
    if (memcmp(got, want, bytes) != 0) fail_msg("%s differs in a second run", what);
    free(got);
}

static void expect_same_elements(lks_device *device, const char *what, const float *want,
                                 const void *memory, int64_t count) {
    float *got = check_download_elements(device, memory, count);
    if (memcmp(got, want, (size_t)count * sizeof *got) != 0)
        fail_msg("%s differs in a second run", what);
    free(got);
}

static void take_results(const operands *o, check_call *call) {
    call->y = check_download_elements(o->device, o->y, o->y_count);
    for (int i = 0; i < call->buffers; i++)
        check_download(o->device, call->buffer[i], o->buffer[i],
                       (size_t)call->buffer_count[i] * sizeof(float));
}

static void take_gradients(const operands *o, check_call *call) {
    if (o->dx) call->dx = check_download_elements(o->device, o->dx, o->x_count);
    if (o->dx2) call->dx2 = check_download_elements(o->device, o->dx2, o->x_count);
    for (int i = 0; i < call->params && !call->without_dparams; i++) {
        if (call->without_dparam[i]) continue;
        check_download(o->device, call->dparam[i], o->dparam[i],
                       (size_t)call->param_count[i] * sizeof(float));
    }
}

static lks_status first_run(operands *o, check_call *call) {
    const lks_op_args args = make_args(o, call);
    lks_status status = run_forward(o, &args);
    if (status != LKS_OK) return status;
    take_results(o, call);
    if (call->forward_only) return LKS_OK;
    status = run_backward(o, &args);
    if (status == LKS_OK) take_gradients(o, call);
    return status;
}

/* Everything again, in place where the operation allows it: the same bits must come out. */
static void second_run(operands *o, const check_call *call) {
    const lks_op_needs *needs = lks_op_get_needs(o->op);
    lks_op_args args = make_args(o, call);
    if (needs->in_place) {
        assert_int_equal(o->x_count, o->y_count);
        assert_false(needs->backward_needs_x);
        args.y = o->x;
    }
    check_ok(run_forward(o, &args));
    expect_same_elements(o->device, "y", call->y, args.y, o->y_count);
    if (call->forward_only) return;
    if (needs->backward_in_place && o->dx) {
        assert_int_equal(o->x_count, o->y_count);
        args.dx = o->dy;
    }
    check_ok(run_backward(o, &args));
    if (args.dx) expect_same_elements(o->device, "dx", call->dx, args.dx, o->x_count);
    if (args.dx2) expect_same_elements(o->device, "dx2", call->dx2, args.dx2, o->x_count);
    for (int i = 0; i < call->params && args.dparams; i++) {
        if (call->without_dparam[i]) continue;
        expect_same(o->device, "dparam", call->dparam[i], o->dparam[i],
                    (size_t)call->param_count[i] * sizeof(float));
    }
}

lks_status check_call_run(lks_device *device, check_call *call) {
    lks_op *op = NULL;
    operands first, second;
    lks_status status = lks_op_create(device, call->kind, call->desc, call->max_batch, &op);
    if (status != LKS_OK) return status;
    operands_create(&first, device, op, call);
    operands_create(&second, device, op, call);
    status = first_run(&first, call);
    if (status == LKS_OK) second_run(&second, call);
    operands_destroy(&first);
    operands_destroy(&second);
    lks_op_destroy(op);
    return status;
}

void check_call_threads(const lks_device *device, const check_call *call) {
    if (!lks_device_is_host(device)) return;
    for (int threads = 1; threads <= 2; threads++) {
        const lks_device_config config = {
            .kind = "cpu", .threads = threads, .local_size = 1, .precision = precision};
        lks_device *other = NULL;
        check_ok(lks_device_create(&config, &other));
        check_call again = *call;
        again.y = again.dx = again.dx2 = NULL;
        check_ok(check_call_run(other, &again));
        assert_memory_equal(again.y, call->y,
                            (size_t)(call->batch * call->y_count) * sizeof(float));
        if (call->dx)
            assert_memory_equal(again.dx, call->dx,
                                (size_t)(call->batch * call->x_count) * sizeof(float));
        free(again.y);
        free(again.dx);
        free(again.dx2);
        lks_device_destroy(other);
    }
}

void check_call_free(check_call *call) {
    float *const all[] = {call->x, call->x2, call->dy, call->dy2, call->y, call->dx, call->dx2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    for (int i = 0; i < CHECK_MAX_PARAMS; i++) {
        free(call->param[i]);
        free(call->buffer[i]);
        free(call->dparam[i]);
    }
    *call = (check_call){0};
}
