/* torch.optim.RMSprop's update. */
#include <math.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/cpu/update.h"

typedef struct rmsprop_job {
    float *square_avg, *grad_avg, *buffer;
    lks_cpu_gradient gradient;
    float lr, weight_decay, momentum, eps;
    float alpha, weight; /* weight: 1 - alpha */
} rmsprop_job;

/* The running means of one element; returns the root by which its gradient is divided, before eps.
 * mean: the gradient's, NULL if not centered. Rounding may bring the variance of a constant
 * gradient below zero, of which PyTorch takes the root: NaN. Here it is zero then. */
LKS_CPU_INLINE float root(const rmsprop_job *job, float g, float *square, float *mean) {
    *square = *square * job->alpha + job->weight * g * g;
    if (!mean) return sqrtf(*square);
    *mean = lks_cpu_lerp(*mean, g, job->weight);
    const float variance = *square - *mean * *mean;
    return sqrtf(variance < 0.0f ? 0.0f : variance);
}

LKS_CPU_CLONES
static void rmsprop_plain(const rmsprop_job *shared, int64_t n, float *param, const float *grad,
                          float *square) {
    const rmsprop_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        param[i] -= job.lr * g / (root(&job, g, &square[i], NULL) + job.eps);
    }
}

LKS_CPU_CLONES
static void rmsprop_centered(const rmsprop_job *shared, int64_t n, float *param, const float *grad,
                             float *square, float *mean) {
    const rmsprop_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        param[i] -= job.lr * g / (root(&job, g, &square[i], &mean[i]) + job.eps);
    }
}

LKS_CPU_CLONES
static void rmsprop_momentum(const rmsprop_job *shared, int64_t n, float *param, const float *grad,
                             float *square, float *buffer) {
    const rmsprop_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        const float b = buffer[i] * job.momentum + g / (root(&job, g, &square[i], NULL) + job.eps);
        buffer[i] = b;
        param[i] -= job.lr * b;
    }
}

LKS_CPU_CLONES
static void rmsprop_both(const rmsprop_job *shared, int64_t n, float *param, const float *grad,
                         float *square, float *mean, float *buffer) {
    const rmsprop_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        const float b =
            buffer[i] * job.momentum + g / (root(&job, g, &square[i], &mean[i]) + job.eps);
        buffer[i] = b;
        param[i] -= job.lr * b;
    }
}

static void rmsprop_part(const void *data, int64_t at, int64_t n, float *param, const float *grad) {
    const rmsprop_job *job = data;
    float *square = job->square_avg + at;
    if (job->grad_avg && job->buffer)
        rmsprop_both(job, n, param, grad, square, job->grad_avg + at, job->buffer + at);
    else if (job->grad_avg)
        rmsprop_centered(job, n, param, grad, square, job->grad_avg + at);
    else if (job->buffer)
        rmsprop_momentum(job, n, param, grad, square, job->buffer + at);
    else
        rmsprop_plain(job, n, param, grad, square);
}

lks_status lks_cpu_rmsprop(lks_device *device, lks_stream *stream, const lks_update *update,
                           const lks_rmsprop_update *rmsprop) {
    (void)stream;
    lks_update now;
    if (!lks_cpu_update_now(update, &now)) return LKS_OK;
    const rmsprop_job job = {
        .square_avg = rmsprop->square_avg,
        .grad_avg = rmsprop->grad_avg,
        .buffer = rmsprop->momentum_buffer,
        .gradient = lks_cpu_gradient_of(&now),
        .lr = (float)now.lr,
        .weight_decay = (float)now.weight_decay,
        .momentum = (float)lks_cpu_momentum_now(update, rmsprop->momentum),
        .eps = (float)rmsprop->eps,
        .alpha = (float)rmsprop->alpha,
        .weight = (float)(1 - rmsprop->alpha),
    };
    lks_cpu_update_run(device, &now, rmsprop_part, &job);
    return LKS_OK;
}
