/* What rank 0's decisions add to the all-reduction of a step's sums: the same reduction with and
 * without them, by turns in one run. Blocking, while a step hides most of it behind backward: so
 * this is the most that it can cost.
 *
 *     mpirun -np RANKS bench_decisions ROUNDS
 *
 * prints {"with_s": [...], "without_s": [...]}, the seconds of one reduction in every round.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/trainer.h"

enum { REDUCTIONS = 100, GROUPS = 1, COUNTS = 2 };

/* Seconds of one reduction of `count` sums, of REDUCTIONS one after the other. */
static lks_status measure(lks_comm *comm, int64_t count, double *out) {
    double sums[LKS_STEP_RATES + 2 * GROUPS] = {0};
    lks_status status = lks_comm_barrier(comm);
    const double start = lks_clock_seconds();
    for (int i = 0; i < REDUCTIONS && status == LKS_OK; i++)
        status = lks_comm_all_reduce(comm, sums, count, LKS_F64, LKS_REDUCE_SUM);
    *out = (lks_clock_seconds() - start) / REDUCTIONS;
    return status;
}

static lks_status measure_rounds(lks_comm *comm, int rounds, double *seconds) {
    static const int64_t counts[COUNTS] = {LKS_STEP_RATES + 2 * GROUPS, LKS_LOSS_SUM_COUNT};
    lks_status status = LKS_OK;
    for (int round = 0; round < rounds && status == LKS_OK; round++)
        for (int turn = 0; turn < COUNTS && status == LKS_OK; turn++) {
            const int which = (round + turn) % COUNTS; /* neither is always the first */
            status = measure(comm, counts[which], &seconds[which * rounds + round]);
        }
    return status;
}

static void print(const char *name, const double *seconds, int rounds, const char *end) {
    printf("\"%s\": [", name);
    for (int round = 0; round < rounds; round++)
        printf("%s%.9g", round > 0 ? ", " : "", seconds[round]);
    printf("]%s", end);
}

int main(int argc, char **argv) {
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    const int rounds = argc > 1 ? atoi(argv[1]) : 0;
    lks_comm *comm = NULL;
    double *seconds = calloc((size_t)(rounds > 0 ? rounds : 0) * COUNTS + 1, sizeof *seconds);
    lks_status status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm);
    if (status == LKS_OK && (rounds < 1 || seconds == NULL))
        status = lks_fail(LKS_EUSAGE, "bench_decisions ROUNDS: expected a number from 1 on");
    if (comm != NULL) status = lks_comm_agree(comm, status);
    if (status == LKS_OK) status = measure_rounds(comm, rounds, seconds);
    if (status != LKS_OK)
        fprintf(stderr, "%s\n", lks_last_error());
    else if (lks_comm_rank(comm) == 0) {
        printf("{");
        print("with_s", seconds, rounds, ", ");
        print("without_s", seconds + rounds, rounds, "}\n");
    }
    lks_comm_destroy(comm);
    free(seconds);
    MPI_Finalize();
    return status != LKS_OK;
}
