/* How fast a rank computes, from profiles of runs. */
#ifndef LKS_APP_PLAN_PACE_H
#define LKS_APP_PLAN_PACE_H

#include <stdbool.h>

#include "base/base.h"

/* What a profile.json says, in seconds of one step. What a rank computes counts only while it had a
 * core: how ranks share cores is the model's to say (plan_model.h). */
typedef struct lks_plan_profile {
    int ranks, hosts, threads;
    int cores;      /* of a host; 0: not known */
    bool on_device; /* the ranks exchange device memory directly */
    double rows;    /* samples of a rank */
    double updated; /* parameters that a rank updated */
    double input, other, optimizer, forward, backward;
    double loader; /* processor time of the thread that reads samples, beside these */
    int layer_count;
    double *layer_forward, *layer_backward; /* [layer_count], of `forward` and `backward` */
} lks_plan_profile;
void lks_plan_profile_free(lks_plan_profile *profile);

/* Seconds = fixed + per_unit * units. */
typedef struct lks_line {
    double fixed, per_unit;
} lks_line;

/* The line nearest to the points, without negative parts; through the origin where all have the
 * same x. count >= 1. */
lks_line lks_line_fit(const double *x, const double *y, int count);
double lks_line_at(const lks_line *line, double units);

/* How fast a rank computes beside others on its host. */
typedef struct lks_pace {
    int neighbours;     /* ranks on a host, itself among them */
    lks_line input;     /* of the rows, as all that has no other unit */
    lks_line loader;    /* processor time of the loader's thread */
    double other;       /* seconds, whatever the rows */
    lks_line loss;      /* of forward and backward, what belongs to no layer */
    lks_line optimizer; /* of the updated parameters */
    int layer_count;
    lks_line *forward, *backward; /* [layer_count] */
} lks_pace;

/* Ranks of a profile on each of its hosts; the most, where they differ. */
int lks_plan_profile_neighbours(const lks_plan_profile *profile);
/* From profiles of one model, one pace for each number of ranks on a host that they were made with,
 * best from different numbers of samples. Profiles and paces are sorted by that number. out:
 * [count], of which lks_pace_free ends the first *out_count. LKS_EDATA where layers differ;
 * LKS_ENOMEM; then there is none to end. */
lks_status lks_pace_fit(lks_plan_profile *profiles, int count, lks_pace *out, int *out_count);
/* Of `count` >= 1 the one whose number of ranks on a host is the fewest times more or less than
 * `neighbours`. */
const lks_pace *lks_pace_nearest(const lks_pace *paces, int count, int neighbours);
/* Seconds of a step of a rank that talks to nobody, with so many samples and parameters to update.
 */
double lks_pace_seconds(const lks_pace *pace, double rows, double updated);
void lks_pace_free(lks_pace *pace);

#endif
