/* Signals that ask the command to stop: SIGINT, SIGTERM and SIGUSR1, on any rank. */
#ifndef LKS_APP_SIGNALS_H
#define LKS_APP_SIGNALS_H

#include "lockstep/lockstep.h"

/* From here on these signals end no process: the first one is kept for whom lks_signals_serve
 * names. SIGTERM and SIGUSR1 may come again, as from batch systems; a second SIGINT has its usual
 * effect, at once. */
void lks_signals_catch(void);

/* Hands a signal, or one that has come already, on to the trainer as a request to stop; NULL: to
 * none, for its end. */
void lks_signals_serve(lks_trainer *trainer);

/* The name of the signal that this rank has had last, NULL for none. */
const char *lks_signals_received(void);

#endif
