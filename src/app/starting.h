/* A watch over the start: until the guard of a context stands, a rank that is missing keeps the
 * others waiting in MPI's own start or in the first collectives, where nothing else would end them.
 * Three spans are watched, each for itself: MPI's start, the sharing of the run file, and the
 * making of a context, its device included. */
#ifndef LKS_APP_STARTING_H
#define LKS_APP_STARTING_H

/* How long ranks may take to come together: MPI's start on many hosts takes its time. */
enum { LKS_STARTING_SECONDS = 300 };

/* From now on this process says so and ends, with the exit code of LKS_ECOMM, when so much time has
 * passed; until lks_starting_done. */
void lks_starting_begin(double seconds);
void lks_starting_done(void);

#endif
