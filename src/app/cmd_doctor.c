/* `lockstep doctor`: what would keep a run from training, or make it slow, before it is started. */
#include <stdlib.h>

#include "app/commands.h"
#include "app/doctor.h"

/* The device that has measured ends with its context; the data sets stay. */
static lks_status renew_context(lks_doctor *d) {
    lks_comm_set_guard(d->job.comm, NULL);
    lks_trainer_destroy(d->job.trainer);
    lks_context_destroy(d->job.context);
    d->job.trainer = NULL;
    d->job.context = NULL;
    return lks_job_open_context(&d->job);
}

/* With a run file that can be read. */
static lks_status examine_run(lks_doctor *d) {
    int64_t folder_free;
    lks_status status = lks_doctor_check_folder(d, &folder_free);
    if (status) return status;
    lks_status found = lks_doctor_check_run(d, folder_free);
    if (found == LKS_ECOMM) return found;
    status = renew_context(d);
    if (!status) status = lks_doctor_time_all_reduce(d);
    if (status || found) return status;
    status = lks_doctor_take_step(d);
    return lks_strands_others(status) ? status : LKS_OK;
}

static lks_status examine(lks_doctor *d, lks_status run_file) {
    const bool has_run = d->job.args->operand_count > 0;
    if (run_file) /* first, while its error is the last one */
        lks_report_fail(&d->report, run_file, "run file", NULL);
    else if (has_run)
        lks_report_ok(&d->report, "run file", "%s: every key is known", d->job.args->operands[0]);
    lks_doctor_check_libraries(d);
    lks_status status = lks_doctor_check_machine(d);
    if (status || !d->job.context) return status;
    return has_run && !run_file ? examine_run(d) : lks_doctor_time_all_reduce(d);
}

/* Rank 0 has the report; its first problem decides the exit code on every rank. */
static lks_status conclude(lks_doctor *d) {
    int64_t verdict[2] = {d->report.first, d->report.counts[LKS_VERDICT_PROBLEM]};
    lks_status status = lks_comm_broadcast(d->job.comm, verdict, sizeof verdict, 0);
    if (status || !verdict[0]) return status;
    return lks_fail((lks_status)verdict[0], "%lld problem%s: see the report", (long long)verdict[1],
                    lks_plural(verdict[1]));
}

lks_status lks_command_doctor(const lks_args *args) {
    lks_args quiet = *args;
    quiet.verbosity = -1; /* the report says it */
    lks_doctor d = {.host_count = 0};
    lks_status run_file = lks_job_open_run(&quiet, &d.job);
    if (!d.job.comm || run_file == LKS_ECOMM) return run_file;
    d.report = (lks_report){.stream = lks_job_is_first(&d.job) ? stdout : NULL, .json = args->json};
    lks_status status = examine(&d, run_file);
    lks_report_end(&d.report);
    if (!status) status = conclude(&d);
    free(d.stations);
    lks_job_close(&d.job, status);
    return status;
}
