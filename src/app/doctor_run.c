/* The run: its data, its model, and whether they fit. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/doctor.h"
#include "checkpoint/checkpoint.h"
#include "data/data.h"

/* Of what is left, more than this share is too close to the end for comfort. */
static const double COMFORT = 0.9;

static const char *const memory_advice =
    "lower batch_size or micro_batch_size; with several ranks raise zero_stage (1 shares the "
    "optimizer's state, 2 the gradients, too); or start fewer ranks on each host";

/* ---- data ---- */

static void add_dataset(const char *name, const lks_dataset *dataset, lks_strbuf *out) {
    char shape[LKS_SHAPE_TEXT_BYTES];
    if (!dataset) return;
    lks_strbuf_add(out, "%s%s %s, %" PRId64 " samples of %s", out->length ? "; " : "", name,
                   lks_dataset_describe(dataset), lks_dataset_count(dataset),
                   lks_shape_text(lks_dataset_input_shape(dataset), shape));
}

static lks_status check_data(lks_doctor *d) {
    lks_job *job = &d->job;
    lks_status status = lks_job_open_training(job);
    if (status) {
        lks_report_fail(&d->report, status, "data",
                        "data files must be there on every host, under the same name");
        return status;
    }
    lks_strbuf text = {0};
    add_dataset("train", job->train, &text);
    add_dataset("validation", job->validation, &text);
    lks_report_ok(&d->report, "data", "%s", text.failed ? "" : text.text);
    lks_strbuf_free(&text);
    return LKS_OK;
}

/* ---- the weights to begin with ---- */

static lks_status check_init_from(lks_doctor *d) {
    const char *path = d->job.run.init_from;
    lks_checkpoint *file = NULL;
    if (!path) return LKS_OK;
    lks_status status = lks_checkpoint_open(path, &file);
    lks_checkpoint_close(file);
    status = lks_comm_agree(d->job.comm, status);
    if (status)
        lks_report_fail(&d->report, status, "init_from", NULL);
    else
        lks_report_ok(&d->report, "init_from", "%s can be read", path);
    return status;
}

/* ---- memory ---- */

/* What the ranks of one host take together, or those that share a GPU, and what is left there. */
typedef struct demand {
    int rank, ranks; /* one of them, and how many */
    int64_t bytes, available;
} demand;

/* Of its GPU's memory, or of its host's. */
static int64_t bytes_of(const lks_station *s, const lks_trainer_needs *needs, bool gpu) {
    if (gpu) return needs->device;
    return needs->host + needs->sums + needs->copy + (s->is_host ? needs->device : 0);
}

static bool share_memory(const lks_station *a, const lks_station *b, bool gpu) {
    return gpu ? lks_station_shares_gpu(a, b) : a->host_index == b->host_index;
}

static demand demand_at(const lks_doctor *d, const lks_trainer_needs *needs, int rank, bool gpu) {
    const lks_station *here = &d->stations[rank];
    demand sum = {.rank = rank, .available = gpu ? here->device_available : here->host_available};
    for (int r = 0; r < lks_comm_size(d->job.comm); r++) {
        const lks_station *s = &d->stations[r];
        if (!share_memory(s, here, gpu)) continue;
        sum.ranks++;
        sum.bytes += bytes_of(s, &needs[r], gpu);
    }
    return sum;
}

/* Where the most of what is left is taken. ranks is 0 where there is no GPU. */
static demand find_worst(const lks_doctor *d, const lks_trainer_needs *needs, bool gpu) {
    demand worst = {0};
    double most = -1;
    for (int r = 0; r < lks_comm_size(d->job.comm); r++) {
        if (gpu && d->stations[r].is_host) continue;
        demand here = demand_at(d, needs, r, gpu);
        double share = (double)here.bytes / ((double)here.available + 1);
        if (share > most) worst = here;
        if (share > most) most = share;
    }
    return worst;
}

