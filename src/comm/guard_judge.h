/* Who is missing? What the ranks have said of themselves, and the verdict. Plain arithmetic, inside
 * src/comm only. */
#ifndef LKS_COMM_GUARD_JUDGE_H
#define LKS_COMM_GUARD_JUDGE_H

#include "comm/guard.h"

/* What a rank says of itself. As bytes it is also the message that ranks send each other. */
typedef struct lks_guard_report {
    uint32_t kind;     /* an lks_report_kind */
    uint32_t phase;    /* an lks_guard_phase */
    int64_t step;      /* finished steps of the run */
    uint64_t ticks;    /* pieces of work that it has finished */
    uint64_t arrivals; /* collectives that it has begun */
    uint64_t waits;    /* 1: it waits for others in one */
} lks_guard_report;

typedef enum lks_report_kind {
    LKS_REPORT_ALIVE,
    LKS_REPORT_ABANDON, /* it ends the job, and says why itself */
    LKS_REPORT_END      /* of rank 0: the job ends, and rank 0 has said why */
} lks_report_kind;

/* One rank as seen from another. */
typedef struct lks_guarded {
    int rank;
    const char *host;
    lks_guard_report report; /* the last one */
    double heard;            /* clock when it came */
    bool ended;              /* its connection was closed */
} lks_guarded;

/* What has been seen of all of them. */
typedef struct lks_guard_state {
    lks_guarded *ranks; /* [count] */
    int count;
    double timeout;       /* as configured */
    bool judges_progress; /* all whom the ranks could be waiting for are among them */
    double moved;         /* clock when one of them last got any further */
    double longest_pause; /* seconds between two such moments, in training and validation */
} lks_guard_state;

/* Takes a rank's new report. */
void lks_guard_note(lks_guard_state *state, lks_guarded *rank, const lks_guard_report *report,
                    double now);

/* Does the job end for a reason that another rank tells? Either rank 0 has said so; or a rank has
 * said that it ends the job, and connections close: its own, or those of ranks that the launcher
 * has ended on its account. */
bool lks_guard_end_is_told(const lks_guard_state *state);

/* Has a rank ended, or been silent for half of the timeout, or has none got any further for the
 * timeout and the longest pause (ten times that at start and where files are read or written, which
 * may take long without a sign)? Then true, and the message with who it is, where and in what. */
bool lks_guard_judge(const lks_guard_state *state, double now, lks_strbuf *message);

#endif
