/* Who is missing, by what the ranks have said: plain arithmetic over a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "comm/guard_judge.h"

enum { RANKS = 6 };
#define TIMEOUT 10.0

typedef struct table {
    lks_guarded ranks[RANKS];
    lks_guard_state state;
} table;

/* All in training after 41 steps, all of them waiting in the same collective, heard and moved at 0.
 */
static table *make(void) {
    static table t;
    static const char *const hosts[RANKS] = {"n0", "n0", "n1", "n1", "n2", "n2"};
    memset(&t, 0, sizeof t);
    t.state = (lks_guard_state){
        .ranks = t.ranks, .count = RANKS, .timeout = TIMEOUT, .judges_progress = true};
    for (int r = 0; r < RANKS; r++)
        t.ranks[r] = (lks_guarded){
            .rank = r,
            .host = hosts[r],
            .report = {.phase = LKS_GUARD_TRAIN, .step = 41, .arrivals = 100, .waits = 1}};
    return &t;
}

/* All are heard, and say nothing new. */
static void hear_all(table *t, double now) {
    for (int r = 0; r < RANKS; r++)
        t->ranks[r].heard = now;
}

/* expected: NULL where nobody is missing. */
static void check(const table *t, double now, const char *expected) {
    lks_strbuf message = {0};
    bool missing = lks_guard_judge(&t->state, now, &message);
    if (expected)
        assert_string_equal(missing ? message.text : "nobody is missing", expected);
    else if (missing)
        fail_msg("%s", message.text);
    lks_strbuf_free(&message);
}

static void a_closed_connection_is_a_dead_rank(void **state) {
    (void)state;
    table *t = make();
    check(t, 0, NULL);
    t->ranks[3].ended = true;
    check(t, 0, "rank 3 (n1, training, 41 steps done) ended without a word");
}

static void silence_counts_half_of_the_timeout(void **state) {
    (void)state;
    table *t = make();
    hear_all(t, 4);
    t->ranks[2].heard = t->ranks[3].heard = 0;
    check(t, TIMEOUT / 2, NULL);
    check(t, TIMEOUT / 2 + 0.1,
          "rank 2 (n1, training, 41 steps done), rank 3 (n1, training, 41 steps done) gave no sign "
          "of life for 5 s: stopped, or the host is not reached");
}

static void many_are_counted(void **state) {
    (void)state;
    table *t = make();
    for (int r = 0; r < RANKS; r++)
        t->ranks[r].ended = true;
    lks_strbuf message = {0};
    assert_true(lks_guard_judge(&t->state, 0, &message));
    assert_non_null(strstr(message.text, "rank 3 (n1, training, 41 steps done) and 2 more ended"));
    lks_strbuf_free(&message);
}

static void who_waits_for_nobody_did_not_arrive(void **state) {
    (void)state;
    table *t = make();
    t->ranks[4].report.waits = 0;
    hear_all(t, TIMEOUT);
    check(t, TIMEOUT, NULL);
    hear_all(t, TIMEOUT + 1);
    check(t, TIMEOUT + 1,
          "nothing has got any further for 11 s: rank 4 (n2, training, 41 steps done) did not "
          "arrive where the others wait");
}

static void where_all_wait_those_behind_did_not_arrive(void **state) {
    (void)state;
    table *t = make();
    hear_all(t, TIMEOUT + 1);
    check(t, TIMEOUT + 1,
          "nothing has got any further for 11 s: all ranks wait for each other's data, which do "
          "not come through");
    t->ranks[1].report.arrivals = 99;
    check(t, TIMEOUT + 1,
          "nothing has got any further for 11 s: rank 1 (n0, training, 41 steps done) did not "
          "arrive where the others wait");
}

/* As with GPUs: whoever waits for the device seems to work. */
static void where_none_waits_those_behind_did_not_arrive(void **state) {
    (void)state;
    table *t = make();
    for (int r = 0; r < RANKS; r++)
        t->ranks[r].report.waits = 0;
    t->ranks[1].report.arrivals = 99;
    hear_all(t, TIMEOUT + 1);
    check(t, TIMEOUT + 1,
          "nothing has got any further for 11 s: rank 1 (n0, training, 41 steps done) did not "
          "arrive where the others wait");
    t->ranks[1].report.arrivals = 100;
    lks_strbuf message = {0};
    assert_true(lks_guard_judge(&t->state, TIMEOUT + 1, &message));
    assert_non_null(strstr(message.text, "11 s: rank 0 (n0, training, 41 steps done), rank 1"));
    assert_non_null(strstr(message.text, "rank 3 (n1, training, 41 steps done) and 2 more"));
    assert_null(strstr(message.text, "arrive"));
    lks_strbuf_free(&message);
}

