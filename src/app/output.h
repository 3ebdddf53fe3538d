/* The file that a command writes. */
#ifndef LKS_APP_OUTPUT_H
#define LKS_APP_OUTPUT_H

#include <stdbool.h>

#include "lockstep/status.h"

/* May `output` be written? LKS_EUSAGE: it is no name; LKS_EINVAL: it is the file `input` itself, or
 * it exists and `force` does not allow to replace it. */
lks_status lks_output_check(const char *input, const char *output, bool force);

#endif
