#include "app/signals.h"

#include <signal.h>
#include <stdatomic.h>

/* A handler can reach nothing but statics. */
static volatile sig_atomic_t received;
static _Atomic(lks_trainer *) served;

static void hand_on(int number) {
    received = number;
    lks_trainer *trainer = atomic_load(&served);
    if (trainer) lks_trainer_request_stop(trainer);
}

void lks_signals_catch(void) {
    struct sigaction action = {.sa_handler = hand_on, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags |= SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
}

void lks_signals_serve(lks_trainer *trainer) {
    atomic_store(&served, trainer);
    if (trainer && received) lks_trainer_request_stop(trainer);
}

const char *lks_signals_received(void) {
    switch (received) {
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
