/* What collectives cost on a network that has been measured, or on one of two levels. */
#ifndef LKS_APP_PLAN_LINK_H
#define LKS_APP_PLAN_LINK_H

#include "app/comm_bench.h"

enum { LKS_LINK_POINTS = 16 }; /* bench comm measures ten sizes, up to 1 GiB */

/* What collectives of one kind cost: rounds, and bytes that pass a rank. The latter are known at
 * some points, from few bytes to many; lines join them and the origin, and beyond the last one each
 * byte costs as there on average. */
typedef struct lks_link_costs {
    double latency; /* seconds of a round */
    double busy;    /* share of its seconds by which computing beside it becomes longer */
    int count;      /* of the points */
    double bytes[LKS_LINK_POINTS], seconds[LKS_LINK_POINTS];
} lks_link_costs;

/* One level of a network: LKS_ALL_REDUCE, LKS_REDUCE_SCATTER, LKS_ALL_GATHER. */
typedef struct lks_link {
    lks_link_costs kinds[LKS_COMM_BENCH_KINDS];
} lks_link;

/* The link that all messages among `ranks` > 1 equal neighbours had. samples: sizes of each kind
 * ascend. LKS_EDATA where they do not, or a kind has fewer than two sizes or too many. */
lks_status lks_link_fit(const lks_comm_sample *samples, int count, int ranks, lks_link *out);
/* One where all rounds and all bytes cost the same. */
lks_link lks_link_even(double latency, double byte_seconds);

/* Seconds of one collective among `ranks` equal neighbours; bytes as lks_comm_sample's. */
double lks_link_seconds(const lks_link *link, lks_collective kind, int ranks, double bytes);

#endif
