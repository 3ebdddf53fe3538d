/* Times the matrix products of a linear layer: forward, and the two of backward.
 *
 *     bench_products DEVICE fp32|tf32|bf16 ROWS IN OUT TURNS
 *
 * Prints one JSON object: the rate of each turn in TFLOP/s, of forward and of backward. bench/gpu
 * calls it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/op.h"

/* What the work of the operation reads and writes, in device memory. */
typedef struct bench {
    lks_device *device;
    lks_op *op;
    int64_t rows, in, out;
    size_t element_bytes; /* of activations and parameters */
    void *x, *y, *dy, *dx, *weight, *bias, *dweight, *dbias, *saved, *scratch;
} bench;

enum { PASSES_PER_TURN = 50, MAX_TURNS = 100 };

/* ---- memory ---- */

/* Random elements, because a processor takes less power, and runs faster, on zeros. */
static lks_status fill(bench *b, void *memory, int64_t count, uint64_t seed) {
    enum { CHUNK = 1 << 20 };
    const lks_philox_key key = lks_philox_key_make(seed, LKS_RANDOM_INIT, 0);
    float *values = malloc(CHUNK * sizeof *values);
    if (!values) return lks_fail(LKS_ENOMEM, "out of memory for random numbers");
    for (int i = 0; i < CHUNK; i++) {
        values[i] = 2 * lks_philox_uniform(lks_philox(key, (uint64_t)i, 0).word[0]) - 1;
        /* The upper half of a float32 is a bfloat16; both halves of a word get one. */
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if (b->element_bytes == 2) bits = (bits & 0xffff0000u) | bits >> 16;
        memcpy(&values[i], &bits, sizeof bits);
    }
    lks_stream *stream = lks_device_stream(b->device, LKS_STREAM_COMPUTE);
    const size_t bytes = (size_t)count * b->element_bytes, chunk = CHUNK * sizeof *values;
    lks_status status = LKS_OK;
    for (size_t at = 0; !status && at < bytes; at += chunk)
        status = lks_device_copy(b->device, stream, (char *)memory + at, values,
                                 bytes - at < chunk ? bytes - at : chunk, LKS_COPY_TO_DEVICE);
    if (!status) status = lks_stream_synchronize(stream);
    free(values);
    return status;
}

static lks_status make_operands(bench *b) {
    const lks_op_needs *needs = lks_op_get_needs(b->op);
    const struct {
        void **memory;
        int64_t count;
        size_t bytes; /* of an element */
    } operands[] = {
        {&b->x, b->rows * b->in, b->element_bytes},
        {&b->y, b->rows * b->out, b->element_bytes},
        {&b->dy, b->rows * b->out, b->element_bytes},
        {&b->dx, b->rows * b->in, b->element_bytes},
        {&b->weight, b->out * b->in, b->element_bytes},
        {&b->bias, b->out, b->element_bytes},
        {&b->dweight, b->out * b->in, sizeof(float)},
        {&b->dbias, b->out, sizeof(float)},
        {&b->saved, (int64_t)needs->saved_bytes, 1},
        {&b->scratch, (int64_t)needs->scratch_bytes, 1},
    };
    lks_status status = LKS_OK;
    for (size_t i = 0; !status && i < sizeof operands / sizeof *operands; i++)
        status = lks_device_alloc(b->device, (size_t)operands[i].count * operands[i].bytes,
                                  operands[i].memory);
    if (!status) status = fill(b, b->x, b->rows * b->in, 1);
    if (!status) status = fill(b, b->dy, b->rows * b->out, 2);
    if (!status) status = fill(b, b->weight, b->out * b->in, 3);
    if (!status) status = fill(b, b->bias, b->out, 4);
    return status;
}

static void close_bench(bench *b) {
    void *const all[] = {b->x,    b->y,       b->dy,    b->dx,    b->weight,
                         b->bias, b->dweight, b->dbias, b->saved, b->scratch};
    for (size_t i = 0; b->device && i < sizeof all / sizeof *all; i++)
        lks_device_free(b->device, all[i]);
    lks_op_destroy(b->op);
    lks_device_destroy(b->device);
}

