/* Between bfloat16 and float32. */
#include "device/cpu/cast.h"

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"

LKS_CPU_CLONES
void lks_cpu_widen(int64_t n, const uint16_t *from, float *to) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = lks_bf16_to_float(from[i]);
}

LKS_CPU_CLONES
void lks_cpu_narrow(int64_t n, const float *from, uint16_t *to) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = lks_bf16_of_float(from[i]);
}

const float *lks_cpu_floats(lks_dtype type, const void *array, int64_t at, int64_t n, float *room) {
    if (type == LKS_F32) return (const float *)array + at;
    lks_cpu_widen(n, (const uint16_t *)array + at, room);
    return room;
}

float *lks_cpu_results(lks_dtype type, void *array, int64_t at, float *room) {
    return type == LKS_F32 ? (float *)array + at : room;
}

void lks_cpu_finish(lks_dtype type, void *array, int64_t at, int64_t n, const float *room) {
    if (type == LKS_BF16) lks_cpu_narrow(n, room, (uint16_t *)array + at);
}

typedef struct cast_job {
    lks_dtype from_type;
    const void *from;
    void *to;
} cast_job;

static void cast_part(const void *data, int64_t begin, int64_t end) {
    const cast_job *job = data;
    if (job->from_type == LKS_BF16)
        lks_cpu_widen(end - begin, (const uint16_t *)job->from + begin, (float *)job->to + begin);
    else
        lks_cpu_narrow(end - begin, (const float *)job->from + begin, (uint16_t *)job->to + begin);
}

lks_status lks_cpu_cast(lks_device *device, lks_stream *stream, int64_t count, lks_dtype from_type,
                        const void *from, lks_dtype to_type, void *to) {
    (void)stream;
    (void)to_type; /* the other one */
    const cast_job job = {from_type, from, to};
    lks_cpu_parallel(device, count, 2 * LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, cast_part, &job);
    return LKS_OK;
}
