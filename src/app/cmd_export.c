#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/output.h"
#include "app/summary.h"
#include "checkpoint/exchange.h"

/* What goes along with the weights: texts, since some formats have no others. */
typedef struct notes {
    lks_weights_note list[LKS_SUMMARY_MAX_METRICS + 2];
    char values[LKS_SUMMARY_MAX_METRICS + 2][32];
    int count;
} notes;

static void add_number(notes *n, const char *name, const char *format, double value) {
    char *text = n->values[n->count];
    snprintf(text, sizeof n->values[0], format, value);
    n->list[n->count++] = (lks_weights_note){name, text};
}

/* The metrics are those of the last epoch: the one whose weights these are. */
static void make_notes(const lks_summary *summary, notes *out) {
    if (summary->version)
        out->list[out->count++] = (lks_weights_note){"lockstep_version", summary->version};
    if (summary->epoch >= 0) add_number(out, "epoch", "%.0f", (double)summary->epoch);
    for (int i = 0; i < summary->metric_count; i++)
        if (isfinite(summary->metrics[i].last))
            add_number(out, summary->metrics[i].name, "%.9g", summary->metrics[i].last);
}

static lks_status export_weights(lks_checkpoint *checkpoint, const lks_weights_format *format,
                                 const char *path) {
    lks_summary summary;
    lks_exchange_summary written;
    notes n = {0};
    char size[LKS_BYTES_TEXT_BYTES];
    lks_status status = lks_summary_read(checkpoint, &summary);
    make_notes(&summary, &n);
    if (!status)
        status = lks_weights_export(checkpoint, "/model", n.list, n.count, format, path, &written);
    if (!status)
        printf("%s: %d arrays, %" PRId64 " numbers, %s (%s)\n", path, written.array_count,
               written.element_count, lks_bytes_text((size_t)written.bytes, size),
               lks_weights_format_name(format));
    lks_summary_free(&summary);
    return status;
}

lks_status lks_command_export(const lks_args *args) {
    const char *from = args->operands[0];
    const lks_weights_format *format;
    lks_checkpoint *checkpoint;
    lks_status status = lks_output_check(from, args->out, args->force);
    if (status) return status;
    if (lks_weights_format_find(args->format, args->out, &format))
        return lks_fail_in(LKS_EUSAGE, args->format ? "--format" : "--out");
    status = lks_checkpoint_open(from, &checkpoint);
    if (status) return status;
    status = export_weights(checkpoint, format, args->out);
    lks_checkpoint_close(checkpoint);
    return status;
}
