/* Losses with their gradients and the sums that metrics are made of.
 *
 * The batch is cut into units of work: samples for classes, blocks of BLOCK elements otherwise.
 * Units are added up in at most PARTS contiguous groups, and these in order, so that the result
 * does not depend on the number of threads. */
#include <math.h>

#include "device/cpu/cpu.h"
#include "device/cpu/lanes.h"
#include "device/cpu/parallel.h"

enum { BLOCK = 4096, PARTS = 256, LANES = LKS_CPU_LANES };

typedef struct loss_sums {
    double value[LKS_LOSS_SUM_COUNT];
} loss_sums;

typedef struct loss_job {
    const lks_loss_desc *desc;
    const float *logits;
    const void *targets;
    float *dlogits;
    int64_t count, units, units_of_part; /* count: elements of the batch */
    loss_sums *parts;
} loss_job;

/* ---- classes ---- */

/* Is `value` among x[n]? */
LKS_CPU_INLINE bool contains(int64_t n, const float *x, float value) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t i = 0; i < n; i++)
        found |= x[i] == value;
    return found != 0;
}

/* The sum of max - x over x[n], float64. */
LKS_CPU_INLINE double sum_below(int64_t n, const float *x, float max) {
    const int64_t whole = n - n % LANES;
    double lanes[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i < whole; i += LANES)
#pragma omp simd
        for (int j = 0; j < LANES; j++)
            lanes[j] += (double)(max - x[i + j]);
    for (int64_t i = whole; i < n; i++)
        lanes[i - whole] += (double)(max - x[i]);
    for (int j = 0; j < LANES; j++)
        sum += lanes[j];
    return sum;
}

/* One sample of cross-entropy with class probabilities (1 - s) [c == target] + s / width:
 *     loss = lse(x) - (1 - s) x[target] - s mean(x),   lse(x) = max + log sum e^(x - max)
 *     d loss / d x = softmax(x) - probabilities
 * d may be x or NULL. A target that is not a class gives NaN: the device cannot stop here. */
LKS_CPU_CLONES
static void cross_entropy_sample(const lks_loss_desc *desc, int32_t target, const float *x,
                                 float *d, loss_sums *sums) {
    const int64_t width = desc->width;
    const double smoothing = desc->label_smoothing;
    if (target == desc->ignore_index) {
        if (d) memset(d, 0, (size_t)width * sizeof(float));
        return;
    }
    sums->value[LKS_SUM_WEIGHT] += 1;
    sums->value[LKS_SUM_COUNTED] += 1;
    if (target < 0 || target >= width) {
        sums->value[LKS_SUM_LOSS] += (double)NAN;
        if (d) memset(d, 0, (size_t)width * sizeof(float));
        return;
    }
    const float max = lks_row_max(width, x);
    if (x[target] == max && !contains(target, x, max)) /* the first largest, as torch */
        sums->value[LKS_SUM_CORRECT] += 1;
    const double below = (double)(max - x[target]);
    const double mean_below = smoothing > 0 ? sum_below(width, x, max) / (double)width : 0;

    const float sum = lks_row_exp(width, x, max, d); /* overwrites x where d is x */
    sums->value[LKS_SUM_LOSS] +=
        log((double)sum) + (1 - smoothing) * below + smoothing * mean_below;
    if (d) {
        const float scale = 1.0f / sum, shift = (float)(smoothing / (double)width);
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            d[i] = d[i] * scale - shift;
        d[target] -= (float)(1 - smoothing);
    }
}

/* ---- elements ---- */

/* The loss of one element, and its slope. */
LKS_CPU_INLINE float element(lks_loss_kind kind, float delta, float x, float t, float *slope) {
    const float e = x - t, size = fabsf(e);
    if (kind == LKS_LOSS_MSE) {
        *slope = 2.0f * e;
        return e * e;
    }
    if (kind == LKS_LOSS_L1) {
        *slope = e > 0.0f ? 1.0f : (e < 0.0f ? -1.0f : e); /* e: 0 or NaN */
        return size;
    }
    if (kind == LKS_LOSS_HUBER) {
        *slope = e > delta ? delta : (e < -delta ? -delta : e);
        return size <= delta ? 0.5f * e * e : delta * (size - 0.5f * delta);
    }
    /* BCE_WITH_LOGITS, -t log s(x) - (1 - t) log(1 - s(x)), in the form that cannot overflow */
    const float u = lks_expf(-fabsf(x));
    *slope = (x < 0.0f ? u : 1.0f) / (1.0f + u) - t;
    return (x > 0.0f ? x : 0.0f) - x * t + lks_log1pf_unit(u);
}

/* Partial sums of a block. */
typedef struct element_lanes {
    double loss[LANES];
    int32_t correct[LANES];
} element_lanes;

/* n <= LANES elements; d may be x or NULL. */
LKS_CPU_INLINE void element_lane(lks_loss_kind kind, float delta, int n, const float *x,
                                 const float *t, float *d, element_lanes *lanes) {
    float loss[LANES], slope[LANES];
#pragma omp simd
    for (int j = 0; j < n; j++) {
        loss[j] = element(kind, delta, x[j], t[j], &slope[j]);
        if (kind == LKS_LOSS_BCE_WITH_LOGITS) lanes->correct[j] += (x[j] > 0.0f) == (t[j] > 0.5f);
    }
#pragma omp simd
    for (int j = 0; j < n; j++)
        lanes->loss[j] += (double)loss[j];
    if (!d) return;
#pragma omp simd
    for (int j = 0; j < n; j++)
        d[j] = slope[j];
}

