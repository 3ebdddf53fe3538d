/* The passes of batch norm over memory, once for each layout. Included by src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_BATCH_NORM_H
#define LKS_DEVICE_CPU_BATCH_NORM_H

#include "device/backend.h"

/* One call. x, y, dy, dx: [batch, spatial, channels] or [batch, channels, spatial] of `type`;
 * everything else is float32 [channels] unless it says otherwise. */
typedef struct lks_batch_norm_job {
    const lks_device *device;
    lks_dtype type;
    int64_t batch, spatial, channels;
    bool relu;
    const void *x;
    void *y;
    const void *dy; /* read before dx is written, which may be the same memory */
    void *dx;
    const float *mean, *scale, *shift; /* y = (x - mean) scale + shift, then max(0, y) with relu */
    const float *constant, *slope;     /* dx = dy scale - constant - (x - mean) slope */
    double *sums;                      /* results: [2][channels], in scratch memory */
} lks_batch_norm_job;

typedef struct lks_batch_norm_passes {
    /* sums = mean over batch and spatial, and sum of (x - mean)^2 */
    void (*moments)(const lks_batch_norm_job *job);
    void (*normalise)(const lks_batch_norm_job *job);
    /* sums = sum of dy, and of dy (x - mean); with relu, dy counts as 0 where y <= 0 */
    void (*gradient_sums)(const lks_batch_norm_job *job);
    void (*gradient)(const lks_batch_norm_job *job);
    /* Bytes behind `sums` that the passes use, the sums included. */
    size_t (*sums_bytes)(int64_t max_batch, int64_t spatial, int64_t channels);
} lks_batch_norm_passes;

extern const lks_batch_norm_passes lks_batch_norm_columns; /* channels-last; LKS_F32 and LKS_BF16 */
extern const lks_batch_norm_passes lks_batch_norm_rows;    /* LKS_F32 */

/* Joins the moments of `count` more numbers to those of `before` numbers: mean and sum of squared
 * differences from it (T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise algorithm
 * for computing sample variances", 1979). */
static inline void lks_moments_join(double before, double *mean, double *squares, double count,
                                    double more_mean, double more_squares) {
    const double difference = more_mean - *mean, share = count / (before + count);
    *mean += difference * share;
    *squares += more_squares + difference * difference * before * share;
}

#endif
