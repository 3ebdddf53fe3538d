/* Signals that ask the command to stop: SIGINT, SIGTERM and SIGUSR1, on any rank. */
#ifndef LKS_APP_SIGNALS_H
#define LKS_APP_SIGNALS_H

/* From here on these signals end no process but are kept. SIGTERM and SIGUSR1 may come again, as
 * from batch systems; a second SIGINT has its usual effect, at once. */
void lks_signals_catch(void);

/* The name of the signal that this rank has had last, NULL for none. */
const char *lks_signals_received(void);

#endif
