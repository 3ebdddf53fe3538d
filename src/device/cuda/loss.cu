/* Losses with their gradients and the sums that metrics are made of. A block adds up its samples,
 * or its elements, in float64; then the blocks' sums are added in order. */
#include "device/cuda/partials.cuh"
#include "device/cuda/rows.cuh"
#include "device/cuda/run.cuh"

namespace {

struct loss_sums {
    double value[LKS_LOSS_SUM_COUNT];
};

} // namespace

/* Writes the block's sums of what its threads have. */
static __device__ void store_partials(const loss_sums &sums, double *partials) {
    for (int i = 0; i < LKS_LOSS_SUM_COUNT; i++) {
        const double sum = lks_block_sum(sums.value[i]);
        if (threadIdx.x == 0) partials[blockIdx.x * LKS_LOSS_SUM_COUNT + i] = sum;
    }
}

/* ---- classes ---- */

template <typename Team> static __device__ void write_zeros(Team team, int64_t width, float *d) {
    if (!d) return;
    const float zeros[Team::WIDTH] = {};
    for (int64_t i = (int64_t)team.thread() * Team::WIDTH; i < width;
         i += (int64_t)team.threads() * Team::WIDTH)
        lks_store<float, Team::WIDTH>(d + i, zeros);
}

/* One sample of cross-entropy with class probabilities (1 - s) [c == target] + s / width:
 *     loss = lse(x) - (1 - s) x[target] - s mean(x),   lse(x) = max + log sum e^(x - max)
 *     d loss / d x = softmax(x) - probabilities
 * d may be x or NULL. A target that is not a class gives NaN: the device cannot stop here. The sums
 * are the same in all threads of the team. */
template <typename Team>
static __device__ void cross_entropy_sample(Team team, const lks_loss_desc &desc, int32_t target,
                                            const float *x, float *d, loss_sums *sums) {
    enum { N = Team::WIDTH };
    const int64_t width = desc.width;
    const double smoothing = desc.label_smoothing;
    if (target == desc.ignore_index) {
        write_zeros(team, width, d);
        return;
    }
    sums->value[LKS_SUM_WEIGHT] += 1;
    sums->value[LKS_SUM_COUNTED] += 1;
    if (target < 0 || target >= width) {
        sums->value[LKS_SUM_LOSS] += (double)NAN;
        write_zeros(team, width, d);
        return;
    }
    const float chosen = x[target];
    float max = -INFINITY;
    team.each(x, width, [&](int64_t, const float *v) {
        for (int j = 0; j < N; j++)
            max = v[j] > max ? v[j] : max;
    });
    max = team.max(max);

    float sum = 0.0f;
    double below = 0;
    int earlier = 0; /* as large as the largest, before the target: the first counts, as in torch */
    team.each(x, width, [&](int64_t i, const float *v) {
        for (int j = 0; j < N; j++) {
            sum += expf(v[j] - max);
            earlier += i + j < target && v[j] == max;
            if (smoothing > 0) below += (double)(max - v[j]);
        }
    });
    sum = team.sum(sum);
    earlier = team.sum(earlier);
    sums->value[LKS_SUM_CORRECT] += chosen == max && earlier == 0;
    const double mean_below = smoothing > 0 ? team.sum(below) / (double)width : 0;
    sums->value[LKS_SUM_LOSS] +=
        log((double)sum) + (1 - smoothing) * (double)(max - chosen) + smoothing * mean_below;
    if (!d) return;
    const float scale = 1.0f / sum, shift = (float)(smoothing / (double)width);
    const float peak = (float)(1 - smoothing);
    team.map(x, d, width, [&](int64_t i, float *v) {
        for (int j = 0; j < N; j++)
            v[j] = expf(v[j] - max) * scale - shift - (i + j == target ? peak : 0.0f);
    });
}

template <typename Team>
static __global__ void cross_entropy(Team team, lks_loss_desc desc, int64_t batch,
                                     const float *logits, const int32_t *targets, float *dlogits,
                                     double *partials) {
    loss_sums sums = {};
    for (int64_t r = team.first(); r < batch; r += team.stride()) {
        const int64_t at = r * desc.width;
        cross_entropy_sample(team, desc, targets[r], logits + at, dlogits ? dlogits + at : nullptr,
                             &sums);
    }
    if (team.thread() != 0) sums = loss_sums{};
    store_partials(sums, partials);
}

/* ---- elements ---- */

