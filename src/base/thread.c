#include "base/thread.h"

#include <signal.h>
#include <string.h>

#include "base/error.h"

lks_status lks_thread_start(void *(*run)(void *data), void *data, pthread_t *out) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int reason = pthread_create(out, NULL, run, data);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (reason) return lks_fail(LKS_ENOMEM, "cannot start a thread: %s", strerror(reason));
    return LKS_OK;
}
