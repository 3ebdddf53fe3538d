#include "device/cpu/parallel.h"

#include <omp.h>
#include <string.h>

void lks_cpu_parallel(const lks_device *device, int64_t count, int64_t align, int64_t grain,
                      lks_cpu_part part, const void *job) {
    if (count <= 0) return;
    int64_t threads = count / (grain > 0 ? grain : 1);
    if (threads > device->threads) threads = device->threads;
    if (threads <= 1) {
        part(job, 0, count);
        return;
    }
    int64_t blocks = (count + align - 1) / align;
#pragma omp parallel num_threads((int)threads)
    {
        int64_t begin, end;
        lks_split(blocks, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        begin *= align;
        end = end * align < count ? end * align : count;
        if (begin < end) part(job, begin, end);
    }
}

typedef struct copy_job {
    const char *from;
    char *to;
} copy_job;

static void copy_part(const void *data, int64_t begin, int64_t end) {
    const copy_job *job = data;
    memcpy(job->to + begin, job->from + begin, (size_t)(end - begin));
}

void lks_cpu_copy_bytes(const lks_device *device, size_t bytes, const void *from, void *to) {
    enum { LINE = LKS_CPU_LINE_FLOATS * sizeof(float), GRAIN = LKS_CPU_GRAIN * sizeof(float) };
    const copy_job job = {from, to};
    lks_cpu_parallel(device, (int64_t)bytes, LINE, GRAIN, copy_part, &job);
}

void lks_cpu_copy(const lks_device *device, lks_dtype type, int64_t count, const void *from,
                  void *to) {
    if (from != to) lks_cpu_copy_bytes(device, (size_t)count * lks_dtype_bytes(type), from, to);
}
