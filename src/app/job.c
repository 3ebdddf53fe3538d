#include "app/job.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/starting.h"
#include "device/device.h"
#include "train/train.h"

/* Rank 0 reads the run file for all: not every rank can see the file system of the first. */
static lks_status load_run(lks_job *job) {
    const lks_args *args = job->args;
    char *text = NULL;
    bool first = lks_comm_rank(job->comm) == 0;
    lks_status status =
        lks_comm_agree(job->comm, first ? lks_run_read_text(args->operands[0], &text) : LKS_OK);
    if (!status) status = lks_comm_share_text(job->comm, &text);
    if (status) {
        free(text);
        return status;
    }
    status =
        lks_run_parse(args->operands[0], text, args->overrides, args->override_count, &job->run);
    free(text);
    return lks_comm_agree(job->comm, status);
}

lks_status lks_job_open_run(const lks_args *args, lks_job *job) {
    *job = (lks_job){.args = args};
    lks_starting_begin(LKS_STARTING_SECONDS);
    lks_status status = lks_comm_check_launcher(environ);
    if (!status) status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &job->comm);
    if (!status && args->operand_count > 0) status = load_run(job);
    lks_starting_done();
    return status;
}

/* The callbacks of the guard: it finds out what no function can return any more. */
static void tell(void *data, const char *message) {
    (void)data;
    /* a progress bar may stand there */
    fprintf(stderr, "%slockstep: error: %s\n", isatty(STDERR_FILENO) ? "\n" : "", message);
}

static void end(void *data) {
    (void)data;
    _exit(lks_status_exit_code(LKS_ECOMM));
}

lks_status lks_job_open_context(lks_job *job) {
    lks_context_config config = {
        .device = lks_device_names[job->run.machine.device],
        .threads = (int)job->run.machine.threads,
        .precision = lks_precision_names[job->run.machine.precision],
        .verbosity = job->args->verbosity,
        .guard = {.timeout = job->run.machine.stall_timeout, .tell = tell, .end = end},
    };
    lks_starting_begin(LKS_STARTING_SECONDS);
    lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &job->context);
    lks_starting_done();
    if (!status) lks_comm_set_guard(job->comm, lks_context_guard(job->context));
    return status;
}

lks_status lks_job_open(const lks_args *args, lks_job *job) {
    lks_status status = lks_job_open_run(args, job);
    return status ? status : lks_job_open_context(job);
}

void lks_job_leave_the_word(const lks_context *context) {
    enum { MOST_SECONDS = 30, LOOK_MILLISECONDS = 100 };
    const double limit = lks_clock_seconds() + MOST_SECONDS;
    if (!context || !lks_comm_is_failure_shared(lks_context_comm(context))) return;
    while (lks_clock_seconds() < limit)
        poll(NULL, 0, LOOK_MILLISECONDS); /* which a caught signal ends early */
}

void lks_job_close(lks_job *job, lks_status status) {
    if (lks_strands_others(status)) {
        lks_job_leave_the_word(job->context);
        if (job->context) lks_guard_abandon(lks_context_guard(job->context));
        return;
    }
    lks_comm_set_guard(job->comm, NULL);
    lks_trainer_destroy(job->trainer);
    lks_dataset_destroy(job->train);
    lks_dataset_destroy(job->validation);
    lks_context_destroy(job->context);
    lks_comm_destroy(job->comm);
    lks_run_free(&job->run);
}

bool lks_job_is_first(const lks_job *job) {
    return lks_comm_rank(job->comm) == 0;
}

/* advice: what else to do where the run file does not have it, or "". */
static lks_status open_dataset(lks_job *job, const char *name, const lks_spec *spec,
                               const char *advice, lks_dataset **out) {
    lks_status status = spec->type ? lks_dataset_open(spec, job->run.memory_bytes, out)
                                   : lks_fail(LKS_ECONFIG, "%s: data: the key \"%s\" is missing%s",
                                              job->args->operands[0], name, advice);
    return lks_comm_agree(job->comm, status);
}

lks_status lks_job_open_split(lks_job *job, lks_dataset **out) {
    bool train = strcmp(job->args->split, "train") == 0;
    lks_dataset **place = train ? &job->train : &job->validation;
    lks_status status = train ? open_dataset(job, "train", &job->run.train, "", place)
                              : open_dataset(job, "validation", &job->run.validation,
                                             "; `--split train` takes the training data", place);
    *out = *place;
    return status;
}

lks_status lks_job_open_training(lks_job *job) {
    lks_status status = open_dataset(job, "train", &job->run.train, "", &job->train);
    if (!status && job->run.validation.type)
        status = open_dataset(job, "validation", &job->run.validation, "", &job->validation);
    return status;
}

lks_status lks_job_build(lks_job *job, const lks_dataset *shape_of, lks_dataset *train,
                         lks_dataset *validation) {
    const lks_shape *input =
        job->run.input.rank > 0 ? &job->run.input : lks_dataset_input_shape(shape_of);
    return lks_trainer_create(job->context, job->run.layers, input, train, validation,
                              &job->run.config, &job->trainer);
}
