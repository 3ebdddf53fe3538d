/* Time. */
#ifndef LKS_BASE_CLOCK_H
#define LKS_BASE_CLOCK_H

/* Seconds of a clock that never goes back, from an arbitrary start. */
double lks_clock_seconds(void);

#endif
