/* A program of somebody else, built against an installed Lockstep. */
#include <lockstep/lockstep.h>
#include <stdio.h>

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    lks_context *context = NULL;
    const lks_context_config config = {.device = "cpu", .threads = 1, .verbosity = 0};
    const lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &context);
    if (status)
        fprintf(stderr, "%s: %s\n", lks_status_text(status), lks_last_error());
    else
        printf("Lockstep %s on %d rank\n", LKS_VERSION, lks_context_size(context));
    lks_context_destroy(context);
    MPI_Finalize();
    return lks_status_exit_code(status);
}
