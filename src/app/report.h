/* A list of findings, each fine, a warning or a problem with what to do about it, printed as it
 * grows: where a program gets stuck, what it found out before is there. */
#ifndef LKS_APP_REPORT_H
#define LKS_APP_REPORT_H

#include <stdio.h>

#include "base/base.h"

typedef enum lks_verdict {
    LKS_VERDICT_OK,
    LKS_VERDICT_WARNING,
    LKS_VERDICT_PROBLEM,
    LKS_VERDICT_COUNT
} lks_verdict;

/* Zero-initialised but for the first two members. */
typedef struct lks_report {
    FILE *stream;     /* NULL: nothing is printed, as on all ranks but one */
    bool json;        /* one object at the end, instead of lines */
    lks_status first; /* of the first problem */
    int counts[LKS_VERDICT_COUNT];
    lks_strbuf values;   /* JSON members of the next finding */
    lks_strbuf findings; /* JSON objects */
} lks_report;

/* For programs: members of the finding that is added next. */
void lks_report_number(lks_report *report, const char *key, double value);
void lks_report_text(lks_report *report, const char *key, const char *value);

/* check: one or two words. advice: what to do about it; NULL: nothing more to say. */
void lks_report_ok(lks_report *report, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lks_report_warn(lks_report *report, const char *check, const char *advice, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));
/* A problem, in the words of lks_last_error. */
void lks_report_fail(lks_report *report, lks_status status, const char *check, const char *advice);

/* The last line: what it all comes to. Nothing is added afterwards; the counts stay. */
void lks_report_end(lks_report *report);

#endif
