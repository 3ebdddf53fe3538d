#include "app/starting.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "lockstep/status.h"

/* What the handler says, made before; it can reach nothing but a static. */
static char message[256];

static void give_up(int number) {
    (void)number;
    ssize_t written = write(STDERR_FILENO, message, strlen(message));
    (void)written;
    _exit(lks_status_exit_code(LKS_ECOMM));
}

static void set_timer(double seconds) {
    const double whole = floor(seconds);
    const struct itimerval timer = {
        .it_value = {.tv_sec = (time_t)whole, .tv_usec = (suseconds_t)(1e6 * (seconds - whole))}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

void lks_starting_begin(double seconds) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    snprintf(message, sizeof message,
             "lockstep: error: on %s, process %ld waits in vain for other ranks to start (%g s): "
             "one that does not say so is stopped, or its host is not reached\n",
             host, (long)getpid(), seconds);
    struct sigaction action = {.sa_handler = give_up};
    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    set_timer(seconds);
}

void lks_starting_done(void) {
    set_timer(0);
}
