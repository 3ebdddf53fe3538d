/* Why this rank cannot go on, kept until its peers can be told. Included by src/train alone. */
#ifndef LKS_TRAIN_FAILURE_H
#define LKS_TRAIN_FAILURE_H

#include "base/base.h"

typedef struct lks_failure {
    lks_status status;            /* LKS_OK: it can */
    char detail[LKS_ERROR_BYTES]; /* what lks_last_error said then */
} lks_failure;

/* Keeps the first failure, with its detail; LKS_OK changes nothing. */
void lks_failure_note(lks_failure *failure, lks_status status);
/* Puts where it happened in front of its detail, if it has failed at all. */
void lks_failure_add_place(lks_failure *failure, const char *place);
/* Its status, with its detail as lks_last_error again: for lks_comm_agree. */
lks_status lks_failure_tell(const lks_failure *failure);

#endif
