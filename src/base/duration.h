/* Lengths of time as users write them. */
#ifndef LKS_BASE_DURATION_H
#define LKS_BASE_DURATION_H

#include <stdbool.h>

#include "base/strbuf.h"

/* The whole text as a length of time, in seconds: a number and a unit (90s, 1.5min, 12h, 2d), or
 * h:mm:ss with any number of hours; 0 needs no unit. False for anything else, negative ones
 * included. */
bool lks_duration_parse(const char *text, double *out_seconds);

/* In the largest unit of which it is a whole number, "12h"; else in seconds, "0.5s". */
void lks_duration_print(double seconds, lks_strbuf *out);

#endif
