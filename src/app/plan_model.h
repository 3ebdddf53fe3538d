/* How long a step takes on ranks that nobody has started yet: plain arithmetic on what was measured
 * elsewhere. docs/scaling.md derives the formulas and names their sources. */
#ifndef LKS_APP_PLAN_MODEL_H
#define LKS_APP_PLAN_MODEL_H

#include "app/comm_bench.h"
#include "train/train.h"

/* ---- communication ---- */

/* One level of a network: what a message costs, and what each of its bytes costs, in a collective
 * of each kind (LKS_ALL_REDUCE, LKS_REDUCE_SCATTER, LKS_ALL_GATHER). */
typedef struct lks_link {
    double latency[LKS_COMM_BENCH_KINDS];      /* seconds of a round */
    double byte_seconds[LKS_COMM_BENCH_KINDS]; /* of a byte that passes a rank */
} lks_link;

/* The link that the shortest and the longest messages among `ranks` > 1 equal neighbours had.
 * LKS_EDATA where a kind has fewer than two sizes. */
lks_status lks_link_fit(const lks_comm_sample *samples, int count, int ranks, lks_link *out);

typedef struct lks_cluster {
    int ranks_per_node;
    lks_link node, network;
    bool overlaps; /* transfers go on while the ranks compute */
    int cores;     /* of a node, that its ranks' threads share; 0: enough for all */
    int threads;   /* of a rank */
} lks_cluster;

/* Seconds of one collective; bytes as lks_comm_sample's. */
double lks_plan_collective(const lks_cluster *cluster, lks_collective kind, int ranks,
                           double bytes);

/* ---- computing ---- */

/* What a profile.json says, in seconds of one step. */
typedef struct lks_plan_profile {
    int ranks, hosts, threads;
    bool overlaps;
    double rows;    /* samples of a rank */
    double updated; /* parameters that a rank updated */
    double input, other, optimizer, forward, backward;
    int layer_count;
    double *layer_backward; /* [layer_count], of `backward` */
} lks_plan_profile;
void lks_plan_profile_free(lks_plan_profile *profile);

/* Seconds = fixed + per_unit * units. */
typedef struct lks_line {
    double fixed, per_unit;
} lks_line;

/* The line nearest to the points, without negative parts; through the origin where all have the
 * same x. count >= 1. */
lks_line lks_line_fit(const double *x, const double *y, int count);

/* How fast a rank computes. */
typedef struct lks_pace {
    lks_line input, forward; /* of the rows */
    double other;            /* seconds, whatever the rows */
    lks_line loss;           /* of backward, what belongs to no layer; of the rows */
    lks_line optimizer;      /* of the updated parameters */
    int layer_count;
    lks_line *backward; /* [layer_count] of the rows */
} lks_pace;

/* From profiles of one model, best with different numbers of samples. LKS_EDATA where their layers
 * differ; LKS_ENOMEM. *out is freed by lks_pace_free. */
lks_status lks_pace_fit(const lks_plan_profile *profiles, int count, lks_pace *out);
void lks_pace_free(lks_pace *pace);

/* ---- a step ---- */

typedef struct lks_forecast {
    double step, computing; /* seconds */
    double communication;   /* if nothing went on beside it */
    double exposed;         /* of it, what makes the step longer than computing */
} lks_forecast;

/* outline: of one rank among `ranks` at this zero_stage. */
lks_forecast lks_plan_step(const lks_pace *pace, const lks_cluster *cluster,
                           const lks_outline *outline, int ranks, int zero_stage);

#endif