static void add_part(const char *name, int64_t bytes, lks_strbuf *out) {
    char size[LKS_BYTES_TEXT_BYTES];
    if (bytes > 0)
        lks_strbuf_add(out, "%s%s %s", out->length ? ", " : "", name,
                       lks_bytes_text((size_t)bytes, size));
}

/* What one rank takes, part by part. */
static void describe_needs(const lks_station *s, const lks_trainer_needs *needs, bool gpu,
                           lks_strbuf *out) {
    int64_t others = needs->device;
    for (int kind = 0; kind < LKS_MEMORY_KINDS && (gpu || s->is_host); kind++) {
        add_part(lks_memory_kind_names[kind], needs->kinds[kind], out);
        others -= needs->kinds[kind];
    }
    if ((gpu || s->is_host) && others > needs->device / 100) add_part("other", others, out);
    if (gpu) return;
    add_part("data and batches", needs->host, out);
    add_part("sums under way", needs->sums, out);
    add_part("copy for checkpoints", needs->copy, out);
}

static lks_status report_memory(lks_doctor *d, const lks_trainer_needs *needs, bool gpu) {
    const demand need = find_worst(d, needs, gpu);
    if (need.ranks == 0) return LKS_OK;
    const lks_station *s = &d->stations[need.rank];
    const char *check = gpu ? "GPU memory" : "memory";
    char takes[LKS_BYTES_TEXT_BYTES], left[LKS_BYTES_TEXT_BYTES], text[768];
    lks_strbuf parts = {0};
    describe_needs(s, &needs[need.rank], gpu, &parts);
    snprintf(text, sizeof text, "%s%s%s has %s left, its %d rank%s take%s %s (rank %d: %s)",
             gpu ? s->device : "", gpu ? " of " : "", s->host,
             lks_bytes_text((size_t)need.available, left), need.ranks, lks_plural(need.ranks),
             need.ranks == 1 ? "s" : "", lks_bytes_text((size_t)need.bytes, takes), need.rank,
             parts.failed || !parts.text ? "" : parts.text);
    lks_strbuf_free(&parts);
    lks_report_number(&d->report, "needed_bytes", (double)need.bytes);
    lks_report_number(&d->report, "available_bytes", (double)need.available);
    lks_status status = LKS_OK;
    if (need.bytes > need.available) {
        status = lks_fail(LKS_ENOMEM, "%s", text);
        lks_report_fail(&d->report, status, check, memory_advice);
    } else if ((double)need.bytes > COMFORT * (double)need.available) {
        lks_report_warn(&d->report, check, memory_advice, "%s", text);
    } else {
        lks_report_ok(&d->report, check, "%s", text);
    }
    return status;
}

/* ---- room for checkpoints ---- */

static const char *const room_advice =
    "make room, keep fewer files (checkpoint.keep_last, keep_best), or set `output` elsewhere";

/* How many files there are at most at a time, one that is being written among them; 0: no bound. */
static int64_t most_files(const lks_checkpoint_settings *settings) {
    bool periodic =
        settings->every_epochs > 0 || settings->every_steps > 0 || settings->every_minutes > 0;
    if (periodic && settings->keep_last == 0) return 0;
    return (periodic ? settings->keep_last : 0) + (settings->best ? settings->keep_best : 0) +
           settings->final + 1;
}