static lks_status open_bench(bench *b, const char *kind, lks_precision precision) {
    const lks_device_config config = {.kind = kind, .local_size = 1, .precision = precision};
    const lks_linear_desc desc = {
        .in_features = b->in, .out_features = b->out, .rows_per_sample = 1, .bias = true};
    b->element_bytes = precision == LKS_PRECISION_BF16 ? 2 : sizeof(float);
    lks_status status = lks_device_create(&config, &b->device);
    if (!status) status = lks_op_create(b->device, LKS_OP_LINEAR, &desc, b->rows, &b->op);
    return status ? status : make_operands(b);
}

/* ---- time ---- */

static lks_status run(bench *b, bool backward) {
    const void *const params[] = {b->weight, b->bias};
    void *const dparams[] = {b->dweight, b->dbias};
    const lks_op_args args = {
        .batch = b->rows,
        .training = true,
        .x = b->x,
        .y = b->y,
        .params = params,
        .dy = b->dy,
        .dx = b->dx,
        .dparams = dparams,
        .saved = b->saved,
        .scratch = b->scratch,
    };
    lks_stream *stream = lks_device_stream(b->device, LKS_STREAM_COMPUTE);
    return backward ? lks_op_backward(b->op, stream, &args) : lks_op_forward(b->op, stream, &args);
}

/* Several passes queued together, in TFLOP/s. */
static lks_status time_passes(bench *b, bool backward, double *rate) {
    const double start = lks_clock_seconds();
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < PASSES_PER_TURN; i++)
        status = run(b, backward);
    if (!status) status = lks_stream_synchronize(lks_device_stream(b->device, LKS_STREAM_COMPUTE));
    const double flop = (backward ? 4.0 : 2.0) * (double)b->rows * (double)b->in * (double)b->out;
    *rate = PASSES_PER_TURN * flop / (lks_clock_seconds() - start) / 1e12;
    return status;
}

static void print_list(const char *name, const double *values, int count, const char *end) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++)
        printf("%s%.3f", i ? ", " : "", values[i]);
    printf("]%s", end);
}

static lks_status measure(bench *b, int turns) {
    double forward[MAX_TURNS], backward[MAX_TURNS], unused;
    lks_status status = time_passes(b, false, &unused); /* plans, and warms up */
    if (!status) status = time_passes(b, true, &unused);
    for (int t = 0; !status && t < turns; t++) {
        status = time_passes(b, false, &forward[t]);
        if (!status) status = time_passes(b, true, &backward[t]);
    }
    if (status) return status;
    printf("{");
    print_list("forward_tflops", forward, turns, ", ");
    print_list("backward_tflops", backward, turns, "}\n");
    return LKS_OK;
}

int main(int argc, char **argv) {
    static const char *const precisions[] = {"fp32", "tf32", "bf16"}; /* as in lks_precision */
    int precision = 0, turns = 0;
    bench b = {0};
    while (argc == 7 && precision < 3 && strcmp(argv[2], precisions[precision]) != 0)
        precision++;
    if (argc == 7) {
        b.rows = atoll(argv[3]);
        b.in = atoll(argv[4]);
        b.out = atoll(argv[5]);
        turns = atoi(argv[6]);
    }
    if (precision == 3 || b.rows < 1 || b.in < 1 || b.out < 1 || turns < 1 || turns > MAX_TURNS) {
        fprintf(stderr, "usage: bench_products DEVICE fp32|tf32|bf16 ROWS IN OUT TURNS\n");
        return 2;
    }
    lks_status status = open_bench(&b, argv[1], (lks_precision)precision);
    if (!status) status = measure(&b, turns);
    if (status)
        fprintf(stderr, "bench_products: %s: %s\n", lks_status_text(status), lks_last_error());
    close_bench(&b);
    return status != LKS_OK;
}
