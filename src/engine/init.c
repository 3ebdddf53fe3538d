/* Initial values of parameters and buffers. */
#include <string.h>

#include "engine/graph.h"

/* Element e is word e % 4 of block e / 4 of the key, whatever the number of ranks. With u of 24
 * bits, 2u - 1 is exact in float32: one rounding in all, so that any implementation agrees. */
static void fill_uniform(lks_philox_key key, double bound, int64_t count, float *values) {
    float scale = (float)bound;
    for (int64_t e = 0; e < count; e += 4) {
        lks_philox_block block = lks_philox(key, (uint64_t)e / 4, 0);
        for (int64_t word = 0; word < 4 && e + word < count; word++)
            values[e + word] = (2 * lks_philox_uniform(block.word[word]) - 1) * scale;
    }
}

static void fill(const lks_init *init, lks_philox_key key, int64_t count, float *values) {
    if (init->rule == LKS_INIT_UNIFORM) {
        fill_uniform(key, init->bound, count, values);
        return;
    }
    for (int64_t e = 0; e < count; e++)
        values[e] = init->rule == LKS_INIT_ONE ? 1.0f : 0.0f;
}

lks_status lks_graph_init_flat(lks_graph *graph, const lks_param_table *table, float *flat) {
    lks_stream *stream = lks_device_stream(graph->device, LKS_STREAM_COMPUTE);
    size_t bytes = (size_t)table->flat_count * sizeof(float);
    void *memory;
    lks_status status = lks_device_alloc_host(graph->device, bytes, &memory);
    if (status != LKS_OK) return status;
    float *values = memory;
    memset(values, 0, bytes);
    for (int i = 0; i < table->count; i++) {
        lks_philox_key key = lks_philox_key_make(graph->config.seed, LKS_RANDOM_INIT, (uint32_t)i);
        fill(&table->inits[i], key, table->params[i].count, values + table->params[i].offset);
    }
    status = lks_device_copy(graph->device, stream, flat, values, bytes, LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    lks_device_free_host(graph->device, memory);
    return status;
}
