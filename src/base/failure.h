/* The first failure of work that goes on after it, kept with its words until it can be told. */
#ifndef LKS_BASE_FAILURE_H
#define LKS_BASE_FAILURE_H

#include "base/error.h"

typedef struct lks_failure {
    lks_status status;            /* LKS_OK: none */
    char detail[LKS_ERROR_BYTES]; /* what lks_last_error said then */
} lks_failure;

/* Keeps the first failure, with its detail; LKS_OK changes nothing. */
void lks_failure_note(lks_failure *failure, lks_status status);
/* Puts where it happened in front of its detail, if it has failed at all. */
void lks_failure_add_place(lks_failure *failure, const char *place);
/* Its status, with its detail as lks_last_error again: for lks_comm_agree. */
lks_status lks_failure_tell(const lks_failure *failure);
/* For a failure of which the peers among `ranks` cannot be told, or after which it is not known by
 * which branch they go on: notes it, and returns LKS_ECOMM with the detail of the first one; where
 * there is one rank, the first failure itself. LKS_OK comes back as it is, and so does LKS_ECOMM
 * where nothing has failed before it. */
lks_status lks_failure_strand(lks_failure *failure, int ranks, lks_status status);

#endif
