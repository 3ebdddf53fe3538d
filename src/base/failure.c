#include "base/failure.h"

#include <stdio.h>

void lks_failure_note(lks_failure *failure, lks_status status) {
    if (failure->status != LKS_OK || status == LKS_OK) return;
    failure->status = status;
    snprintf(failure->detail, sizeof failure->detail, "%s", lks_last_error());
}

lks_status lks_failure_tell(const lks_failure *failure) {
    if (failure->status == LKS_OK) return LKS_OK;
    return lks_fail(failure->status, "%s", failure->detail);
}

void lks_failure_add_place(lks_failure *failure, const char *place) {
    if (lks_failure_tell(failure) == LKS_OK) return;
    lks_fail_in(failure->status, "%s", place);
    snprintf(failure->detail, sizeof failure->detail, "%s", lks_last_error());
}

lks_status lks_failure_strand(lks_failure *failure, int ranks, lks_status status) {
    if (status == LKS_OK) return LKS_OK;
    if (status != LKS_ECOMM) lks_failure_note(failure, status);
    if (failure->status == LKS_OK) return LKS_ECOMM;
    status = lks_failure_tell(failure);
    return ranks == 1 ? status : lks_fail_in(LKS_ECOMM, "this rank cannot go on with its peers");
}