/* Adds the sums of n <= BLOCK elements. `kind` is a constant of the caller. */
LKS_CPU_INLINE void element_block(lks_loss_kind kind, float delta, int64_t n, const float *x,
                                  const float *t, float *d, loss_sums *sums) {
    const int64_t whole = n - n % LANES;
    element_lanes lanes = {{0}, {0}};
    for (int64_t i = 0; i < whole; i += LANES)
        element_lane(kind, delta, LANES, x + i, t + i, d ? d + i : NULL, &lanes);
    if (whole < n)
        element_lane(kind, delta, (int)(n - whole), x + whole, t + whole, d ? d + whole : NULL,
                     &lanes);
    double loss = 0;
    int32_t correct = 0;
    for (int j = 0; j < LANES; j++) {
        loss += lanes.loss[j];
        correct += lanes.correct[j];
    }
    sums->value[LKS_SUM_LOSS] += loss;
    sums->value[LKS_SUM_WEIGHT] += (double)n;
    if (kind != LKS_LOSS_BCE_WITH_LOGITS) return;
    sums->value[LKS_SUM_CORRECT] += correct;
    sums->value[LKS_SUM_COUNTED] += (double)n;
}

LKS_CPU_CLONES
static void mse_block(float delta, int64_t n, const float *x, const float *t, float *d,
                      loss_sums *sums) {
    element_block(LKS_LOSS_MSE, delta, n, x, t, d, sums);
}

LKS_CPU_CLONES
static void l1_block(float delta, int64_t n, const float *x, const float *t, float *d,
                     loss_sums *sums) {
    element_block(LKS_LOSS_L1, delta, n, x, t, d, sums);
}

LKS_CPU_CLONES
static void huber_block(float delta, int64_t n, const float *x, const float *t, float *d,
                        loss_sums *sums) {
    element_block(LKS_LOSS_HUBER, delta, n, x, t, d, sums);
}

LKS_CPU_CLONES
static void bce_block(float delta, int64_t n, const float *x, const float *t, float *d,
                      loss_sums *sums) {
    element_block(LKS_LOSS_BCE_WITH_LOGITS, delta, n, x, t, d, sums);
}

typedef void (*element_block_fn)(float delta, int64_t n, const float *x, const float *t, float *d,
                                 loss_sums *sums);

static const element_block_fn element_blocks[] = {
    [LKS_LOSS_MSE] = mse_block,
    [LKS_LOSS_L1] = l1_block,
    [LKS_LOSS_HUBER] = huber_block,
    [LKS_LOSS_BCE_WITH_LOGITS] = bce_block,
};

/* ---- the batch ---- */

static void run_unit(const loss_job *job, int64_t unit, loss_sums *sums) {
    const lks_loss_desc *desc = job->desc;
    const bool classes = desc->kind == LKS_LOSS_CROSS_ENTROPY;
    const int64_t at = unit * (classes ? desc->width : BLOCK);
    const int64_t n = job->count - at < BLOCK ? job->count - at : BLOCK;
    const float *x = job->logits + at;
    float *d = job->dlogits ? job->dlogits + at : NULL;
    if (classes)
        cross_entropy_sample(desc, ((const int32_t *)job->targets)[unit], x, d, sums);
    else
        element_blocks[desc->kind]((float)desc->delta, n, x, (const float *)job->targets + at, d,
                                   sums);
}

static void run_parts(const void *data, int64_t begin, int64_t end) {
    const loss_job *job = data;
    for (int64_t part = begin; part < end; part++) {
        loss_sums sums = {{0}};
        const int64_t first = part * job->units_of_part;
        const int64_t next = first + job->units_of_part;
        for (int64_t unit = first; unit < next && unit < job->units; unit++)
            run_unit(job, unit, &sums);
        job->parts[part] = sums;
    }
}

lks_status lks_cpu_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                        int64_t batch, const float *logits, const void *targets, float *dlogits,
                        double *sums) {
    (void)stream;
    loss_sums parts[PARTS];
    loss_job job = {.desc = desc,
                    .logits = logits,
                    .targets = targets,
                    .dlogits = dlogits,
                    .count = batch * desc->width,
                    .parts = parts};
    job.units = desc->kind == LKS_LOSS_CROSS_ENTROPY ? batch : (job.count + BLOCK - 1) / BLOCK;
    job.units_of_part = (job.units + PARTS - 1) / PARTS;
    const int64_t part_count = (job.units + job.units_of_part - 1) / job.units_of_part;
    const int64_t part_elements = job.count / part_count;
    lks_cpu_parallel(device, part_count, 1, 1 + LKS_CPU_EXP_GRAIN / (part_elements + 1), run_parts,
                     &job);
    for (int64_t part = 0; part < part_count; part++)
        for (int i = 0; i < LKS_LOSS_SUM_COUNT; i++)
            sums[i] += parts[part].value[i];
    return LKS_OK;
}