/* bytes: of one file. Rank 0 knows what is free, and reports. */
static void report_room(lks_doctor *d, int64_t bytes, int64_t left) {
    lks_checkpoint_settings settings;
    char size[LKS_BYTES_TEXT_BYTES], room[LKS_BYTES_TEXT_BYTES];
    if (!lks_job_is_first(&d->job) || left == INT64_MAX) return;
    if (lks_checkpoint_settings_parse(d->job.run.config.checkpoint, &settings)) return;
    const int64_t files = most_files(&settings);
    lks_options_free(&lks_checkpoint_settings_options, &settings);
    lks_bytes_text((size_t)bytes, size);
    lks_bytes_text((size_t)left, room);
    lks_report_number(&d->report, "checkpoint_bytes", (double)bytes);
    lks_report_number(&d->report, "free_bytes", (double)left);
    if (bytes > left)
        lks_report_fail(&d->report,
                        lks_fail(LKS_EIO, "a checkpoint takes %s, and %s are free", size, room),
                        "checkpoints", room_advice);
    else if (files > 0 && (double)bytes * (double)files > (double)left)
        lks_report_warn(&d->report, "checkpoints", room_advice,
                        "a checkpoint takes %s and there will be up to %" PRId64 " at a time, but "
                        "only %s are free",
                        size, files, room);
    else if (files > 0)
        lks_report_ok(&d->report, "checkpoints",
                      "each takes %s, up to %" PRId64 " at a time; %s are free", size, files, room);
    else
        lks_report_ok(&d->report, "checkpoints", "each takes %s, and all are kept; %s are free",
                      size, room);
}

/* ---- the whole run ---- */

/* A run that leaves nothing behind. */
static lks_status build(lks_doctor *d) {
    lks_job *job = &d->job;
    char *output = (char *)job->run.config.output;
    job->run.config.output = NULL;
    lks_status status = lks_job_build(job, job->train, job->train, job->validation);
    job->run.config.output = output;
    return status;
}

/* On a device that measures, whose context ends with it. */
static lks_status measure(lks_doctor *d, lks_trainer_needs *needs) {
    lks_comm *comm = d->job.comm;
    lks_trainer_needs *mine = &needs[lks_comm_rank(comm)];
    lks_device_measure(lks_context_device(d->job.context));
    lks_status status = build(d);
    if (status) return status;
    status = lks_comm_agree(comm, lks_trainer_get_needs(d->job.trainer, mine));
    for (int r = 0; r < lks_comm_size(comm) && !status; r++)
        status = lks_comm_broadcast(comm, &needs[r], sizeof needs[r], r);
    return status;
}

static lks_status check_model(lks_doctor *d, lks_trainer_needs *needs, int64_t folder_free) {
    const int size = lks_comm_size(d->job.comm);
    int64_t checkpoint = 0;
    lks_status status = measure(d, needs);
    if (status) {
        lks_report_fail(&d->report, status, "model", NULL);
        return status;
    }
    for (int r = 0; r < size; r++)
        checkpoint += needs[r].checkpoint;
    status = report_memory(d, needs, false);
    lks_status on_gpu = report_memory(d, needs, true);
    report_room(d, checkpoint, folder_free);
    return status ? status : on_gpu;
}

lks_status lks_doctor_check_run(lks_doctor *d, int64_t folder_free) {
    const size_t size = (size_t)lks_comm_size(d->job.comm);
    lks_trainer_needs *needs = calloc(size, sizeof *needs);
    lks_status status = lks_comm_agree(
        d->job.comm, needs ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory for %zu ranks", size));
    if (status) lks_report_fail(&d->report, status, "model", NULL);
    if (!status) status = check_data(d);
    if (!status) status = check_init_from(d);
    if (!status) status = check_model(d, needs, folder_free);
    free(needs);
    return status;
}

lks_status lks_doctor_take_step(lks_doctor *d) {
    bool done;
    double began = lks_clock_seconds();
    lks_status status = build(d);
    const double built = lks_clock_seconds();
    if (!status) status = lks_step(d->job.trainer, &done);
    if (status) {
        lks_report_fail(&d->report, status, "first step", NULL);
        return status;
    }
    lks_report_number(&d->report, "seconds_to_build", built - began);
    lks_report_number(&d->report, "seconds_of_first_step", lks_clock_seconds() - built);
    lks_report_ok(&d->report, "first step", "built in %.2f s, a first step in %.3f s",
                  built - began, lks_clock_seconds() - built);
    return LKS_OK;
}
