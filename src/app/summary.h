/* What people ask first about a checkpoint. */
#ifndef LKS_APP_SUMMARY_H
#define LKS_APP_SUMMARY_H

#include "checkpoint/checkpoint.h"

/* A series of the history at two epochs; NaN where it has no number. */
typedef struct lks_summary_metric {
    char name[32];
    double last, best;
} lks_summary_metric;

enum { LKS_SUMMARY_MAX_METRICS = 16 };

/* Texts are NULL and numbers -1 where the checkpoint does not say: one that was imported knows of
 * no training. */
typedef struct lks_summary {
    char *version, *created;
    int64_t ranks;
    int64_t epoch; /* finished ones */
    int64_t step;  /* of the epoch after them */
    int64_t global_step, batch_size, sample_count;
    char *optimizer, *hyper_parameters, *schedule;
    char *imported_from;
    int64_t best_epoch;
    double best_value; /* NaN where there is none */
    lks_summary_metric metrics[LKS_SUMMARY_MAX_METRICS];
    int metric_count;
    /* The model: parameters are what is trained, buffers what is counted along. */
    int64_t model_arrays, parameters, buffers, model_bytes;
    int64_t array_count, bytes; /* of all arrays */
} lks_summary;

/* LKS_ECHECKPOINT: what is there cannot be read; LKS_EIO, LKS_ENOMEM. *out is freed by
 * lks_summary_free, also after a failure. */
lks_status lks_summary_read(lks_checkpoint *checkpoint, lks_summary *out);
void lks_summary_free(lks_summary *summary);

/* A few lines for people; the members of a JSON object, without its braces. */
void lks_summary_print(const lks_summary *summary, lks_strbuf *out);
void lks_summary_print_json(const lks_summary *summary, lks_strbuf *out);

#endif
