/* The reference of the run file, made from the option tables. */
#ifndef LKS_APP_REFERENCE_H
#define LKS_APP_REFERENCE_H

#include "base/base.h"

/* docs/config.md. */
void lks_reference_print_markdown(lks_strbuf *out);

/* What `lockstep help TOPIC [TYPE]` says about a section ("layer"), a type of it ("layer",
 * "conv2d"), or a type by its own name ("conv2d", NULL). LKS_EUSAGE for an unknown one, with the
 * nearest. */
lks_status lks_reference_print_topic(const char *topic, const char *type, lks_strbuf *out);

#endif
