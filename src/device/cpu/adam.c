/* The updates of torch.optim.Adam and AdamW, with and without amsgrad. */
#include <math.h>

#include "device/cpu/cpu.h"
#include "device/cpu/parallel.h"
#include "device/cpu/update.h"

typedef struct adam_job {
    float *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
    lks_cpu_gradient gradient;
    float param_scale;  /* decoupled decay: 1 - lr weight_decay, else 1 */
    float weight_decay; /* added to the gradient, 0 when decoupled */
    float weight1;      /* 1 - beta1 */
    float beta2, weight2;
    float step_size;     /* lr / (1 - beta1^t) */
    float inverse_root2; /* 1 / sqrt(1 - beta2^t): a product is several times faster than torch's
                            quotient, and within a rounding of it */
    float eps;
} adam_job;

/* Element i of everything but the last step: returns the new exp_avg_sq, *m the new exp_avg. */
LKS_CPU_INLINE float moments(const adam_job *job, float g, float m, float v, float *new_m) {
    *new_m = lks_cpu_lerp(m, g, job->weight1);
    return v * job->beta2 + job->weight2 * g * g;
}

LKS_CPU_INLINE float stepped(const adam_job *job, float p, float m, float v) {
    return p - job->step_size * m / (sqrtf(v) * job->inverse_root2 + job->eps);
}

LKS_CPU_CLONES
static void adam_range(const adam_job *shared, int64_t n, float *param, const float *grad,
                       float *exp_avg, float *exp_avg_sq) {
    const adam_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        float m;
        const float v = moments(&job, g, exp_avg[i], exp_avg_sq[i], &m);
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        param[i] = stepped(&job, param[i] * job.param_scale, m, v);
    }
}

LKS_CPU_CLONES
static void amsgrad_range(const adam_job *shared, int64_t n, float *param, const float *grad,
                          float *exp_avg, float *exp_avg_sq, float *max_exp_avg_sq) {
    const adam_job job = *shared;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = lks_cpu_scaled(job.gradient, grad[i]) + job.weight_decay * param[i];
        float m;
        const float v = moments(&job, g, exp_avg[i], exp_avg_sq[i], &m);
        const float old = max_exp_avg_sq[i];
        const float max = v <= old ? old : v; /* NaN of v passes through */
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        max_exp_avg_sq[i] = max;
        param[i] = stepped(&job, param[i] * job.param_scale, m, max);
    }
}

static void adam_part(const void *data, int64_t at, int64_t n, float *param, const float *grad) {
    const adam_job *job = data;
    if (job->max_exp_avg_sq)
        amsgrad_range(job, n, param, grad, job->exp_avg + at, job->exp_avg_sq + at,
                      job->max_exp_avg_sq + at);
    else
        adam_range(job, n, param, grad, job->exp_avg + at, job->exp_avg_sq + at);
}

lks_status lks_cpu_adam(lks_device *device, lks_stream *stream, const lks_update *update,
                        const lks_adam_update *adam) {
    (void)stream;
    lks_update now;
    if (!lks_cpu_update_now(update, &now)) return LKS_OK;
    const double decay = now.weight_decay;
    const double beta1 = lks_cpu_momentum_now(update, adam->beta1);
    const double bias1 = 1 - pow(beta1, (double)now.step);
    const double bias2 = 1 - pow(adam->beta2, (double)now.step);
    const adam_job job = {
        .exp_avg = adam->exp_avg,
        .exp_avg_sq = adam->exp_avg_sq,
        .max_exp_avg_sq = adam->max_exp_avg_sq,
        .gradient = lks_cpu_gradient_of(&now),
        .param_scale = adam->decoupled ? (float)(1 - now.lr * decay) : 1.0f,
        .weight_decay = adam->decoupled ? 0.0f : (float)decay,
        .weight1 = (float)(1 - beta1),
        .beta2 = (float)adam->beta2,
        .weight2 = (float)(1 - adam->beta2),
        .step_size = (float)(now.lr / bias1),
        .inverse_root2 = (float)(1 / sqrt(bias2)),
        .eps = (float)adam->eps,
    };
    lks_cpu_update_run(device, &now, adam_part, &job);
    return LKS_OK;
}
