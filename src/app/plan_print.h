/* What `lockstep plan` says. */
#ifndef LKS_APP_PLAN_PRINT_H
#define LKS_APP_PLAN_PRINT_H

#include "app/plan_model.h"

/* A run on so many ranks at one zero_stage. */
typedef struct lks_plan_row {
    int ranks, zero_stage;
    char *refusal; /* why so many ranks cannot have it, on the heap; then nothing below is known */
    lks_trainer_needs needs; /* of the first rank, whose part of a batch is a largest one */
    lks_outline outline;
    lks_forecast forecast; /* all zero without a profile */
    int profiled;          /* ranks on a host of the profiles that it comes from */
    int neighbours;        /* ranks on a node of its own */
    double efficiency;     /* the speed of `ranks` ranks over `ranks` times that of one */
} lks_plan_row;

void lks_plan_print(const lks_plan_row *rows, int count, lks_strbuf *out);
void lks_plan_print_json(const lks_plan_row *rows, int count, lks_strbuf *out);

#endif
