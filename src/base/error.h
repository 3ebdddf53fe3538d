/* Failing with a detail. The idiom everywhere:
 *
 *     if (fd < 0) return lks_fail(LKS_EIO, "cannot open %s: %s", path, strerror(errno));
 *
 * The detail is kept for this thread (lks_last_error) and printed once, by whoever ends the run: a
 * library call never prints an error, so that 1000 ranks which fail alike do not print it 1000
 * times. lks_comm_agree (src/comm) carries the culprit's detail to all ranks.
 */
#ifndef LKS_BASE_ERROR_H
#define LKS_BASE_ERROR_H

#include "lockstep/status.h"

enum { LKS_ERROR_BYTES = 2048 };

/* Records the detail of an error on this thread and returns `status`, which is not LKS_OK. Cuts at
 * LKS_ERROR_BYTES. */
lks_status lks_fail(lks_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "prefix" in front of this thread's recorded detail and returns `status`: adds where, keeps
 * why. */
lks_status lks_fail_in(lks_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
