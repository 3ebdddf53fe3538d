/* How fast the ranks talk. */
#include <string.h>

#include "app/doctor.h"

/* Small enough for nothing but latency, a first bucket of gradients, and a later one. */
static const struct {
    int64_t bytes;
    int repeats;
} sizes[] = {{8, 200}, {1 << 20, 20}, {25 << 20, 4}};
enum { SIZES = sizeof sizes / sizeof *sizes, WARM_UPS = 2 };

/* Seconds of one all-reduce, the mean of some. */
static lks_status time_one(lks_comm *comm, float *data, int64_t bytes, int repeats, double *out) {
    const int64_t count = bytes / (int64_t)sizeof *data;
    double began = 0;
    lks_status status = LKS_OK;
    for (int i = -WARM_UPS; i < repeats && !status; i++) {
        if (i == 0) began = lks_clock_seconds();
        status = lks_comm_all_reduce(comm, data, count, LKS_F32, LKS_REDUCE_SUM);
    }
    *out = (lks_clock_seconds() - began) / repeats;
    return status;
}

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

static lks_status time_all(lks_doctor *d, float *data, lks_strbuf *text) {
    lks_status status = LKS_OK;
    for (int i = 0; i < SIZES && !status; i++) {
        double seconds;
        char key[48];
        status = time_one(lks_context_comm(d->job.context), data, sizes[i].bytes, sizes[i].repeats,
                          &seconds);
        if (status) break;
        add_time(sizes[i].bytes, seconds, text);
        snprintf(key, sizeof key, "seconds_of_%lld_bytes", (long long)sizes[i].bytes);
        lks_report_number(&d->report, key, seconds);
    }
    return status;
}

lks_status lks_doctor_time_all_reduce(lks_doctor *d) {
    lks_comm *comm = lks_context_comm(d->job.context);
    lks_device *device = lks_context_device(d->job.context);
    const size_t most = (size_t)sizes[SIZES - 1].bytes;
    if (lks_comm_size(comm) == 1) {
        lks_report_ok(&d->report, "all-reduce", "one rank has nobody to talk to");
        return LKS_OK;
    }
    void *data = NULL;
    lks_strbuf text = {0};
    lks_status status = lks_device_alloc(device, most, &data);
    if (!status)
        status = lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), data, most);
    status = lks_comm_agree(comm, status);
    if (!status) status = time_all(d, data, &text);
    if (status)
        lks_report_fail(&d->report, status, "all-reduce", NULL);
    else
        lks_report_ok(&d->report, "all-reduce", "by %s: %s", lks_comm_device_path(comm),
                      text.failed ? "" : text.text);
    lks_strbuf_free(&text);
    lks_device_free(device, data);
    return status == LKS_ECOMM ? status : LKS_OK;
}
