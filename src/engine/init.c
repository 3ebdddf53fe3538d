/* Initial values of parameters and buffers. */
#include <string.h>

#include "engine/graph.h"

/* Elements [first, first + count) of a parameter. Element e is word e % 4 of block e / 4 of the
 * key, whatever the number of ranks. With u of 24 bits, 2u - 1 is exact in float32: one rounding in
 * all, so that any implementation agrees. */
static void fill_uniform(lks_philox_key key, double bound, int64_t first, int64_t count,
                         float *values) {
    const float scale = (float)bound;
    lks_philox_block block = lks_philox(key, (uint64_t)first / 4, 0);
    for (int64_t e = first; e < first + count; e++) {
        if (e % 4 == 0) block = lks_philox(key, (uint64_t)e / 4, 0);
        values[e - first] = (2 * lks_philox_uniform(block.word[e % 4]) - 1) * scale;
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

/* Elements [offset, offset + count) of the table's flat array; gaps between parameters are zero. */
static void fill_range(const lks_graph *graph, const lks_param_table *table, int64_t offset,
                       int64_t count, float *values) {
    memset(values, 0, (size_t)count * sizeof(float));
    for (int i = 0; i < table->count; i++) {
        const lks_param *param = &table->params[i];
        const int64_t param_end = param->offset + param->count, end = offset + count;
        const int64_t first = param->offset > offset ? param->offset : offset;
        const int64_t last = param_end < end ? param_end : end;
        if (first >= last) continue;
        const lks_philox_key key =
            lks_philox_key_make(graph->config.seed, LKS_RANDOM_INIT, (uint32_t)i);
        fill(&table->inits[i], key, first - param->offset, last - first, values + first - offset);
    }
}

enum { CHUNK = 1 << 16 }; /* numbers on their way to the device at a time */

typedef struct chunk {
    float values[CHUNK];
    uint16_t halves[CHUNK];
} chunk;

static lks_status upload(lks_graph *graph, chunk *c, int64_t count, lks_dtype type, void *to) {
    lks_stream *stream = lks_device_stream(graph->device, LKS_STREAM_COMPUTE);
    for (int64_t i = 0; i < count && type == LKS_BF16; i++)
        c->halves[i] = lks_bf16_of_float(c->values[i]);
    lks_status status = lks_device_copy(graph->device, stream, to,
                                        type == LKS_BF16 ? (const void *)c->halves : c->values,
                                        (size_t)count * lks_dtype_bytes(type), LKS_COPY_TO_DEVICE);
    return status == LKS_OK ? lks_stream_synchronize(stream) : status;
}

lks_status lks_graph_init_range(lks_graph *graph, const lks_param_table *table, int64_t offset,
                                int64_t count, lks_dtype type, void *to) {
    if (lks_device_is_measuring(graph->device)) return LKS_OK;
    void *memory;
    lks_status status = lks_device_alloc_host(graph->device, sizeof(chunk), &memory);
    if (status != LKS_OK) return status;
    chunk *c = memory;
    for (int64_t done = 0; done < count && status == LKS_OK; done += CHUNK) {
        const int64_t now = count - done < CHUNK ? count - done : CHUNK;
        fill_range(graph, table, offset + done, now, c->values);
        status = upload(graph, c, now, type, (char *)to + (size_t)done * lks_dtype_bytes(type));
    }
    lks_device_free_host(graph->device, memory);
    return status;
}

lks_status lks_graph_initial_params(lks_graph *graph, int64_t offset, int64_t count, float *out) {
    return lks_graph_init_range(graph, &graph->params, offset, count, LKS_F32, out);
}
