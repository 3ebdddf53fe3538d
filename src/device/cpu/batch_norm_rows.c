/* Batch norm of [batch, channels, spatial] memory: every channel is `batch` rows of `spatial`
 * neighbours. */
#include "device/cpu/batch_norm.h"
#include "device/cpu/lanes.h"
#include "device/cpu/parallel.h"

enum { BLOCK = 1024 }; /* numbers summed in float32 before they join a float64 sum */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static size_t sums_bytes(int64_t max_batch, int64_t spatial, int64_t channels) {
    (void)max_batch;
    (void)spatial;
    return (size_t)(2 * channels) * sizeof(double);
}

static int64_t row_begin(const lks_batch_norm_job *job, int64_t n, int64_t channel) {
    return (n * job->channels + channel) * job->spatial;
}

/* ---- sums: units are channels ---- */

LKS_CPU_CLONES
static void block_moments(int64_t n, const float *x, double *mean, double *squares) {
    float lanes[LKS_CPU_LANES] = {0}, square[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lanes[i % LKS_CPU_LANES] += x[i];
    const float centre = lks_lanes_sum(lanes) / (float)n;
    for (int64_t i = 0; i < n; i++)
        square[i % LKS_CPU_LANES] += (x[i] - centre) * (x[i] - centre);
    *mean = (double)centre;
    *squares = (double)lks_lanes_sum(square);
}

static void moments_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    const float *x = job->x;
    for (int64_t c = begin; c < end; c++) {
        double *mean = &job->sums[c], *squares = &job->sums[job->channels + c];
        int64_t before = 0;
        *mean = *squares = 0;
        for (int64_t n = 0; n < job->batch; n++)
            for (int64_t i = 0; i < job->spatial; i += BLOCK) {
                const int64_t count = least(BLOCK, job->spatial - i);
                double more_mean, more_squares;
                block_moments(count, x + row_begin(job, n, c) + i, &more_mean, &more_squares);
                lks_moments_join((double)before, mean, squares, (double)count, more_mean,
                                 more_squares);
                before += count;
            }
    }
}

LKS_CPU_CLONES
static void block_gradient_sums(const lks_batch_norm_job *job, int64_t n, int64_t c, const float *x,
                                const float *dy, double *sum, double *product) {
    const float mean = job->mean[c], scale = job->scale[c], shift = job->shift[c];
    float sums[LKS_CPU_LANES] = {0}, products[LKS_CPU_LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        const float centred = x[i] - mean;
        const float g = job->relu && centred * scale + shift <= 0.0f ? 0.0f : dy[i];
        sums[i % LKS_CPU_LANES] += g;
        products[i % LKS_CPU_LANES] += g * centred;
    }
    *sum += (double)lks_lanes_sum(sums);
    *product += (double)lks_lanes_sum(products);
}

static void gradient_sums_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    const float *x = job->x, *dy = job->dy;
    for (int64_t c = begin; c < end; c++) {
        double *sum = &job->sums[c], *product = &job->sums[job->channels + c];
        *sum = *product = 0;
        for (int64_t n = 0; n < job->batch; n++)
            for (int64_t i = 0; i < job->spatial; i += BLOCK) {
                const int64_t at = row_begin(job, n, c) + i;
                block_gradient_sums(job, least(BLOCK, job->spatial - i), c, x + at, dy + at, sum,
                                    product);
            }
    }
}

static void over_channels(const lks_batch_norm_job *job, lks_cpu_part part) {
    const int64_t each = job->batch * job->spatial;
    lks_cpu_parallel(job->device, job->channels, 1, 1 + LKS_CPU_GRAIN / (each + 1), part, job);
}

static void moments(const lks_batch_norm_job *job) {
    over_channels(job, moments_part);
}

static void gradient_sums(const lks_batch_norm_job *job) {
    over_channels(job, gradient_sums_part);
}

/* ---- element by element: units are rows ---- */

LKS_CPU_CLONES
static void normalise_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    for (int64_t r = begin; r < end; r++) {
        const int64_t c = r % job->channels;
        const float mean = job->mean[c], scale = job->scale[c], shift = job->shift[c];
        const float *x = (const float *)job->x + r * job->spatial;
        float *y = (float *)job->y + r * job->spatial;
#pragma omp simd
        for (int64_t i = 0; i < job->spatial; i++) {
            const float v = (x[i] - mean) * scale + shift;
            y[i] = job->relu && v <= 0.0f ? 0.0f : v;
        }
    }
}

LKS_CPU_CLONES
static void gradient_part(const void *data, int64_t begin, int64_t end) {
    const lks_batch_norm_job *job = data;
    for (int64_t r = begin; r < end; r++) {
        const int64_t c = r % job->channels;
        const float mean = job->mean[c], scale = job->scale[c], shift = job->shift[c];
        const float constant = job->constant[c], slope = job->slope[c];
        const float *x = (const float *)job->x + r * job->spatial;
        const float *dy = (const float *)job->dy + r * job->spatial;
        float *dx = (float *)job->dx + r * job->spatial;
#pragma omp simd
        for (int64_t i = 0; i < job->spatial; i++) {
            const float centred = x[i] - mean;
            const float g = job->relu && centred * scale + shift <= 0.0f ? 0.0f : dy[i];
            dx[i] = g * scale - constant - centred * slope;
        }
    }
}

static void normalise(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, job->batch * job->channels, 1, 1 + LKS_CPU_GRAIN / job->spatial,
                     normalise_part, job);
}

static void gradient(const lks_batch_norm_job *job) {
    lks_cpu_parallel(job->device, job->batch * job->channels, 1, 1 + LKS_CPU_GRAIN / job->spatial,
                     gradient_part, job);
}

const lks_batch_norm_passes lks_batch_norm_rows = {
    .moments = moments,
    .normalise = normalise,
    .gradient_sums = gradient_sums,
    .gradient = gradient,
    .sums_bytes = sums_bytes,
};
