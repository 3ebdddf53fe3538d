/* The machine: libraries, hosts, cores, devices. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/doctor.h"
#include "h5/h5.h"

/* ---- libraries ---- */

void lks_doctor_check_libraries(lks_doctor *d) {
    char library[LKS_COMM_LIBRARY_BYTES];
    bool enough;
    const char *level = lks_comm_thread_level(&enough);
    lks_comm_library(library);
    lks_report_text(&d->report, "library", library);
    lks_report_text(&d->report, "thread_level", level);
    if (enough)
        lks_report_ok(&d->report, "MPI", "%s, %s", library, level);
    else
        lks_report_fail(&d->report,
                        lks_fail(LKS_ECOMM, "%s gives %s, but training needs MPI_THREAD_FUNNELED",
                                 library, level),
                        "MPI", "use an MPI library that was built with support for threads");
    lks_report_ok(&d->report, "NCCL", "%s", lks_comm_device_library(library));
    lks_report_text(&d->report, "version", lks_h5_version());
    lks_report_ok(&d->report, "HDF5", "%s, %s", lks_h5_version(),
                  lks_h5_is_parallel() ? "parallel"
                                       : "not parallel, which Lockstep does not ask for");
}

/* ---- every rank tells the others ---- */

static void describe_self(const lks_doctor *d, const lks_cpu_share *cpus, lks_station *out) {
    lks_device *device = lks_context_device(d->job.context);
    *out = (lks_station){.cpus = *cpus,
                         .threads = lks_device_threads(device),
                         .is_host = lks_device_is_host(device),
                         .host_available = lks_memory_available(),
                         .device_available = INT64_MAX};
    if (gethostname(out->host, sizeof out->host - 1) != 0) strcpy(out->host, "unknown");
    snprintf(out->kind, sizeof out->kind, "%s", lks_device_kind(device));
    snprintf(out->device, sizeof out->device, "%s", lks_device_description(device));
    snprintf(out->place, sizeof out->place, "%s", out->is_host ? "" : lks_device_place(device));
}

static void number_hosts(lks_doctor *d, int size) {
    for (int r = 0; r < size; r++) {
        int same = 0;
        while (strcmp(d->stations[same].host, d->stations[r].host) != 0)
            same++;
        d->stations[r].host_index = same == r ? d->host_count++ : d->stations[same].host_index;
    }
}

static lks_status gather(lks_doctor *d, int64_t *counts) {
    lks_comm *comm = d->job.comm;
    lks_station *mine = &d->stations[lks_comm_rank(comm)];
    lks_cpu_share cpus;
    lks_status status = lks_comm_threads(comm, &cpus);
    if (status) return status;
    describe_self(d, &cpus, mine);
    status = lks_comm_agree(
        comm, lks_device_available(lks_context_device(d->job.context), &mine->device_available));
    for (int r = 0; r < lks_comm_size(comm); r++)
        counts[r] = sizeof *mine;
    if (!status) status = lks_comm_all_gather(comm, d->stations, counts, LKS_U8);
    if (!status) number_hosts(d, lks_comm_size(comm));
    return status;
}

static lks_status fill_stations(lks_doctor *d) {
    const size_t size = (size_t)lks_comm_size(d->job.comm);
    int64_t *counts = calloc(size, sizeof *counts);
    d->stations = calloc(size, sizeof *d->stations);
    lks_status status =
        counts && d->stations ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory for %zu ranks", size);
    status = lks_comm_agree(d->job.comm, status);
    if (!status) status = gather(d, counts);
    free(counts);
    return status;
}

/* ---- hosts and cores ---- */

/* The ranks of one host, as far as its first rank and their sums tell. */
typedef struct host {
    const lks_station *first;
    int ranks, threads;
    lks_strbuf cpus; /* of its ranks, each different one once */
} host;

static host look_at_host(const lks_doctor *d, int index) {
    enum { MOST_SHOWN = 8 };
    host h = {0};
    const char *last = "";
    int shown = 0;
    for (int r = 0; r < lks_comm_size(d->job.comm); r++) {
        const lks_station *s = &d->stations[r];
        if (s->host_index != index) continue;
        if (!h.first) h.first = s;
        h.ranks++;
        h.threads += s->threads;
        if (strcmp(s->cpus.cpus, last) == 0) continue;
        last = s->cpus.cpus;
        if (shown++ < MOST_SHOWN)
            lks_strbuf_add(&h.cpus, "%s%s", h.cpus.length ? " | " : "", last);
        else if (shown == MOST_SHOWN + 1)
            lks_strbuf_add(&h.cpus, " ...");
    }
    return h;
}

