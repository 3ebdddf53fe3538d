/* How fast the ranks talk. */
#include "app/comm_bench.h"
#include "app/doctor.h"

enum { SIZES = 3 };

static void add_time(int64_t bytes, double seconds, lks_strbuf *out) {
    char size[LKS_BYTES_TEXT_BYTES];
    const double rate = (double)bytes / seconds;
    lks_strbuf_add(out, "%s%s in ", out->length ? ", " : "", lks_bytes_text((size_t)bytes, size));
    if (seconds < 1e-3)
        lks_strbuf_add(out, "%.1f us", 1e6 * seconds);
    else
        lks_strbuf_add(out, "%.2f ms", 1e3 * seconds);
    if (bytes >= 1 << 20) lks_strbuf_add(out, " (%.2f GB/s)", 1e-9 * rate);
}

static void report_times(lks_report *report, const lks_comm_sample *samples, const char *path) {
    lks_strbuf text = {0};
    for (int i = 0; i < SIZES; i++) {
        char key[48];
        add_time(samples[i].bytes, samples[i].seconds, &text);
        snprintf(key, sizeof key, "seconds_of_%lld_bytes", (long long)samples[i].bytes);
        lks_report_number(report, key, samples[i].seconds);
    }
    lks_report_ok(report, "all-reduce", "by %s: %s", path, text.failed ? "" : text.text);
    lks_strbuf_free(&text);
}

lks_status lks_doctor_time_all_reduce(lks_doctor *d) {
    /* Small enough for nothing but latency, a first bucket of gradients, and a later one. */
    lks_comm_sample samples[SIZES] = {{.kind = LKS_ALL_REDUCE, .bytes = 8},
                                      {.kind = LKS_ALL_REDUCE, .bytes = 1 << 20},
                                      {.kind = LKS_ALL_REDUCE, .bytes = 25 << 20}};
    lks_comm *comm = lks_context_comm(d->job.context);
    if (lks_comm_size(comm) == 1) {
        lks_report_ok(&d->report, "all-reduce", "one rank has nobody to talk to");
        return LKS_OK;
    }
    lks_device *device = lks_context_device(d->job.context);
    lks_status status = lks_comm_measure(comm, device, false, samples, SIZES);
    if (status)
        lks_report_fail(&d->report, status, "all-reduce", NULL);
    else
        report_times(&d->report, samples, lks_comm_device_path(comm));
    return lks_strands_others(status) ? status : LKS_OK;
}
