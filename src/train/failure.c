#include "train/failure.h"

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