static void report_hosts(lks_doctor *d) {
    enum { MOST_SHOWN = 16 };
    const int size = lks_comm_size(d->job.comm);
    lks_strbuf names = {0};
    for (int i = 0; i < d->host_count && i < MOST_SHOWN; i++) {
        host h = look_at_host(d, i);
        lks_strbuf_add(&names, "%s%s (%d)", i ? ", " : "", h.first->host, h.ranks);
        lks_strbuf_free(&h.cpus);
    }
    if (d->host_count > MOST_SHOWN) lks_strbuf_add(&names, ", ...");
    lks_report_number(&d->report, "ranks", size);
    lks_report_number(&d->report, "hosts", d->host_count);
    lks_report_ok(&d->report, "ranks", "%d rank%s on %d host%s: %s", size, lks_plural(size),
                  d->host_count, lks_plural(d->host_count), names.failed ? "" : names.text);
    lks_strbuf_free(&names);
}

/* Equal hosts are described once. */
static bool is_alike(const host *a, const host *b) {
    return a->ranks == b->ranks && a->threads == b->threads &&
           a->first->cpus.host_cores == b->first->cpus.host_cores &&
           strcmp(a->cpus.text, b->cpus.text) == 0;
}

static void report_cores(lks_doctor *d) {
    host before = {0};
    for (int i = 0; i < d->host_count; i++) {
        host h = look_at_host(d, i);
        const int cores = h.first->cpus.host_cores;
        const bool alike = i > 0 && is_alike(&before, &h);
        lks_strbuf_free(&before.cpus);
        before = h;
        if (alike) continue;
        char text[512];
        snprintf(text, sizeof text,
                 "%s: %d rank%s with %d thread%s in all on %d core%s, bound to CPU %s",
                 h.first->host, h.ranks, lks_plural(h.ranks), h.threads, lks_plural(h.threads),
                 cores, lks_plural(cores), h.cpus.failed ? "?" : h.cpus.text);
        lks_report_number(&d->report, "ranks", h.ranks);
        lks_report_number(&d->report, "threads", h.threads);
        lks_report_number(&d->report, "cores", cores);
        if (h.ranks > cores)
            lks_report_warn(&d->report, "cores",
                            "more ranks than cores are slow: start fewer ranks on this host", "%s",
                            text);
        else if (h.threads > cores)
            lks_report_warn(&d->report, "cores",
                            "more threads than cores are slow: leave `threads` out of the run file "
                            "(or --threads 0), so that each rank takes its share",
                            "%s", text);
        else
            lks_report_ok(&d->report, "cores", "%s", text);
    }
    lks_strbuf_free(&before.cpus);
}

/* ---- devices ---- */

bool lks_station_shares_gpu(const lks_station *a, const lks_station *b) {
    return !a->is_host && !b->is_host && a->host_index == b->host_index &&
           strcmp(a->place, b->place) == 0;
}

/* The first rank before this one that uses the same GPU; -1: none. */
static int sharer_of(const lks_doctor *d, int rank) {
    for (int r = 0; r < rank; r++)
        if (lks_station_shares_gpu(&d->stations[r], &d->stations[rank])) return r;
    return -1;
}

static void report_devices(lks_doctor *d) {
    const lks_station *s = d->stations;
    for (int r = 1; r < lks_comm_size(d->job.comm); r++) {
        int sharer = sharer_of(d, r);
        if (strcmp(s[r].kind, s[0].kind) != 0) {
            lks_report_warn(&d->report, "device",
                            "set `device` in the run file: the slowest rank decides",
                            "rank 0 computes on %s, rank %d (%s) on %s", s[0].device, r, s[r].host,
                            s[r].device);
            return;
        }
        if (sharer >= 0) {
            lks_report_warn(&d->report, "device", "start one rank for each GPU",
                            "ranks %d and %d share %s of %s", sharer, r, s[r].device, s[r].host);
            return;
        }
    }
    lks_report_text(&d->report, "kind", s[0].kind);
    lks_report_ok(&d->report, "device", "%s", s[0].device);
}

/* Why no GPU is used, for those who expect one. Rank 0 asks, and nobody else reports. */
static void report_gpu(lks_doctor *d) {
    const lks_device_config config = {.kind = "cuda", .local_size = 1};
    lks_device *gpu = NULL;
    if (!d->stations[0].is_host || !lks_job_is_first(&d->job)) return;
    if (lks_device_create(&config, &gpu))
        lks_report_ok(&d->report, "GPU", "not used: %s", lks_last_error());
    else
        lks_report_ok(&d->report, "GPU", "not used, because `device: cpu` was asked for: %s",
                      lks_device_description(gpu));
    lks_device_destroy(gpu);
}

lks_status lks_doctor_check_machine(lks_doctor *d) {
    lks_status status = lks_job_open_context(&d->job);
    if (status) {
        lks_report_fail(&d->report, status, "device", NULL);
        return status == LKS_ECOMM ? status : LKS_OK;
    }
    status = fill_stations(d);
    if (status) {
        lks_report_fail(&d->report, status, "ranks", NULL);
        return status;
    }
    report_hosts(d);
    report_cores(d);
    report_devices(d);
    report_gpu(d);
    return LKS_OK;
}
