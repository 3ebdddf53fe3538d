/* The `lockstep` command: reads its arguments, runs one command, prints the one error, exits.
 *
 * The library never ends the process and never prints an error. Here, rank 0 prints the error that
 * all ranks agreed on. Rank 0 alone exits with its code, the others with 0: mpirun exits with that
 * code and names one process in its own message, and does not kill ranks that are still leaving.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands.h"
#include "app/job.h"
#include "app/signals.h"
#include "app/starting.h"
#include "comm/comm.h"
#include "train/train.h"

typedef lks_status (*command_fn)(const lks_args *args);

static const struct {
    command_fn run;
    bool needs_mpi;
} commands[LKS_COMMAND_COUNT] = {
    [LKS_COMMAND_TRAIN] = {lks_command_train, true},
    [LKS_COMMAND_EVAL] = {lks_command_eval, true},
    [LKS_COMMAND_PREDICT] = {lks_command_predict, true},
    [LKS_COMMAND_INSPECT] = {lks_command_inspect, false},
    [LKS_COMMAND_VERIFY] = {lks_command_verify, false},
    [LKS_COMMAND_EXPORT] = {lks_command_export, false},
    [LKS_COMMAND_IMPORT] = {lks_command_import, true},
    [LKS_COMMAND_DOCTOR] = {lks_command_doctor, true},
    [LKS_COMMAND_CONFIG] = {lks_command_config, false},
    [LKS_COMMAND_SCHEDULE] = {lks_command_schedule, false},
    [LKS_COMMAND_PLOT] = {lks_command_plot, false},
    [LKS_COMMAND_BENCH] = {lks_command_bench, true},
    [LKS_COMMAND_PLAN] = {lks_command_plan, true},
    [LKS_COMMAND_HELP] = {lks_command_help, false},
    [LKS_COMMAND_VERSION] = {lks_command_version, false},
};

static void print_error(lks_status status, const char *before) {
    const char *kind = status == LKS_ESTOPPED ? "" : "error: ";
    const char *detail = *lks_last_error() ? lks_last_error() : lks_status_text(status);
    fflush(stdout);
    fprintf(stderr, "lockstep: %s%s%s\n", kind, before, detail);
}

/* What the other commands print is their result; a run that has trained does not fail for its words
 * about it. */
static lks_status check_printed(lks_status status, const lks_args *args) {
    if (status || args->command == LKS_COMMAND_TRAIN) return status;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return LKS_OK;
    return lks_fail(LKS_EIO, "cannot write to the standard output%s%s", errno ? ": " : "",
                    errno ? strerror(errno) : "");
}

/* A command line that is wrong comes here, too: without MPI every rank would say so. */
static int run_with_mpi(lks_status status, const lks_args *args, int argc, char **argv) {
    int provided, rank, size;
    lks_starting_begin(LKS_STARTING_SECONDS);
    /* The loader's thread makes no MPI calls. */
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        fprintf(stderr, "lockstep: error: MPI does not start\n");
        return lks_status_exit_code(LKS_ECOMM);
    }
    lks_starting_done();
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!status) status = check_printed(commands[args->command].run(args), args);
    int exit_code = lks_status_exit_code(status);
    if (status && size > 1 && lks_strands_others(status)) {
        char before[32];
        snprintf(before, sizeof before, "rank %d: ", rank);
        print_error(status, before);
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    if (status && rank == 0) print_error(status, "");
    MPI_Finalize();
    return rank == 0 ? exit_code : 0;
}

int main(int argc, char **argv) {
    /* OpenMP counts the CPUs when it is loaded, so a rank that has moved to its share of the cores
     * starts once more, there. */
    if (lks_comm_bind_at_start(environ)) execv("/proc/self/exe", argv);

    lks_args args;
    int exit_code;
    lks_status status = lks_args_parse(argc, argv, &args);
    /* before MPI starts, which takes its time */
    if (!status && args.command == LKS_COMMAND_TRAIN) lks_signals_catch();
    if (status || commands[args.command].needs_mpi) {
        exit_code = run_with_mpi(status, &args, argc, argv);
    } else {
        status = check_printed(commands[args.command].run(&args), &args);
        if (status) print_error(status, "");
        exit_code = lks_status_exit_code(status);
    }
    lks_args_free(&args);
    return exit_code;
}
