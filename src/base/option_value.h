/* Single values of options: text to number and back. Inside src/base only. */
#ifndef LKS_BASE_OPTION_VALUE_H
#define LKS_BASE_OPTION_VALUE_H

#include "base/option.h"

/* Where the option's member lies in a struct. */
void *lks_option_member(const lks_option *option, void *config);
const void *lks_option_member_const(const lks_option *option, const void *config);

/* Reads one value, checks its bounds, stores it as element `index` of the member's array `out` (0
 * for a scalar). Strings: not here. LKS_ECONFIG. */
lks_status lks_option_read_value(const lks_option *option, const char *text, void *out, int index);

/* LKS_ECONFIG: "key: GIVEN PROBLEM: expected ...". given: as the user wrote it. */
lks_status lks_option_refuse(const lks_option *option, const char *given, const char *problem);

#endif
