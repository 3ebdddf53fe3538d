/* Whether and how a step updates. */
#include <math.h>

#include "device/cpu/cpu.h"

lks_status lks_cpu_decide(lks_device *device, lks_stream *stream, const lks_decision *decision,
                          lks_update_control *control) {
    (void)device;
    (void)stream;
    const double parts = decision->parts[0], *sums = decision->sums;
    const double whole = decision->norm_kind == LKS_NORM_2 ? sqrt(parts) : parts;
    const double norm = whole / sums[LKS_SUM_WEIGHT];
    const double factor = decision->clip_norm / (norm + 1e-6); /* PyTorch's guard against / 0 */
    const bool failed = decision->parts[1] > 0;
    const bool finite = isfinite(norm) && isfinite(sums[LKS_SUM_LOSS]);
    control->norm = norm;
    control->grad_scale = decision->clip_norm > 0 && factor < 1 ? factor : 1;
    const bool skip = failed || !finite;
    control->failed = failed;
    control->skip = skip;
    control->step = decision->counters->updates + !skip;
    for (int i = 0; i < LKS_LOSS_SUM_COUNT && !skip; i++)
        decision->totals[i] += sums[i];
    return LKS_OK;
}
