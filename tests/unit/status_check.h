/* Assertions on statuses that say what went wrong. Include it after cmocka. */
#ifndef LKS_TESTS_STATUS_CHECK_H
#define LKS_TESTS_STATUS_CHECK_H

#include <string.h>

#include "lockstep/status.h"

#define assert_ok(call)                                                                        \
    do {                                                                                       \
        lks_status status_ = (call);                                                           \
        if (status_ != LKS_OK) fail_msg("%s: %s", lks_status_text(status_), lks_last_error()); \
    } while (0)

/* The last error's detail contains `part`. */
#define assert_error_has(part)                                                \
    do {                                                                      \
        if (strstr(lks_last_error(), (part)) == NULL)                         \
            fail_msg("\"%s\" does not say \"%s\"", lks_last_error(), (part)); \
    } while (0)

#endif
