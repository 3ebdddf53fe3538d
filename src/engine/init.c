/* Initial values of parameters and buffers. */
#include "engine/graph.h"

/* Numbers on their way to the device at a time: a multiple of a random block's four. */
enum { CHUNK = 1 << 16 };

/* Elements [first, first + count) of a parameter; first is a multiple of 4. Element e is word e % 4
 * of block e / 4 of the key, whatever the number of ranks. With u of 24 bits, 2u - 1 is exact in
 * float32: one rounding in all, so that any implementation agrees. */
static void fill_uniform(lks_philox_key key, double bound, int64_t first, int64_t count,
                         float *values) {
    float scale = (float)bound;
    for (int64_t e = 0; e < count; e += 4) {
        lks_philox_block block = lks_philox(key, (uint64_t)(first + e) / 4, 0);
        for (int64_t word = 0; word < 4 && e + word < count; word++)
            values[e + word] = (2 * lks_philox_uniform(block.word[word]) - 1) * scale;
    }
}

static void fill(const lks_init *init, lks_philox_key key, int64_t first, int64_t count,
                 float *values) {
    if (init->rule == LKS_INIT_UNIFORM) {
        fill_uniform(key, init->bound, first, count, values);
        return;
    }
    for (int64_t e = 0; e < count; e++)
        values[e] = init->rule == LKS_INIT_ONE ? 1.0f : 0.0f;
}

/* One parameter, through `chunk` on the host. */
static lks_status init_param(lks_graph *graph, const lks_param_table *table, int index,
                             float *chunk, float *flat) {
    const lks_param *param = &table->params[index];
    lks_stream *stream = lks_device_stream(graph->device, LKS_STREAM_COMPUTE);
    lks_philox_key key = lks_philox_key_make(graph->config.seed, LKS_RANDOM_INIT, (uint32_t)index);
    lks_status status = LKS_OK;
    for (int64_t first = 0; first < param->count && status == LKS_OK; first += CHUNK) {
        int64_t count = param->count - first < CHUNK ? param->count - first : CHUNK;
        fill(&table->inits[index], key, first, count, chunk);
        status = lks_device_copy(graph->device, stream, flat + param->offset + first, chunk,
                                 (size_t)count * sizeof(float), LKS_COPY_TO_DEVICE);
        if (status == LKS_OK) status = lks_stream_synchronize(stream);
    }
    return status;
}

lks_status lks_graph_init_flat(lks_graph *graph, const lks_param_table *table, float *flat) {
    lks_stream *stream = lks_device_stream(graph->device, LKS_STREAM_COMPUTE);
    if (lks_device_is_measuring(graph->device)) return LKS_OK;
    void *chunk;
    lks_status status = lks_device_alloc_host(graph->device, CHUNK * sizeof(float), &chunk);
    if (status != LKS_OK) return status;
    /* the gaps between parameters are zero, and stay zero */
    status =
        lks_device_zero(graph->device, stream, flat, (size_t)table->flat_count * sizeof(float));
    for (int i = 0; i < table->count && status == LKS_OK; i++)
        status = init_param(graph, table, i, chunk, flat);
    lks_device_free_host(graph->device, chunk);
    return status;
}
