/* Tests that run under mpirun. Include it in the one source file of a test program:
 *
 *     static void test_sum(void **state)
 *     {
 *         (void)state;
 *         int rank = mpi_check_rank();
 *         ...
 *         MPI_CHECK(sum == 6);     // notes a failure on this rank and goes on
 *         MPI_REQUIRE(buffer);     // collective: ends the test on every rank if any rank failed
 *         ...
 *         mpi_verdict();           // collective: the last line of every test
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         const struct CMUnitTest tests[] = {cmocka_unit_test(test_sum)};
 *         return MPI_CHECK_RUN(&argc, &argv, tests);
 *     }
 *
 * A cmocka assertion would leave the test on one rank and strand the others in their next
 * collective. So checks only take notes, and the verdict is agreed over all ranks. Rank 0 alone
 * prints, the notes of the other ranks included.
 */
#ifndef LKS_TESTS_MPI_CHECK_H
#define LKS_TESTS_MPI_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mpi.h>

enum { MPI_CHECK_NOTE_BYTES = 480 };

/* This rank's first failed check of the running test; "" when there is none. */
static char mpi_check_note[MPI_CHECK_NOTE_BYTES];

static inline int mpi_check_rank(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static inline int mpi_check_size(void) {
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

static inline void mpi_check(bool good, const char *file, int line, const char *text) {
    if (good || mpi_check_note[0] != '\0') return;
    snprintf(mpi_check_note, sizeof mpi_check_note, "%s:%d: rank %d: not true: %s", file, line,
             mpi_check_rank(), text);
}

/* Prints the notes of all ranks on rank 0. notes: [size][MPI_CHECK_NOTE_BYTES] there. */
static inline void mpi_check_print(const char *notes) {
    for (int r = 0; r < mpi_check_size(); r++) {
        const char *note = notes + (size_t)r * MPI_CHECK_NOTE_BYTES;
        if (note[0] != '\0') print_error("%s\n", note);
    }
}

/* Collective. Ends the test on every rank if a check failed on any: as failed on rank 0, and
 * silently on the others. */
static inline void mpi_verdict(void) {
    int failed = mpi_check_note[0] != '\0', any_failed = 0;
    MPI_Allreduce(&failed, &any_failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (!any_failed) return;
    char *notes = malloc((size_t)mpi_check_size() * sizeof mpi_check_note);
    if (!notes) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Gather(mpi_check_note, sizeof mpi_check_note, MPI_CHAR, notes, sizeof mpi_check_note,
               MPI_CHAR, 0, MPI_COMM_WORLD);
    mpi_check_note[0] = '\0';
    bool prints = mpi_check_rank() == 0;
    if (prints) mpi_check_print(notes);
    free(notes);
    if (prints) fail_msg("a check failed on some rank");
    skip();
}

/* The body of main: runs the tests between MPI_Init_thread and MPI_Finalize. */
static inline int mpi_check_run(int *argc, char ***argv, const char *name,
                                const struct CMUnitTest *tests, size_t count) {
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    if (mpi_check_rank() != 0) {
        if (!freopen("/dev/null", "w", stdout)) MPI_Abort(MPI_COMM_WORLD, 1);
        stderr = stdout; /* cmocka's; sanitizers and MPI write to the descriptor and stay heard */
    }
    int failed = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
    MPI_Finalize();
    return failed != 0;
}

#define MPI_CHECK(condition) mpi_check((condition), __FILE__, __LINE__, #condition)
#define MPI_REQUIRE(condition) \
    do {                       \
        MPI_CHECK(condition);  \
        mpi_verdict();         \
    } while (0)
#define MPI_CHECK_RUN(argc, argv, tests) \
    mpi_check_run((argc), (argv), #tests, (tests), sizeof(tests) / sizeof(tests)[0])

#endif
