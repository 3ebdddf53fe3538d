#include "app/plan_print.h"

#include <inttypes.h>

static bool has_forecast(const lks_plan_row *row) {
    return row->forecast.step > 0;
}

static double run_hours(const lks_plan_row *row) {
    return (double)row->outline.run_steps * row->forecast.step / 3600;
}

/* Does any plan have memory of this kind? (Not all runs have masters.) */
static bool has_kind(const lks_plan_row *rows, int count, int kind) {
    for (int i = 0; i < count; i++)
        if (rows[i].needs.kinds[kind] > 0) return true;
    return kind != LKS_MEMORY_MASTERS;
}

/* Imagined ranks take host memory for sums where the host is their device. */
static bool has_sums(const lks_plan_row *rows, int count) {
    for (int i = 0; i < count; i++)
        if (rows[i].needs.sums > 0) return true;
    return false;
}

static int64_t all_bytes(const lks_plan_row *row) {
    return row->needs.device + row->needs.sums;
}

static void print_memory(const lks_plan_row *rows, int count, lks_strbuf *out) {
    char text[LKS_BYTES_TEXT_BYTES];
    lks_strbuf_add(out, "Device memory of a rank:\n\n%7s %10s %10s", "ranks", "zero_stage",
                   "samples");
    for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++)
        if (has_kind(rows, count, kind)) lks_strbuf_add(out, " %15s", lks_memory_kind_names[kind]);
    if (has_sums(rows, count)) lks_strbuf_add(out, " %15s", "sums under way");
    lks_strbuf_add(out, " %15s\n", "all");
    for (int i = 0; i < count; i++) {
        const lks_plan_row *row = &rows[i];
        if (row->refusal) continue;
        lks_strbuf_add(out, "%7d %10d %10" PRId64, row->ranks, row->zero_stage, row->outline.rows);
        for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++)
            if (has_kind(rows, count, kind))
                lks_strbuf_add(out, " %15s", lks_bytes_text((size_t)row->needs.kinds[kind], text));
        if (has_sums(rows, count))
            lks_strbuf_add(out, " %15s", lks_bytes_text((size_t)row->needs.sums, text));
        lks_strbuf_add(out, " %15s\n", lks_bytes_text((size_t)all_bytes(row), text));
    }
}

static void print_times(const lks_plan_row *rows, int count, lks_strbuf *out) {
    lks_strbuf_add(out,
                   "\nOne step, predicted, in ms, and the steps of all epochs:\n\n"
                   "%7s %10s %12s %12s %14s %12s %11s %12s %10s %11s\n",
                   "ranks", "zero_stage", "step", "computing", "communication", "exposed",
                   "efficiency", "samples/s", "hours", "rank hours");
    for (int i = 0; i < count; i++) {
        const lks_plan_row *row = &rows[i];
        const lks_forecast *f = &row->forecast;
        if (row->refusal) continue;
        lks_strbuf_add(out, "%7d %10d %12.3f %12.3f %14.3f %12.3f %10.1f%% %12.1f %10.4g %11.4g\n",
                       row->ranks, row->zero_stage, 1e3 * f->step, 1e3 * f->computing,
                       1e3 * f->communication, 1e3 * f->exposed, 100 * row->efficiency,
                       (double)row->outline.batch / f->step, run_hours(row),
                       row->ranks * run_hours(row));
    }
}

/* What the ranks of a node cost each other is known only where a profile was made beside as many.
 */
static void print_profiled(const lks_plan_row *rows, int count, lks_strbuf *out) {
    int told = 0;
    for (int i = 0; i < count; i++) {
        const lks_plan_row *row = &rows[i];
        if (row->refusal || row->profiled == row->neighbours || row->neighbours == told) continue;
        told = row->neighbours;
        lks_strbuf_add(out,
                       "\nNo profile has %d rank%s on a host: nodes of as many are predicted from "
                       "one of %d, where caches and memory are shared otherwise.\n",
                       told, lks_plural(told), row->profiled);
    }
}

/* The stages of a number of ranks are refused for one reason. */
static void print_refusals(const lks_plan_row *rows, int count, lks_strbuf *out) {
    for (int i = 0; i < count; i++)
        if (rows[i].refusal && (i == 0 || rows[i].ranks != rows[i - 1].ranks))
            lks_strbuf_add(out, "\nNot possible: %s\n", rows[i].refusal);
}

/* There is one row at least that is not refused. */
static const lks_plan_row *first_possible(const lks_plan_row *rows) {
    while (rows->refusal)
        rows++;
    return rows;
}

void lks_plan_print(const lks_plan_row *rows, int count, lks_strbuf *out) {
    print_memory(rows, count, out);
    if (has_forecast(first_possible(rows))) {
        print_times(rows, count, out);
        print_profiled(rows, count, out);
    } else
        lks_strbuf_add(out,
                       "\nWith --profile, of a run with `lockstep train --profile N`, also how "
                       "long a step takes.\n");
    print_refusals(rows, count, out);
}

static void add_memory(const lks_plan_row *row, lks_strbuf *out) {
    static const char *const keys[LKS_MEMORY_KINDS] = {"parameters", "float32_masters", "gradients",
                                                       "optimizer_state", "activations"};
    lks_strbuf_add(out, ", \"memory\": {\"all\": %" PRId64, all_bytes(row));
    for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++)
        lks_strbuf_add(out, ", \"%s\": %" PRId64, keys[kind], row->needs.kinds[kind]);
    lks_strbuf_add(out, ", \"sums_under_way\": %" PRId64 "}", row->needs.sums);
}

static void add_forecast(const lks_plan_row *row, lks_strbuf *out) {
    lks_strbuf_add_number_member(out, "ranks_per_node", row->neighbours);
    lks_strbuf_add_number_member(out, "profiled_ranks_per_node", row->profiled);
    lks_strbuf_add_number_member(out, "step_seconds", row->forecast.step);
    lks_strbuf_add_number_member(out, "computing_seconds", row->forecast.computing);
    lks_strbuf_add_number_member(out, "communication_seconds", row->forecast.communication);
    lks_strbuf_add_number_member(out, "exposed_seconds", row->forecast.exposed);
    lks_strbuf_add_number_member(out, "efficiency", row->efficiency);
    lks_strbuf_add_number_member(out, "run_hours", run_hours(row));
}

void lks_plan_print_json(const lks_plan_row *rows, int count, lks_strbuf *out) {
    lks_strbuf_add(out, "{\"format\": \"lockstep plan 1\", \"plans\": [");
    for (int i = 0; i < count; i++) {
        const lks_plan_row *row = &rows[i];
        lks_strbuf_add(out, "%s\n  {\"ranks\": %d, \"zero_stage\": %d", i ? "," : "", row->ranks,
                       row->zero_stage);
        if (row->refusal) {
            lks_strbuf_add_text_member(out, "refused", row->refusal);
        } else {
            lks_strbuf_add(out, ", \"rows\": %" PRId64, row->outline.rows);
            add_memory(row, out);
        }
        if (has_forecast(row)) add_forecast(row, out);
        lks_strbuf_add(out, "}");
    }
    lks_strbuf_add(out, "\n]}\n");
}
