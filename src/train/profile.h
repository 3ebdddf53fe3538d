/* The profile of a few steps: the traces of all ranks brought together, as a table and a file. */
#ifndef LKS_TRAIN_PROFILE_H
#define LKS_TRAIN_PROFILE_H

#include "comm/comm.h"
#include "device/trace.h"
#include "train/train.h"

typedef struct lks_profile lks_profile;

enum { LKS_PROFILE_WARM_UP_STEPS = 5 };

/* After a step of a trainer that is profiled, when its position has moved on: ends the profile when
 * it has all its steps. A profile that fails is given up with a warning, and the run goes on
 * without it. LKS_ECOMM. Collective. */
lks_status lks_profile_step(lks_trainer *trainer);
/* A run ends: so does its profile, with the steps that there were. Nothing to do without one.
 * Errors as above. Collective. */
lks_status lks_profile_finish(lks_trainer *trainer);
/* NULL is legal. */
void lks_profile_destroy(lks_profile *profile);

/* ---- what it found; profile_print.c ---- */

/* Seconds of one rank over all profiled steps. */
typedef struct lks_profile_rank {
    double step, phases[LKS_PHASE_COUNT];
    double processor[LKS_PHASE_COUNT]; /* of `phases`; device/trace.h */
} lks_profile_rank;

/* Over all profiled steps. Means are over the ranks. */
typedef struct lks_profile_result {
    int64_t steps;
    double samples; /* of all ranks together */
    lks_profile_rank mean, slowest, fastest;
    int slowest_rank, fastest_rank; /* with the most and the least to do besides communication */
    /* Mean count, bytes and seconds of a rank's transfers. */
    double transfers[LKS_COLLECTIVE_COUNT][3];
    const double *forward, *backward; /* [layer count] means */
    double loader; /* mean processor time of the loader's thread, beside the step */
} lks_profile_result;
enum { LKS_PROFILE_CALLS, LKS_PROFILE_BYTES, LKS_PROFILE_SECONDS };

void lks_profile_log(const lks_trainer *trainer, const lks_profile_result *result);
/* Adds the JSON object of profile.json. */
void lks_profile_print_json(const lks_trainer *trainer, const lks_profile_result *result,
                            lks_strbuf *out);

#endif
