/* Time. */
#ifndef LKS_BASE_CLOCK_H
#define LKS_BASE_CLOCK_H

/* Seconds of a clock that never goes back, from an arbitrary start. */
double lks_clock_seconds(void);
/* Seconds that the calling thread has been running on a core; 0 where the system does not tell. */
double lks_clock_thread_seconds(void);

#endif
