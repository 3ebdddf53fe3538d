#include "comm/guard_judge.h"

#include <string.h>

enum { MAX_NAMED = 4 };

typedef struct phase {
    const char *words;
    double patience; /* multiple of the timeout */
} phase;

static const phase phases[LKS_GUARD_COUNT] = {
    [LKS_GUARD_START] = {"starting up", 10},
    [LKS_GUARD_TRAIN] = {"training", 1},
    [LKS_GUARD_VALIDATE] = {"validating", 1},
    [LKS_GUARD_SAVE] = {"saving a checkpoint", 10},
    [LKS_GUARD_RESTORE] = {"restoring a checkpoint", 10},
};

static const phase *phase_of(const lks_guarded *rank) {
    return &phases[rank->report.phase < LKS_GUARD_COUNT ? rank->report.phase : LKS_GUARD_START];
}

/* The most that one of them is granted: the others may be waiting for it. */
static double patience(const lks_guard_state *state) {
    double most = 1;
    for (int i = 0; i < state->count; i++)
        if (phase_of(&state->ranks[i])->patience > most)
            most = phase_of(&state->ranks[i])->patience;
    return most;
}

void lks_guard_note(lks_guard_state *state, lks_guarded *rank, const lks_guard_report *report,
                    double now) {
    rank->heard = now;
    if (memcmp(&rank->report, report, sizeof *report) == 0) return;
    double pause = now - state->moved;
    if (patience(state) == 1 && pause > state->longest_pause) state->longest_pause = pause;
    state->moved = now;
    rank->report = *report;
}

/* ---- the message ---- */

/* Is this rank among those that the message is about? */
typedef bool (*picks_fn)(const lks_guard_state *state, const lks_guarded *rank, double now);

/* "rank 2 (node7, training, 41 steps done)", several of them with commas; returns how many there
 * are. */
static int name_ranks(const lks_guard_state *state, picks_fn picks, double now, lks_strbuf *out) {
    int found = 0;
    for (int i = 0; i < state->count; i++) {
        const lks_guarded *r = &state->ranks[i];
        if (!picks(state, r, now) || ++found > MAX_NAMED) continue;
        lks_strbuf_add(out, "%srank %d (%s, %s, %lld steps done)", found > 1 ? ", " : "", r->rank,
                       r->host, phase_of(r)->words, (long long)r->report.step);
    }
    if (found > MAX_NAMED) lks_strbuf_add(out, " and %d more", found - MAX_NAMED);
    return found;
}

static int count_ranks(const lks_guard_state *state, picks_fn picks, double now) {
    int found = 0;
    for (int i = 0; i < state->count; i++)
        found += picks(state, &state->ranks[i], now);
    return found;
}

static bool has_ended(const lks_guard_state *state, const lks_guarded *rank, double now) {
    (void)state, (void)now;
    return rank->ended;
}

/* Half of the timeout: who was stopped is found before those who wait for it look stalled, and well
 * within the timeout. */
static bool is_silent(const lks_guard_state *state, const lks_guarded *rank, double now) {
    return now - rank->heard > state->timeout / 2;
}

static bool is_any(const lks_guard_state *state, const lks_guarded *rank, double now) {
    (void)state, (void)rank, (void)now;
    return true;
}

static bool works_alone(const lks_guard_state *state, const lks_guarded *rank, double now) {
    (void)state, (void)now;
    return rank->report.waits == 0;
}

static bool is_behind(const lks_guard_state *state, const lks_guarded *rank, double now) {
    (void)now;
    for (int i = 0; i < state->count; i++)
        if (state->ranks[i].report.arrivals > rank->report.arrivals) return true;
    return false;
}

/* Those that wait for nobody are those for whom the others wait. Where all wait, or none does (a
 * rank that waits for its GPU, where the collectives are, does not say so), those that have begun
 * fewer collectives than others. */
static void add_stalled(const lks_guard_state *state, double now, lks_strbuf *out) {
    lks_strbuf_add(out, "nothing has got any further for %.0f s: ", now - state->moved);
    int alone = count_ranks(state, works_alone, now);
    picks_fn picks = alone > 0 && alone < state->count ? works_alone : is_behind;
    if (name_ranks(state, picks, now, out) > 0)
        lks_strbuf_add(out, " did not arrive where the others wait");
    else if (alone > 0 || state->count == 1)
        name_ranks(state, is_any, now, out);
    else
        lks_strbuf_add(out, "all ranks wait for each other's data, which do not come through");
}

bool lks_guard_end_is_told(const lks_guard_state *state) {
    bool abandoned = false, ended = false;
    for (int i = 0; i < state->count; i++) {
        const lks_guarded *r = &state->ranks[i];
        if (r->report.kind == LKS_REPORT_END) return true;
        abandoned |= r->report.kind == LKS_REPORT_ABANDON;
        ended |= r->ended;
    }
    return abandoned && ended;
}

bool lks_guard_judge(const lks_guard_state *state, double now, lks_strbuf *message) {
    if (count_ranks(state, has_ended, now) > 0) {
        name_ranks(state, has_ended, now, message);
        lks_strbuf_add(message, " ended without a word");
        return true;
    }
    if (count_ranks(state, is_silent, now) > 0) {
        name_ranks(state, is_silent, now, message);
        lks_strbuf_add(message,
                       " gave no sign of life for %.0f s: stopped, or the host is not reached",
                       state->timeout / 2);
        return true;
    }
    double limit = patience(state) * state->timeout + state->longest_pause;
    if (!state->judges_progress || now - state->moved <= limit) return false;
    add_stalled(state, now, message);
    return true;
}
