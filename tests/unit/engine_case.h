/* A small model with its flat buffers, on the CPU unless another device is asked for, for the tests
 * of the engine. */
#ifndef LKS_TESTS_ENGINE_CASE_H
#define LKS_TESTS_ENGINE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
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

static inline lks_device *engine_case_device_of(const char *kind) {
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = kind;
    config.threads = 2;
    lks_device *device = NULL;
    assert_ok(lks_device_create(&config, &device));
    return device;
}

static inline lks_device *engine_case_device(void) {
    return engine_case_device_of("cpu");
}

static inline void engine_case_copy(const engine_case *c, void *to, const void *from, size_t bytes,
                                    lks_copy_kind kind) {
    lks_stream *stream = lks_device_stream(c->device, LKS_STREAM_COMPUTE);
    assert_ok(lks_device_copy(c->device, stream, to, from, bytes, kind));
    assert_ok(lks_stream_synchronize(stream));
}

static inline void engine_case_upload(const engine_case *c, void *to, const void *from,
                                      size_t bytes) {
    engine_case_copy(c, to, from, bytes, LKS_COPY_TO_DEVICE);
}

static inline void engine_case_download(const engine_case *c, void *to, const void *from,
                                        size_t bytes) {
    engine_case_copy(c, to, from, bytes, LKS_COPY_TO_HOST);
}

/* `bytes` of device memory, which show as NaN. */
static inline void *engine_case_poisoned(const engine_case *c, size_t bytes) {
    void *memory = NULL, *poison = malloc(bytes + 1);
    assert_non_null(poison);
    memset(poison, 0xff, bytes);
    assert_ok(lks_device_alloc(c->device, bytes, &memory));
    engine_case_upload(c, memory, poison, bytes);
    free(poison);
    return memory;
}

/* Builds and binds; with config->inference_only no gradients. loss may be NULL. The case owns the
 * device. */
static inline engine_case engine_case_open_on(lks_device *device, const lks_layer_spec *layers,
                                              lks_shape input, const lks_spec *loss,
                                              const lks_graph_config *config) {
    engine_case c = {.device = device};
    assert_ok(lks_graph_create(c.device, layers, &input, loss, config, &c.graph));
    size_t bytes = (size_t)lks_graph_flat_count(c.graph) * sizeof(float);
    /* What bind does not write shows as NaN. */
    c.params = engine_case_poisoned(&c, bytes);
    if (!config->inference_only) c.grads = engine_case_poisoned(&c, bytes);
    const double zeros[LKS_LOSS_SUM_COUNT] = {0};
    c.sums = engine_case_poisoned(&c, sizeof zeros);
    engine_case_upload(&c, c.sums, zeros, sizeof zeros);
    assert_ok(lks_graph_bind(c.graph, c.params, c.grads));
    return c;
}

static inline engine_case engine_case_open(const lks_layer_spec *layers, lks_shape input,
                                           const lks_spec *loss, const lks_graph_config *config) {
    return engine_case_open_on(engine_case_device(), layers, input, loss, config);
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
