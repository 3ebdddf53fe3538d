/* Reports over a connection that takes only part of what it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/guard_link.h"

/* Takes the place of libc's: a connection that has room for so many bytes. */
static size_t room;

ssize_t send(int socket, const void *bytes, size_t count, int flags) {
    (void)flags;
    size_t taken = count < room ? count : room;
    room -= taken;
    if (taken > 0) return write(socket, bytes, taken);
    errno = EAGAIN;
    return -1;
}

static void open_pair(lks_link *ends) {
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    for (int i = 0; i < 2; i++)
        ends[i] = (lks_link){.socket = sockets[i]};
}

static void send_step(lks_link *link, int64_t step) {
    const lks_guard_report report = {.step = step};
    lks_link_send(link, &report);
}

/* Everything that has come, in this order, and nothing else. */
static void check_steps(lks_link *link, const int64_t *steps, int count) {
    lks_guard_report report;
    lks_link_event event;
    int got = 0;
    for (int tries = 0; tries < 8; tries++) { /* a part of a report is nothing yet */
        event = lks_link_receive(link, &report);
        assert_int_not_equal(event, LKS_LINK_CLOSED);
        if (event != LKS_LINK_REPORT) continue;
        assert_true(got < count);
        assert_int_equal(report.step, steps[got++]);
    }
    assert_int_equal(got, count);
}

static void a_report_in_parts_is_finished_first(void **state) {
    (void)state;
    lks_link ends[2];
    open_pair(ends);
    room = 10;
    send_step(&ends[0], 1);
    check_steps(&ends[1], NULL, 0);
    room = 5;
    send_step(&ends[0], 2); /* finds no room behind the first */
    check_steps(&ends[1], NULL, 0);
    room = 2 * sizeof(lks_guard_report);
    send_step(&ends[0], 3);
    check_steps(&ends[1], (const int64_t[]){1, 3}, 2);
    for (int i = 0; i < 2; i++)
        lks_link_close(&ends[i]);
}

static void a_report_that_finds_no_room_is_lost(void **state) {
    (void)state;
    lks_link ends[2];
    open_pair(ends);
    room = 0;
    send_step(&ends[0], 1);
    room = 2 * sizeof(lks_guard_report);
    send_step(&ends[0], 2);
    check_steps(&ends[1], (const int64_t[]){2}, 1);
    for (int i = 0; i < 2; i++)
        lks_link_close(&ends[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_in_parts_is_finished_first),
        cmocka_unit_test(a_report_that_finds_no_room_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
