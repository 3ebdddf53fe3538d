/* A small model on the CPU device with its flat buffers, for the tests of the engine. */
#ifndef LKS_TESTS_ENGINE_CASE_H
#define LKS_TESTS_ENGINE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

#define assert_ok(call)                                                                        \
    do {                                                                                       \
        lks_status status_ = (call);                                                           \
        if (status_ != LKS_OK) fail_msg("%s: %s", lks_status_text(status_), lks_last_error()); \
    } while (0)

static inline void assert_error_has(const char *part) {
    if (strstr(lks_last_error(), part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", lks_last_error(), part);
}

typedef struct engine_case {
    lks_device *device;
    lks_graph *graph;
    float *params, *grads;
    double *sums;
} engine_case;

static inline lks_device *engine_case_device(void) {
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 2;
    lks_device *device = NULL;
    assert_ok(lks_device_create(&config, &device));
    return device;
}

/* Builds and binds; with config->inference_only no gradients. loss may be NULL. */
static inline engine_case engine_case_open(const lks_layer_spec *layers, lks_shape input,
                                           const lks_spec *loss, const lks_graph_config *config) {
    engine_case c = {.device = engine_case_device()};
    assert_ok(lks_graph_create(c.device, layers, &input, loss, config, &c.graph));
    size_t bytes = (size_t)lks_graph_flat_count(c.graph) * sizeof(float);
    assert_ok(lks_device_alloc(c.device, bytes, (void **)&c.params));
    if (!config->inference_only) assert_ok(lks_device_alloc(c.device, bytes, (void **)&c.grads));
    /* What bind does not write shows as NaN. */
    memset(c.params, 0xff, bytes);
    if (c.grads != NULL) memset(c.grads, 0xff, bytes);
    assert_ok(lks_device_alloc(c.device, LKS_LOSS_SUM_COUNT * sizeof(double), (void **)&c.sums));
    memset(c.sums, 0, LKS_LOSS_SUM_COUNT * sizeof(double));
    assert_ok(lks_graph_bind(c.graph, c.params, c.grads));
    return c;
}

static inline void engine_case_close(engine_case *c) {
    lks_graph_destroy(c->graph);
    lks_device_free(c->device, c->params);
    lks_device_free(c->device, c->grads);
    lks_device_free(c->device, c->sums);
    lks_device_destroy(c->device);
}

/* Numbers in [-1, 1), the same for the same seed. */
static inline void engine_case_fill(float *values, int64_t count, uint64_t seed) {
    lks_philox_key key = lks_philox_key_make(seed, LKS_RANDOM_AUGMENT, 7);
    for (int64_t i = 0; i < count; i++)
        values[i] = 2 * lks_philox_uniform(lks_philox(key, (uint64_t)i, 0).word[0]) - 1;
}

#endif
