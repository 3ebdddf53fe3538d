/* torch.optim.Adagrad's update. */
#include <math.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/cpu/update.h"

typedef struct adagrad_job {
    float *sum;
    lks_cpu_gradient gradient;
    float rate; /* lr / (1 + (step - 1) lr_decay) */
    float weight_decay, eps;
} adagrad_job;

LKS_CPU_CLONES
static void adagrad_range(const adagrad_job *shared, int64_t n, float *param, const float *grad,
                          float *sum) {
    const adagrad_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        const float s = sum[i] + g * g;
        sum[i] = s;
        param[i] -= job.rate * g / (sqrtf(s) + job.eps);
    }
}

static void adagrad_part(const void *data, int64_t at, int64_t n, float *param, const float *grad) {
    const adagrad_job *job = data;
    adagrad_range(job, n, param, grad, job->sum + at);
}

lks_status lks_cpu_adagrad(lks_device *device, lks_stream *stream, const lks_update *update,
                           const lks_adagrad_update *adagrad) {
    (void)stream;
    lks_update now;
    if (!lks_cpu_update_now(update, &now)) return LKS_OK;
    const double decay = 1 + (double)(now.step - 1) * adagrad->lr_decay;
    const adagrad_job job = {
        .sum = adagrad->sum,
        .gradient = lks_cpu_gradient_of(&now),
        .rate = (float)(now.lr / decay),
        .weight_decay = (float)now.weight_decay,
        .eps = (float)adagrad->eps,
    };
    lks_cpu_update_run(device, &now, adagrad_part, &job);
    return LKS_OK;
}
