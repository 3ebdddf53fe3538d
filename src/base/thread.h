/* Threads beside the program's own. */
#ifndef LKS_BASE_THREAD_H
#define LKS_BASE_THREAD_H

#include <pthread.h>

#include "lockstep/status.h"

/* Starts a thread that no signal interrupts: signals belong to the program's own threads. The
 * caller joins it. LKS_ENOMEM. */
lks_status lks_thread_start(void *(*run)(void *data), void *data, pthread_t *out);

#endif
