#include "app/report.h"

#include <stdarg.h>
#include <string.h>

#include "lockstep/version.h"

/* Where texts begin and end. */
enum { COLUMN = 26, WIDTH = 100 };

static const char *const verdict_names[LKS_VERDICT_COUNT] = {"ok", "warning", "problem"};
static const char *const verdict_signs[LKS_VERDICT_COUNT] = {"ok", "WARNING", "PROBLEM"};

/* ---- lines for people ---- */

/* The text from the present column on, broken between words. */
static void print_wrapped(FILE *stream, const char *text) {
    int used = COLUMN;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (used > COLUMN && used + 1 + length > WIDTH) {
            fprintf(stream, "\n%*s", COLUMN, "");
            used = COLUMN;
        } else if (used > COLUMN) {
            fputc(' ', stream);
            used++;
        }
        fprintf(stream, "%.*s", length, text);
        used += length;
        text += length + (text[length] == ' ');
    }
    fputc('\n', stream);
}

static void print_finding(FILE *stream, lks_verdict verdict, const char *check, const char *text,
                          const char *advice) {
    fprintf(stream, "  %-8s %-*s ", verdict_signs[verdict], COLUMN - 12, check);
    print_wrapped(stream, text);
    if (advice) {
        fprintf(stream, "%*s", COLUMN, "-> ");
        print_wrapped(stream, advice);
    }
    fflush(stream);
}

/* ---- JSON ---- */

static void add_json(lks_report *report, lks_verdict verdict, const char *check, const char *text,
                     const char *advice) {
    lks_strbuf *out = &report->findings;
    lks_strbuf_add(out, "%s\n  {\"check\": ", out->length ? "," : "");
    lks_strbuf_add_json(out, check);
    lks_strbuf_add(out, ", \"verdict\": \"%s\", \"text\": ", verdict_names[verdict]);
    lks_strbuf_add_json(out, text);
    lks_strbuf_add(out, ", \"advice\": ");
    if (advice)
        lks_strbuf_add_json(out, advice);
    else
        lks_strbuf_add(out, "null");
    lks_strbuf_add(out, "%s}", report->values.length ? report->values.text : "");
}

void lks_report_number(lks_report *report, const char *key, double value) {
    lks_strbuf_add_number_member(&report->values, key, value);
}

void lks_report_text(lks_report *report, const char *key, const char *value) {
    lks_strbuf_add_text_member(&report->values, key, value);
}

/* ---- findings ---- */

static void add(lks_report *report, lks_verdict verdict, const char *check, const char *text,
                const char *advice) {
    report->counts[verdict]++;
    if (report->stream && report->json)
        add_json(report, verdict, check, text, advice);
    else if (report->stream)
        print_finding(report->stream, verdict, check, text, advice);
    lks_strbuf_free(&report->values);
}

static void add_formatted(lks_report *report, lks_verdict verdict, const char *check,
                          const char *advice, const char *format, va_list args) {
    char text[LKS_ERROR_BYTES];
    vsnprintf(text, sizeof text, format, args);
    add(report, verdict, check, text, advice);
}

void lks_report_ok(lks_report *report, const char *check, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_formatted(report, LKS_VERDICT_OK, check, NULL, format, args);
    va_end(args);
}

void lks_report_warn(lks_report *report, const char *check, const char *advice, const char *format,
                     ...) {
    va_list args;
    va_start(args, format);
    add_formatted(report, LKS_VERDICT_WARNING, check, advice, format, args);
    va_end(args);
}

void lks_report_fail(lks_report *report, lks_status status, const char *check, const char *advice) {
    if (!report->first) report->first = status;
    add(report, LKS_VERDICT_PROBLEM, check, lks_last_error(), advice);
}

void lks_report_end(lks_report *report) {
    int problems = report->counts[LKS_VERDICT_PROBLEM];
    int warnings = report->counts[LKS_VERDICT_WARNING];
    if (report->stream && report->json)
        fprintf(report->stream,
                "{\"lockstep_version\": \"" LKS_VERSION
                "\", \"problems\": %d, \"warnings\": %d, \"findings\": [%s\n]}\n",
                problems, warnings, report->findings.failed ? "" : report->findings.text);
    else if (report->stream)
        fprintf(report->stream, "\n%d problem%s, %d warning%s.\n", problems, lks_plural(problems),
                warnings, lks_plural(warnings));
    if (report->stream) fflush(report->stream);
    lks_strbuf_free(&report->findings);
    lks_strbuf_free(&report->values);
}
