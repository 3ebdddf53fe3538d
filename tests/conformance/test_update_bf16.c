/* Updates with gradients in bfloat16 and a rounded copy of the parameters: the float32 results are
 * those of the same gradients in float32, to the last bit, and the copy is their rounding. */
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

enum { LARGEST = 20011, STATES = 3, SPARE = 3 };

typedef lks_status (*update_fn)(lks_device *device, lks_stream *stream, const lks_update *update,
                                float *const *states);

static lks_status sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                      float *const *states) {
    const lks_sgd_update own = {.momentum = 0.9, .momentum_buffer = states[0]};
    return lks_device_sgd(device, stream, update, &own);
}

static lks_status adam(lks_device *device, lks_stream *stream, const lks_update *update,
                       float *const *states) {
    const lks_adam_update own = {.beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .eps = 1e-8,
                                 .exp_avg = states[0],
                                 .exp_avg_sq = states[1],
                                 .max_exp_avg_sq = states[2]};
    return lks_device_adam(device, stream, update, &own);
}

static lks_status rmsprop(lks_device *device, lks_stream *stream, const lks_update *update,
                          float *const *states) {
    const lks_rmsprop_update own = {
        .alpha = 0.99, .eps = 1e-8, .square_avg = states[0], .grad_avg = states[1]};
    return lks_device_rmsprop(device, stream, update, &own);
}

static lks_status adagrad(lks_device *device, lks_stream *stream, const lks_update *update,
                          float *const *states) {
    const lks_adagrad_update own = {.eps = 1e-10, .sum = states[0]};
    return lks_device_adagrad(device, stream, update, &own);
}

/* One update of elements [begin, begin + count); params [count + SPARE] come back. */
static void run(lks_device *device, update_fn update, int64_t begin, int64_t count,
                lks_dtype grad_type, float *params, uint16_t *copy) {
    const int64_t all = count + SPARE;
    const double one = 1;
    float *grads = check_random(2, all, -1, 1), *squares = check_random(3, all, 0.5, 1);
    uint16_t halves[LARGEST + SPARE];
    float *states[STATES];
    for (int64_t i = 0; i < all; i++) {
        halves[i] = lks_bf16_of_float(grads[i]);
        grads[i] = lks_bf16_to_float(halves[i]);
    }
    const bool half = grad_type == LKS_BF16;
    float *param = check_device_copy(device, params, (size_t)all * sizeof(float));
    char *grad = check_device_copy(device, half ? (void *)halves : grads,
                                   (size_t)all * lks_dtype_bytes(grad_type));
    uint16_t *rounded = check_device_copy(device, copy, (size_t)all * sizeof(uint16_t));
    void *divisor = check_device_copy(device, &one, sizeof one);
    void *memory[STATES];
    for (int s = 0; s < STATES; s++) {
        memory[s] = check_device_copy(device, squares, (size_t)all * sizeof(float));
        states[s] = (float *)memory[s] + begin;
    }
    const lks_update common = {
        .count = count,
        .param = param + begin,
        .grad = grad + (size_t)begin * lks_dtype_bytes(grad_type),
        .grad_type = grad_type,
        .copy = half ? rounded + begin : NULL,
        .divisor = divisor,
        .grad_scale = 0.5,
        .lr = 0.01,
        .weight_decay = 0.1,
        .step = 2,
    };
    check_ok(update(device, lks_device_stream(device, LKS_STREAM_COMPUTE), &common, states));
    check_download(device, params, param, (size_t)all * sizeof(float));
    check_download(device, copy, rounded, (size_t)all * sizeof(uint16_t));
    for (int s = 0; s < STATES; s++)
        lks_device_free(device, memory[s]);
    lks_device_free(device, param);
    lks_device_free(device, grad);
    lks_device_free(device, rounded);
    lks_device_free(device, divisor);
    free(grads);
    free(squares);
}

static void test_bf16_gradients_and_copy(void **state) {
    static const update_fn updates[] = {sgd, adam, rmsprop, adagrad};
    static const int64_t counts[] = {1, 3, 8, 61, 2048, LARGEST};
    for (size_t u = 0; u < sizeof updates / sizeof *updates; u++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int64_t begin = 0; begin < SPARE; begin++) {
                const int64_t count = counts[c], all = count + SPARE;
                float *wide = check_random(1, all, -1, 1), *half = check_random(1, all, -1, 1);
                uint16_t copy[LARGEST + SPARE] = {0};
                run(*state, updates[u], begin, count, LKS_F32, wide, copy);
                for (int64_t i = 0; i < all; i++)
                    assert_int_equal(copy[i], 0);
                run(*state, updates[u], begin, count, LKS_BF16, half, copy);
                assert_memory_equal(wide, half, (size_t)all * sizeof(float));
                for (int64_t i = 0; i < all; i++) {
                    const bool inside = i >= begin && i < begin + count;
                    assert_int_equal(copy[i], inside ? lks_bf16_of_float(half[i]) : 0);
                }
                free(wide);
                free(half);
            }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16_gradients_and_copy)};
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
