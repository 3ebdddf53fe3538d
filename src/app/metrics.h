/* The epochs of a run, from its metrics.jsonl. */
#ifndef LKS_APP_METRICS_H
#define LKS_APP_METRICS_H

#include "base/base.h"

typedef enum lks_metric {
    LKS_METRIC_TRAIN_LOSS,
    LKS_METRIC_VAL_LOSS,
    LKS_METRIC_TRAIN_ACC,
    LKS_METRIC_VAL_ACC,
    LKS_METRIC_LR,
    LKS_METRIC_COUNT /* also: none */
} lks_metric;
extern const char *const lks_metric_names[]; /* "train_loss" ..., NULL */

/* One row for each finished epoch, ascending. */
typedef struct lks_metrics {
    int64_t count;
    double *epochs;                   /* [count], from 1 */
    double *values[LKS_METRIC_COUNT]; /* [count] each; NaN where there is none */
} lks_metrics;

/* A run that was resumed or begun anew writes on in the same file: of an epoch that stands there
 * again, the last record counts, and what stood after it before does not. Half a line at the end,
 * of a run that goes on, is left out. *out is freed also after a failure. LKS_EIO; LKS_EDATA with
 * the line; LKS_ENOMEM. */
lks_status lks_metrics_read(const char *path, lks_metrics *out);
void lks_metrics_free(lks_metrics *metrics);

/* Has the series a number anywhere? */
bool lks_metrics_has(const lks_metrics *metrics, lks_metric metric);

#endif
