/* Times operations that wait for memory rather than for products: forward, and backward.
 *
 *     bench_operations DEVICE fp32|bf16 TURNS
 *
 * Prints one JSON object: for each operation, milliseconds of each turn. bench/precision calls it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "device/device.h"
#include "device/op.h"

enum { PASSES_PER_TURN = 8, MAX_TURNS = 100, SAMPLES = 64, MAX_PARAM = 4096 };

typedef struct bench_case {
    const char *name;
    lks_op_kind kind;
    const void *desc;
    int64_t x_count, y_count; /* elements of a sample */
} bench_case;

/* Images of 64 channels and 32 x 32 pixels, and 256 rows of 256 numbers: 4 Mi elements in all, more
 * than the caches hold. */
enum { COUNT = 1 << 16, SIDE = 32, CHANNELS = 64, WIDTH = 256 };

static const lks_layer_norm_desc layer_norm = {
    .width = WIDTH, .rows_per_sample = COUNT / WIDTH, .eps = 1e-5, .affine = true, .bias = true};
static const lks_batch_norm_desc batch_norm = {.channels = CHANNELS,
                                               .spatial = SIDE * SIDE,
                                               .layout = LKS_LAYOUT_CHANNELS_LAST,
                                               .eps = 1e-5,
                                               .affine = true};
static const lks_softmax_desc softmax = {.outer = COUNT / WIDTH, .size = WIDTH, .inner = 1};
static const lks_pool2d_desc max_pool = {.kind = LKS_POOL_MAX,
                                         .channels = CHANNELS,
                                         .in_size = {SIDE, SIDE},
                                         .out_size = {SIDE / 2, SIDE / 2},
                                         .kernel = {2, 2},
                                         .stride = {2, 2},
                                         .dilation = {1, 1}};
static const lks_pool2d_desc average_pool = {.kind = LKS_POOL_AVG,
                                             .channels = CHANNELS,
                                             .in_size = {SIDE, SIDE},
                                             .out_size = {SIDE / 2, SIDE / 2},
                                             .kernel = {2, 2},
                                             .stride = {2, 2},
                                             .dilation = {1, 1}};
static const lks_dropout_desc dropout = {.count = COUNT, .p = 0.5};
static const lks_relayout_desc relayout = {.channels = CHANNELS,
                                           .spatial = SIDE * SIDE,
                                           .from = LKS_LAYOUT_ROWS,
                                           .to = LKS_LAYOUT_CHANNELS_LAST};
static const lks_eltwise_desc relu = {.count = COUNT, .activation = LKS_ACTIVATION_RELU};
static const lks_eltwise_desc gelu = {.count = COUNT, .activation = LKS_ACTIVATION_GELU};
static const lks_add_desc add = {.count = COUNT};
static const lks_add_desc add_relu = {.count = COUNT, .activation = LKS_ACTIVATION_RELU};

static const bench_case cases[] = {
    {"layer norm", LKS_OP_LAYER_NORM, &layer_norm, COUNT, COUNT},
    {"batch norm", LKS_OP_BATCH_NORM, &batch_norm, COUNT, COUNT},
    {"softmax", LKS_OP_SOFTMAX, &softmax, COUNT, COUNT},
    {"max pooling", LKS_OP_POOL2D, &max_pool, COUNT, COUNT / 4},
    {"average pooling", LKS_OP_POOL2D, &average_pool, COUNT, COUNT / 4},
    {"dropout", LKS_OP_DROPOUT, &dropout, COUNT, COUNT},
    {"relayout", LKS_OP_RELAYOUT, &relayout, COUNT, COUNT},
    {"ReLU", LKS_OP_ELTWISE, &relu, COUNT, COUNT},
    {"GELU", LKS_OP_ELTWISE, &gelu, COUNT, COUNT},
    {"add", LKS_OP_ADD, &add, COUNT, COUNT},
    {"add and ReLU", LKS_OP_ADD, &add_relu, COUNT, COUNT},
    {"fork", LKS_OP_FORK, &add, COUNT, COUNT},
};

/* ---- one operation with its operands ---- */

enum { X, X2, Y, DY, DY2, DX, DX2, WEIGHT, BIAS, DWEIGHT, DBIAS, SAVED, SCRATCH, OPERANDS };

typedef struct bench {
    lks_device *device;
    lks_stream *stream;
    lks_op *op;
    void *operand[OPERANDS];
} bench;

/* Numbers in [-1, 1). */
static lks_status fill(bench *b, void *memory, int64_t count, uint64_t seed) {
    const lks_philox_key key = lks_philox_key_make(seed, LKS_RANDOM_INIT, 0);
    const bool bf16 = lks_device_dtype(b->device) == LKS_BF16;
    const size_t bytes = (size_t)count * (bf16 ? sizeof(uint16_t) : sizeof(float));
    void *values = malloc(bytes);
    if (!values) return lks_fail(LKS_ENOMEM, "out of memory for random numbers");
    for (int64_t i = 0; i < count; i++) {
        const float value = 2 * lks_philox_uniform(lks_philox(key, (uint64_t)i, 0).word[0]) - 1;
        if (bf16)
            ((uint16_t *)values)[i] = lks_bf16_of_float(value);
        else
            ((float *)values)[i] = value;
    }
    lks_status status =
        lks_device_copy(b->device, b->stream, memory, values, bytes, LKS_COPY_TO_DEVICE);
    if (!status) status = lks_stream_synchronize(b->stream);
    free(values);
    return status;
}