/* The launcher ends the others when one has ended the job, in whatever order that is heard. */
static void one_that_ends_the_job_excuses_all(void **state) {
    (void)state;
    table *t = make();
    lks_guard_report last = t->ranks[4].report;
    last.kind = LKS_REPORT_ABANDON;
    t->ranks[2].ended = true;
    assert_false(lks_guard_end_is_told(&t->state));
    lks_guard_note(&t->state, &t->ranks[4], &last, 1);
    assert_true(lks_guard_end_is_told(&t->state));
    t->ranks[2].ended = false; /* it may be about to say why */
    assert_false(lks_guard_end_is_told(&t->state));
    t->ranks[4].ended = true;
    assert_true(lks_guard_end_is_told(&t->state));
}

static void rank_0_says_that_the_job_ends(void **state) {
    (void)state;
    table *t = make();
    lks_guard_report last = t->ranks[0].report;
    last.kind = LKS_REPORT_END;
    lks_guard_note(&t->state, &t->ranks[0], &last, 1);
    assert_true(lks_guard_end_is_told(&t->state));
}

/* One rank that gets further is enough: the others wait for it with reason. */
static void progress_and_pauses(void **state) {
    (void)state;
    table *t = make();
    lks_guard_report report = t->ranks[5].report;
    report.ticks++;
    lks_guard_note(&t->state, &t->ranks[5], &report, 9);
    hear_all(t, 19);
    check(t, 19, NULL);
    assert_true(t->state.longest_pause == 9);
    hear_all(t, 27.9);
    check(t, 27.9, NULL); /* 9 + 10 + 9 */
    hear_all(t, 28.1);
    lks_strbuf message = {0};
    assert_true(lks_guard_judge(&t->state, 28.1, &message));
    lks_strbuf_free(&message);
    lks_guard_note(&t->state, &t->ranks[5], &report, 28.1); /* heard again, but nothing new */
    assert_true(t->state.moved == 9);
}

/* While a rank starts, saves or restores; such a pause does not count as one of training. */
static void slow_phases_have_ten_times(void **state) {
    (void)state;
    static const lks_guard_phase slow[] = {LKS_GUARD_START, LKS_GUARD_SAVE, LKS_GUARD_RESTORE};
    for (int i = 0; i < 3; i++) {
        table *t = make();
        t->ranks[2].report.phase = slow[i];
        t->ranks[2].report.waits = 0;
        hear_all(t, 10 * TIMEOUT);
        check(t, 10 * TIMEOUT, NULL);
        lks_strbuf message = {0};
        hear_all(t, 10 * TIMEOUT + 1);
        assert_true(lks_guard_judge(&t->state, 10 * TIMEOUT + 1, &message));
        lks_strbuf_free(&message);
        lks_guard_report report = t->ranks[2].report;
        report.phase = LKS_GUARD_TRAIN;
        lks_guard_note(&t->state, &t->ranks[2], &report, 10 * TIMEOUT + 1);
        assert_true(t->state.longest_pause == 0);
    }
}

/* A rank that sees rank 0 alone leaves that judgement to it; one that sees itself alone has nobody
 * to blame. */
static void not_all_are_seen(void **state) {
    (void)state;
    table *t = make();
    t->state.count = 1;
    t->state.judges_progress = false;
    hear_all(t, 100);
    check(t, 100, NULL);
    t->state.judges_progress = true;
    check(t, 100, "nothing has got any further for 100 s: rank 0 (n0, training, 41 steps done)");
    t->ranks[0].report.waits = 0;
    check(t, 100, "nothing has got any further for 100 s: rank 0 (n0, training, 41 steps done)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_connection_is_a_dead_rank),
        cmocka_unit_test(silence_counts_half_of_the_timeout),
        cmocka_unit_test(many_are_counted),
        cmocka_unit_test(who_waits_for_nobody_did_not_arrive),
        cmocka_unit_test(where_all_wait_those_behind_did_not_arrive),
        cmocka_unit_test(where_none_waits_those_behind_did_not_arrive),
        cmocka_unit_test(one_that_ends_the_job_excuses_all),
        cmocka_unit_test(rank_0_says_that_the_job_ends),
        cmocka_unit_test(progress_and_pauses),
        cmocka_unit_test(slow_phases_have_ten_times),
        cmocka_unit_test(not_all_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
