/* The watch over the start: a process whose peers do not come ends itself, one that goes on does
 * not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/starting.h"
#include "lockstep/status.h"

/* A process with a watch of 50 ms, which is done at once or waits for ever. Its exit code, and what
 * it said. */
static int run(bool done, char *said, size_t bytes) {
    int ends[2], state = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        lks_starting_begin(0.05);
        if (done) {
            lks_starting_done();
            usleep(100000); /* longer than the watch */
            _exit(0);
        }
        for (;;)
            pause();
    }
    close(ends[1]);
    ssize_t length = read(ends[0], said, bytes - 1);
    said[length < 0 ? 0 : length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &state, 0), child);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static void ranks_that_do_not_come_are_told(void **state) {
    char said[512];
    (void)state;
    assert_int_equal(run(false, said, sizeof said), lks_status_exit_code(LKS_ECOMM));
    assert_non_null(strstr(said, "lockstep: error: on "));
    assert_non_null(strstr(said, "waits in vain for other ranks to start (0.05 s)"));
}

static void a_start_that_is_done_is_not_watched(void **state) {
    char said[512];
    (void)state;
    assert_int_equal(run(true, said, sizeof said), 0);
    assert_string_equal(said, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_do_not_come_are_told),
        cmocka_unit_test(a_start_that_is_done_is_not_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