static lks_status make_operands(bench *b, const bench_case *c) {
    const lks_op_needs *needs = lks_op_get_needs(b->op);
    const size_t element = lks_dtype_bytes(lks_device_dtype(b->device));
    const size_t x = (size_t)(SAMPLES * c->x_count) * element;
    const size_t y = (size_t)(SAMPLES * c->y_count) * element, params = MAX_PARAM * sizeof(float);
    const size_t bytes[OPERANDS] = {[X] = x,
                                    [X2] = x,
                                    [Y] = y,
                                    [DY] = y,
                                    [DY2] = y,
                                    [DX] = x,
                                    [DX2] = x,
                                    [WEIGHT] = params,
                                    [BIAS] = params,
                                    [DWEIGHT] = params,
                                    [DBIAS] = params,
                                    [SAVED] = needs->saved_bytes,
                                    [SCRATCH] = needs->scratch_bytes};
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < OPERANDS; i++)
        status = lks_device_alloc(b->device, bytes[i], &b->operand[i]);
    for (int i = 0; !status && i < SAVED; i++)
        status = fill(b, b->operand[i], (int64_t)(bytes[i] / element), (uint64_t)i);
    return status;
}

static lks_status run(bench *b, bool backward) {
    const void *const params[] = {b->operand[WEIGHT], b->operand[BIAS]};
    void *const dparams[] = {b->operand[DWEIGHT], b->operand[DBIAS]};
    const lks_op_args args = {
        .batch = SAMPLES,
        .training = true,
        .x = b->operand[X],
        .x2 = b->operand[X2],
        .y = b->operand[Y],
        .params = params,
        .dy = b->operand[DY],
        .dy2 = b->operand[DY2],
        .dx = b->operand[DX],
        .dx2 = b->operand[DX2],
        .dparams = dparams,
        .saved = b->operand[SAVED],
        .scratch = b->operand[SCRATCH],
    };
    return backward ? lks_op_backward(b->op, b->stream, &args)
                    : lks_op_forward(b->op, b->stream, &args);
}

/* ---- time ---- */

/* Several passes queued together: milliseconds of one. */
static lks_status time_passes(bench *b, bool backward, double *out) {
    const double start = lks_clock_seconds();
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < PASSES_PER_TURN; i++)
        status = run(b, backward);
    if (!status) status = lks_stream_synchronize(b->stream);
    *out = (lks_clock_seconds() - start) * 1e3 / PASSES_PER_TURN;
    return status;
}

static void print_list(const char *name, const double *values, int count, const char *end) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++)
        printf("%s%.4f", i ? ", " : "", values[i]);
    printf("]%s", end);
}

static lks_status measure(lks_device *device, const bench_case *c, int turns) {
    bench b = {.device = device, .stream = lks_device_stream(device, LKS_STREAM_COMPUTE)};
    double forward[MAX_TURNS], backward[MAX_TURNS], unused;
    lks_status status = lks_op_create(device, c->kind, c->desc, SAMPLES, &b.op);
    if (!status) status = make_operands(&b, c);
    if (!status) status = time_passes(&b, false, &unused); /* warms up */
    if (!status) status = time_passes(&b, true, &unused);
    for (int t = 0; !status && t < turns; t++) {
        status = time_passes(&b, false, &forward[t]);
        if (!status) status = time_passes(&b, true, &backward[t]);
    }
    if (!status) {
        printf("\"%s\": {", c->name);
        if (c->kind != LKS_OP_FORK) /* which has nothing to do there */
            print_list("forward_ms", forward, turns, ", ");
        print_list("backward_ms", backward, turns, "}");
    }
    for (int i = 0; i < OPERANDS; i++)
        lks_device_free(device, b.operand[i]);
    lks_op_destroy(b.op);
    return status;
}

int main(int argc, char **argv) {
    lks_device_config config = {.local_size = 1};
    lks_device *device = NULL;
    const int turns = argc == 4 ? atoi(argv[3]) : 0;
    if (turns < 1 || turns > MAX_TURNS || lks_precision_by_name(argv[2], &config.precision)) {
        fprintf(stderr, "usage: bench_operations DEVICE fp32|bf16 TURNS\n");
        return 2;
    }
    config.kind = argv[1];
    lks_status status = lks_device_create(&config, &device);
    const size_t count = sizeof cases / sizeof *cases;
    for (size_t i = 0; !status && i < count; i++) {
        printf("%s", i ? ",\n " : "{");
        status = measure(device, &cases[i], turns);
    }
    if (!status) printf("}\n");
    if (status)
        fprintf(stderr, "bench_operations: %s: %s\n", lks_status_text(status), lks_last_error());
    lks_device_destroy(device);
    return status != LKS_OK;
}
