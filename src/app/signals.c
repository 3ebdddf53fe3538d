#include "app/signals.h"

#include <signal.h>
#include <stdatomic.h>

/* A handler can reach nothing but statics, and any thread may run it. */
static atomic_int received;

static void keep(int number) {
    atomic_store(&received, number);
}

void lks_signals_catch(void) {
    struct sigaction action = {.sa_handler = keep, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags |= SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
}

const char *lks_signals_received(void) {
    switch (atomic_load(&received)) {
    case SIGINT:
        return "SIGINT";
    case SIGTERM:
        return "SIGTERM";
    case SIGUSR1:
        return "SIGUSR1";
    default:
        return NULL;
    }
}
