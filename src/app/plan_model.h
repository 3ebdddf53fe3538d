/* How long a step takes on ranks that nobody has started yet: plain arithmetic on what was measured
 * elsewhere. docs/scaling.md derives the formulas and names their sources. */
#ifndef LKS_APP_PLAN_MODEL_H
#define LKS_APP_PLAN_MODEL_H

#include "app/plan_link.h"
#include "app/plan_pace.h"
#include "train/train.h"

typedef struct lks_cluster {
    int ranks_per_node;
    lks_link node, network;
    bool on_device; /* NCCL moves the devices' memory; else shared memory and MPI that of hosts */
    int cores;      /* of a node, that its ranks' threads share; 0: enough for all */
    int threads;    /* of a rank */
} lks_cluster;

/* Of so many ranks, those of a node. */
int lks_cluster_neighbours(const lks_cluster *cluster, int ranks);

/* What one collective costs a rank. */
typedef struct lks_plan_cost {
    double seconds;
    double busy; /* of them, those in which it cannot compute */
} lks_plan_cost;
/* bytes as lks_comm_sample's. */
lks_plan_cost lks_plan_collective(const lks_cluster *cluster, lks_collective kind, int ranks,
                                  double bytes);

typedef struct lks_forecast {
    double step, computing; /* seconds */
    double communication;   /* if nothing went on beside it */
    double exposed;         /* of it, what makes the step longer than computing */
} lks_forecast;

/* outline: of one rank among `ranks` at this zero_stage. LKS_ENOMEM. */
lks_status lks_plan_step(const lks_pace *pace, const lks_cluster *cluster,
                         const lks_outline *outline, int ranks, int zero_stage, lks_forecast *out);

#endif