/* The loss of one element, and its slope. */
template <lks_loss_kind KIND>
static __device__ float element(float delta, float x, float t, float *slope) {
    const float e = x - t, size = fabsf(e);
    if (KIND == LKS_LOSS_MSE) {
        *slope = 2.0f * e;
        return e * e;
    }
    if (KIND == LKS_LOSS_L1) {
        *slope = e > 0.0f ? 1.0f : (e < 0.0f ? -1.0f : e); /* e: 0 or NaN */
        return size;
    }
    if (KIND == LKS_LOSS_HUBER) {
        *slope = e > delta ? delta : (e < -delta ? -delta : e);
        return size <= delta ? 0.5f * e * e : delta * (size - 0.5f * delta);
    }
    /* BCE_WITH_LOGITS, -t log s(x) - (1 - t) log(1 - s(x)), in the form that cannot overflow */
    const float u = expf(-fabsf(x));
    *slope = (x < 0.0f ? u : 1.0f) / (1.0f + u) - t;
    return (x > 0.0f ? x : 0.0f) - x * t + log1pf(u);
}

/* N elements from place i on; d may be x or NULL. */
template <lks_loss_kind KIND, int N>
static __device__ void add_elements(float delta, int64_t i, const float *x, const float *t,
                                    float *d, loss_sums *sums) {
    float logit[N], target[N], slope[N];
    lks_load<float, N>(x + i, logit);
    lks_load<float, N>(t + i, target);
    for (int j = 0; j < N; j++) {
        sums->value[LKS_SUM_LOSS] += (double)element<KIND>(delta, logit[j], target[j], &slope[j]);
        if (KIND == LKS_LOSS_BCE_WITH_LOGITS)
            sums->value[LKS_SUM_CORRECT] += (logit[j] > 0.0f) == (target[j] > 0.5f);
    }
    sums->value[LKS_SUM_WEIGHT] += N;
    if (KIND == LKS_LOSS_BCE_WITH_LOGITS) sums->value[LKS_SUM_COUNTED] += N;
    if (d) lks_store<float, N>(d + i, slope);
}

enum { QUAD = 4 }; /* elements of an access */

template <lks_loss_kind KIND>
static __global__ void elements(lks_run run, float delta, const float *x, const float *t, float *d,
                                double *partials) {
    loss_sums sums = {};
    lks_each<QUAD>(
        run, [&](auto width, int64_t at) { add_elements<KIND, width>(delta, at, x, t, d, &sums); });
    store_partials(sums, partials);
}

/* ---- the batch ---- */

static lks_status run_classes(lks_stream *stream, const lks_loss_desc *desc, int64_t batch,
                              const float *logits, const int32_t *targets, float *dlogits,
                              unsigned *blocks) {
    *blocks = lks_cuda_partial_blocks(batch, lks_rows_of_block(desc->width));
    return lks_with_row_team<float>(desc->width, lks_cuda_aligned(logits, dlogits), [&](auto team) {
        return lks_cuda_launch(stream, "cross-entropy", cross_entropy<decltype(team)>, *blocks,
                               LKS_CUDA_BLOCK, 0, team, *desc, batch, logits, targets, dlogits,
                               lks_cuda_partials(stream));
    });
}

template <lks_loss_kind KIND>
static lks_status run_elements(lks_stream *stream, const lks_loss_desc *desc, int64_t batch,
                               const float *logits, const float *targets, float *dlogits,
                               unsigned *blocks) {
    const int64_t count = batch * desc->width;
    const lks_run run = lks_cuda_run<QUAD>(count, logits, targets, dlogits);
    *blocks = lks_cuda_partial_blocks(count, LKS_CUDA_BLOCK * QUAD);
    return lks_cuda_launch(stream, "loss", elements<KIND>, *blocks, LKS_CUDA_BLOCK, 0, run,
                           (float)desc->delta, logits, targets, dlogits, lks_cuda_partials(stream));
}

static lks_status run(lks_stream *stream, const lks_loss_desc *desc, int64_t batch,
                      const float *logits, const void *targets, float *dlogits, unsigned *blocks) {
    const float *values = (const float *)targets;
    switch (desc->kind) {
    case LKS_LOSS_CROSS_ENTROPY:
        return run_classes(stream, desc, batch, logits, (const int32_t *)targets, dlogits, blocks);
    case LKS_LOSS_MSE:
        return run_elements<LKS_LOSS_MSE>(stream, desc, batch, logits, values, dlogits, blocks);
    case LKS_LOSS_L1:
        return run_elements<LKS_LOSS_L1>(stream, desc, batch, logits, values, dlogits, blocks);
    case LKS_LOSS_HUBER:
        return run_elements<LKS_LOSS_HUBER>(stream, desc, batch, logits, values, dlogits, blocks);
    case LKS_LOSS_BCE_WITH_LOGITS:
        return run_elements<LKS_LOSS_BCE_WITH_LOGITS>(stream, desc, batch, logits, values, dlogits,
                                                      blocks);
    }
    return LKS_EUNSUPPORTED;
}

lks_status lks_cuda_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                         int64_t batch, const float *logits, const void *targets, float *dlogits,
                         double *sums) {
    (void)device;
    unsigned blocks = 0;
    lks_status status = run(stream, desc, batch, logits, targets, dlogits, &blocks);
    if (status != LKS_OK) return status;
    return lks_cuda_combine<LKS_LOSS_SUM_COUNT>(stream, "loss", blocks, sums, lks_plus());
}
