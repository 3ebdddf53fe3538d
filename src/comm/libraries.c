/* Which MPI and NCCL are below, and whether they fit the way in which the program was started. */
#include <stdio.h>
#include <string.h>

#include "comm/backend.h"
#include "comm/launcher.h"

const char *lks_comm_library(char *text) {
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(library, &length);
    int line = (int)strcspn(library, "\n"); /* MPICH tells its whole configuration */
    snprintf(text, LKS_COMM_LIBRARY_BYTES, "%.*s", line, library);
    return text;
}

lks_status lks_comm_check_launcher(char *const *environment) {
    int size = 1;
    const char *variable;
    char library[LKS_COMM_LIBRARY_BYTES];
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int started = lks_launcher_job_size(environment, &variable);
    if (size > 1 || started <= 1) return LKS_OK;
    return lks_fail(LKS_ECOMM,
                    "%d processes were started (%s), but MPI tells each of them that it is alone: "
                    "the launcher does not match the MPI library of this program, %s. Start it "
                    "with that library's own mpirun; processes that are meant to be alone are "
                    "started with `env -u %s`",
                    started, variable, lks_comm_library(library), variable);
}

const char *lks_comm_device_library(char *text) {
    const lks_comm_device_ops *ops = lks_comm_device_backends[0];
    if (!ops)
        snprintf(text, LKS_COMM_LIBRARY_BYTES, "none: this build has no NCCL");
    else if (ops->describe(text, LKS_COMM_LIBRARY_BYTES) != LKS_OK)
        snprintf(text, LKS_COMM_LIBRARY_BYTES, "none: %s", lks_last_error());
    return text;
}

const char *lks_comm_thread_level(bool *out_enough) {
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    *out_enough = level >= MPI_THREAD_FUNNELED; /* the levels are ordered */
    return level == MPI_THREAD_MULTIPLE     ? "MPI_THREAD_MULTIPLE"
           : level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED"
           : level == MPI_THREAD_FUNNELED   ? "MPI_THREAD_FUNNELED"
                                            : "MPI_THREAD_SINGLE";
}
