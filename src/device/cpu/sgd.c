/* torch.optim.SGD's update. */
#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/cpu/update.h"

typedef struct sgd_job {
    float *buffer;
    lks_cpu_gradient gradient;
    float lr, weight_decay, momentum, undamped; /* undamped: 1 - dampening */
    bool nesterov, first;
} sgd_job;

LKS_CPU_CLONES
static void sgd_plain(const sgd_job *job, int64_t n, float *param, const float *grad) {
    const lks_cpu_gradient gradient = job->gradient;
    const float weight_decay = job->weight_decay, lr = job->lr;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(gradient, grad[i]) + weight_decay * param[i];
        param[i] -= lr * g;
    }
}

/* The first step: the buffer becomes the gradient, undamped. */
LKS_CPU_CLONES
static void sgd_first(const sgd_job *job, int64_t n, float *param, const float *grad,
                      float *buffer) {
    const lks_cpu_gradient gradient = job->gradient;
    const float weight_decay = job->weight_decay, lr = job->lr;
    const float look_ahead = job->nesterov ? job->momentum : 0.0f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(gradient, grad[i]) + weight_decay * param[i];
        buffer[i] = g;
        param[i] -= lr * (g + look_ahead * g);
    }
}

LKS_CPU_CLONES
static void sgd_momentum(const sgd_job *job, int64_t n, float *param, const float *grad,
                         float *buffer) {
    const lks_cpu_gradient gradient = job->gradient;
    const float weight_decay = job->weight_decay, lr = job->lr;
    const float momentum = job->momentum, undamped = job->undamped;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(gradient, grad[i]) + weight_decay * param[i];
        const float b = buffer[i] * momentum + undamped * g;
        buffer[i] = b;
        param[i] -= lr * b;
    }
}

LKS_CPU_CLONES
static void sgd_nesterov(const sgd_job *job, int64_t n, float *param, const float *grad,
                         float *buffer) {
    const lks_cpu_gradient gradient = job->gradient;
    const float weight_decay = job->weight_decay, lr = job->lr;
    const float momentum = job->momentum, undamped = job->undamped;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(gradient, grad[i]) + weight_decay * param[i];
        const float b = buffer[i] * momentum + undamped * g;
        buffer[i] = b;
        param[i] -= lr * (g + momentum * b);
    }
}

static void sgd_part(const void *data, int64_t at, int64_t n, float *param, const float *grad) {
    const sgd_job *job = data;
    if (!job->buffer)
        sgd_plain(job, n, param, grad);
    else if (job->first)
        sgd_first(job, n, param, grad, job->buffer + at);
    else if (job->nesterov)
        sgd_nesterov(job, n, param, grad, job->buffer + at);
    else
        sgd_momentum(job, n, param, grad, job->buffer + at);
}

lks_status lks_cpu_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                       const lks_sgd_update *sgd) {
    (void)stream;
    lks_update now;
    if (!lks_cpu_update_now(update, &now)) return LKS_OK;
    const sgd_job job = {.buffer = sgd->momentum_buffer,
                         .gradient = lks_cpu_gradient_of(&now),
                         .lr = (float)now.lr,
                         .weight_decay = (float)now.weight_decay,
                         .momentum = (float)lks_cpu_momentum_now(update, sgd->momentum),
                         .undamped = (float)(1 - sgd->dampening),
                         .nesterov = sgd->nesterov,
                         .first = now.step == 1};
    lks_cpu_update_run(device, &now, sgd_part, &job);
    return LKS_OK;
}
