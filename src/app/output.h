/* What a command writes: its file, and its text. */
#ifndef LKS_APP_OUTPUT_H
#define LKS_APP_OUTPUT_H

#include <stdbool.h>

#include "base/base.h"

/* May `output` be written? LKS_EUSAGE: it is no name; LKS_EINVAL: it is the file `input` itself, or
 * it exists and `force` does not allow to replace it. */
lks_status lks_output_check(const char *input, const char *output, bool force);

/* Writes the text to standard output, unless it or what made it (`status`) has failed, and frees
 * it. LKS_ENOMEM. */
lks_status lks_output_text(lks_status status, lks_strbuf *text);

#endif
