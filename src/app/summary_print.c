#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "app/summary.h"

/* ---- for people ---- */

static void print_origin(const lks_summary *s, lks_strbuf *out) {
    lks_strbuf_add(out, "  %-10s", "saved");
    lks_strbuf_add(out, "%s", s->created ? s->created : "at an unknown time");
    if (s->version) lks_strbuf_add(out, " by Lockstep %s", s->version);
    if (s->ranks > 0) lks_strbuf_add(out, " on %" PRId64 " rank%s", s->ranks, lks_plural(s->ranks));
    if (s->imported_from) lks_strbuf_add(out, ", imported from %s", s->imported_from);
    lks_strbuf_add(out, "\n");
}

static void print_progress(const lks_summary *s, lks_strbuf *out) {
    if (s->epoch < 0) return;
    lks_strbuf_add(out, "  %-10s%" PRId64, "epoch", s->epoch);
    if (s->step > 0)
        lks_strbuf_add(out, " and %" PRId64 " step%s of the next", s->step, lks_plural(s->step));
    if (s->global_step >= 0)
        lks_strbuf_add(out, ", %" PRId64 " step%s in all", s->global_step,
                       lks_plural(s->global_step));
    if (s->batch_size > 0 && s->sample_count > 0)
        lks_strbuf_add(out, ", batches of %" PRId64 " from %" PRId64 " samples", s->batch_size,
                       s->sample_count);
    lks_strbuf_add(out, "\n");
}

static void print_sizes(const lks_summary *s, lks_strbuf *out) {
    char size[LKS_BYTES_TEXT_BYTES];
    lks_strbuf_add(out, "  %-10s%" PRId64 " parameters", "model", s->parameters);
    if (s->buffers > 0) lks_strbuf_add(out, " and %" PRId64 " numbers in buffers", s->buffers);
    lks_strbuf_add(out, ", %" PRId64 " array%s, %s\n", s->model_arrays, lks_plural(s->model_arrays),
                   lks_bytes_text((size_t)s->model_bytes, size));
    lks_strbuf_add(out, "  %-10s%" PRId64 " array%s, %s\n", "in all", s->array_count,
                   lks_plural(s->array_count), lks_bytes_text((size_t)s->bytes, size));
}

enum { COLUMN = 18 };

static void print_metric(double value, lks_strbuf *out) {
    if (isnan(value))
        lks_strbuf_add(out, "%*s", COLUMN, "-");
    else
        lks_strbuf_add(out, "%*.6g", COLUMN, value);
}

/* The last epoch's, and where that is another one, the best epoch's. */
static void print_metrics(const lks_summary *s, lks_strbuf *out) {
    if (s->metric_count == 0) return;
    char last[32], best[32];
    bool is_best = s->best_epoch == s->epoch, has_best = s->best_epoch >= 1 && !is_best;
    snprintf(last, sizeof last, "epoch %" PRId64 "%s", s->epoch, is_best ? " (best)" : "");
    snprintf(best, sizeof best, "epoch %" PRId64 " (best)", s->best_epoch);
    lks_strbuf_add(out, "\n  %-12s%*s%*s\n", "metric", COLUMN, last, has_best ? COLUMN : 0,
                   has_best ? best : "");
    for (int i = 0; i < s->metric_count; i++) {
        lks_strbuf_add(out, "  %-12s", s->metrics[i].name);
        print_metric(s->metrics[i].last, out);
        if (has_best) print_metric(s->metrics[i].best, out);
        lks_strbuf_add(out, "\n");
    }
}

void lks_summary_print(const lks_summary *s, lks_strbuf *out) {
    print_origin(s, out);
    print_progress(s, out);
    if (s->optimizer)
        lks_strbuf_add(out, "  %-10s%s %s\n", "optimizer", s->optimizer,
                       s->hyper_parameters ? s->hyper_parameters : "");
    if (s->schedule) lks_strbuf_add(out, "  %-10s%s\n", "schedule", s->schedule);
    print_sizes(s, out);
    print_metrics(s, out);
}

/* ---- for programs ---- */

static void json_text(const char *name, const char *value, lks_strbuf *out) {
    lks_strbuf_add(out, "\"%s\": ", name);
    if (value)
        lks_strbuf_add_json(out, value);
    else
        lks_strbuf_add(out, "null");
    lks_strbuf_add(out, ", ");
}

/* Negative ones are not known. */
static void json_integer(const char *name, int64_t value, lks_strbuf *out) {
    if (value >= 0)
        lks_strbuf_add(out, "\"%s\": %" PRId64 ", ", name, value);
    else
        lks_strbuf_add(out, "\"%s\": null, ", name);
}

static void json_metrics(const lks_summary *s, bool best, lks_strbuf *out) {
    for (int i = 0; i < s->metric_count; i++) {
        lks_strbuf_add(out, "%s", i ? ", " : "");
        lks_strbuf_add_json(out, s->metrics[i].name);
        lks_strbuf_add(out, ": ");
        lks_strbuf_add_json_number(out, best ? s->metrics[i].best : s->metrics[i].last);
    }
}

void lks_summary_print_json(const lks_summary *s, lks_strbuf *out) {
    json_text("lockstep_version", s->version, out);
    json_text("created", s->created, out);
    json_integer("ranks_at_save", s->ranks, out);
    json_text("imported_from", s->imported_from, out);
    json_integer("epoch", s->epoch, out);
    json_integer("step", s->step, out);
    json_integer("global_step", s->global_step, out);
    json_integer("batch_size", s->batch_size, out);
    json_integer("sample_count", s->sample_count, out);
    json_text("optimizer", s->optimizer, out);
    json_text("hyper_parameters", s->hyper_parameters, out);
    json_text("schedule", s->schedule, out);
    json_integer("parameters", s->parameters, out);
    json_integer("buffers", s->buffers, out);
    json_integer("model_bytes", s->model_bytes, out);
    json_integer("array_count", s->array_count, out);
    json_integer("bytes", s->bytes, out);
    lks_strbuf_add(out, "\"last\": {");
    json_metrics(s, false, out);
    lks_strbuf_add(out, "}, ");
    json_integer("best_epoch", s->best_epoch, out);
    lks_strbuf_add(out, "\"best_value\": ");
    lks_strbuf_add_json_number(out, s->best_value);
    lks_strbuf_add(out, ", \"best\": {");
    json_metrics(s, true, out);
    lks_strbuf_add(out, "}");
}
