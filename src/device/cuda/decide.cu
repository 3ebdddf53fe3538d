/* Whether and how a step updates. */
#include "device/cuda/kernel.cuh"

static __global__ void decide(lks_decision decision, lks_update_control *control) {
    if (lks_thread() != 0) return;
    const double parts = *decision.parts, *sums = decision.sums;
    const double whole = decision.norm_kind == LKS_NORM_2 ? sqrt(parts) : parts;
    const double norm = whole / sums[LKS_SUM_WEIGHT];
    const double factor = decision.clip_norm / (norm + 1e-6); /* PyTorch's guard against / 0 */
    const bool finite = isfinite(norm) && isfinite(sums[LKS_SUM_LOSS]);
    control->norm = norm;
    control->grad_scale = decision.clip_norm > 0 && factor < 1 ? factor : 1;
    control->skip = !finite;
    control->skipped = finite ? 0 : control->skipped + 1;
    control->step += finite;
}

lks_status lks_cuda_decide(lks_device *device, lks_stream *stream, const lks_decision *decision,
                           lks_update_control *control) {
    (void)device;
    return lks_cuda_launch(stream, "decision about an update", decide, 1, LKS_CUDA_WARP, 0,
                           *decision, control);
}
