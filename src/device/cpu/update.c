#include "device/cpu/update.h"

#include "device/cpu/cast.h"

typedef struct update_job {
    const lks_update *update;
    lks_cpu_update_part part;
    const void *job;
} update_job;

/* Block by block, so that what is widened and narrowed is in the cache: still one pass. */
static void run_blocks(const update_job *u, int64_t begin, int64_t end) {
    const lks_update *update = u->update;
    float room[LKS_CPU_CAST_BLOCK];
    for (int64_t at = begin; at < end; at += LKS_CPU_CAST_BLOCK) {
        const int64_t n = end - at < LKS_CPU_CAST_BLOCK ? end - at : LKS_CPU_CAST_BLOCK;
        float *param = update->param + at;
        u->part(u->job, at, n, param, lks_cpu_floats(update->grad_type, update->grad, at, n, room));
        if (update->copy) lks_cpu_narrow(n, param, (uint16_t *)update->copy + at);
    }
}

static void run_part(const void *data, int64_t begin, int64_t end) {
    const update_job *u = data;
    const lks_update *update = u->update;
    if (update->grad_type == LKS_F32 && !update->copy)
        u->part(u->job, begin, end - begin, update->param + begin,
                (const float *)update->grad + begin);
    else
        run_blocks(u, begin, end);
}

void lks_cpu_update_run(const lks_device *device, const lks_update *update,
                        lks_cpu_update_part part, const void *job) {
    const update_job u = {update, part, job};
    lks_cpu_parallel(device, update->count, LKS_CPU_LINE_FLOATS, LKS_CPU_GRAIN, run_part, &u);
}
