/* Threads per rank under a real mpirun. The argument says how mpirun was told to bind the ranks:
 * "default" (not at all), "core", or "none", as where this suite runs without argument. */
#include <sched.h>
#include <unistd.h>

#include "comm/affinity.h"
#include "comm/comm.h"
#include "comm/quota.h"
#include "mpi/mpi_check.h"

static const char *binding;

static int cores_of(const lks_cpu_mask *mask) {
    lks_cpu_place *places = malloc(LKS_CPU_COUNT * sizeof *places);
    MPI_REQUIRE(places != NULL);
    lks_cpu_mask cores;
    lks_cpu_places_read(mask, places);
    lks_cpu_mask_cores(mask, places, &cores);
    free(places);
    return lks_cpu_mask_count(&cores);
}

static int at_least_one(double threads) {
    return threads < 1 ? 1 : (int)threads;
}

/* mpirun is this process's parent; what it may use is to be divided among the ranks. */
static int expected_threads(void) {
    lks_cpu_mask own, launcher;
    lks_cpu_mask_of_process(0, &own);
    lks_cpu_mask_of_process(getppid(), &launcher);
    int by_cores = strcmp(binding, "core") == 0
                       ? cores_of(&own)
                       : at_least_one(cores_of(&launcher) / (double)mpi_check_size());
    double quota = lks_cpu_quota_own().cores / mpi_check_size();
    return quota < by_cores ? at_least_one(quota) : by_cores;
}

static void test_threads(void **state) {
    (void)state;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    lks_cpu_mask before, after, launcher;
    lks_cpu_mask_of_process(0, &before);
    lks_cpu_mask_of_process(getppid(), &launcher);
    lks_cpu_share share;
    int expected = expected_threads();
    MPI_CHECK(lks_comm_threads(comm, &share) == LKS_OK);
    lks_cpu_mask_of_process(0, &after);
    char cpus[LKS_CPU_TEXT_BYTES];
    MPI_CHECK(share.threads == expected);
    MPI_CHECK(strcmp(share.cpus, lks_cpu_mask_text(&after, cpus)) == 0);
    MPI_CHECK(share.host_cores >= cores_of(&after));
    MPI_CHECK(share.host_cores <= cores_of(&launcher));
    if (strcmp(binding, "default") != 0) {
        MPI_CHECK(lks_cpu_mask_equal(&before, &after)); /* what was asked for is respected */
    } else {
        lks_cpu_mask reach = launcher; /* united with the rank's */
        lks_cpu_mask_unite(&reach, &after);
        MPI_CHECK(lks_cpu_mask_equal(&reach, &launcher)); /* nothing beyond what mpirun may use */
        MPI_CHECK(cores_of(&after) >= share.threads);
    }
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* A second call, and one before MPI knows the ranks, come to the same. */
static void test_again(void **state) {
    (void)state;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    lks_cpu_share first, second;
    MPI_CHECK(lks_comm_threads(comm, &first) == LKS_OK);
    MPI_CHECK(!lks_comm_bind_at_start(environ));
    MPI_CHECK(lks_comm_threads(comm, &second) == LKS_OK);
    MPI_CHECK(first.threads == second.threads);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Cores of ranks that do not take part are left alone. */
static void test_part_of_the_job(void **state) {
    (void)state;
    if (mpi_check_size() == 1) return;
    lks_comm *comm = NULL;
    lks_cpu_mask before, after;
    lks_cpu_mask_of_process(0, &before);
    MPI_REQUIRE(lks_comm_create(MPI_COMM_SELF, NULL, NULL, &comm) == LKS_OK);
    lks_cpu_share share;
    MPI_CHECK(lks_comm_threads(comm, &share) == LKS_OK);
    lks_cpu_mask_of_process(0, &after);
    MPI_CHECK(lks_cpu_mask_equal(&before, &after));
    MPI_CHECK(share.threads >= 1 && share.threads <= cores_of(&before));
    lks_comm_destroy(comm);
    mpi_verdict();
}

int main(int argc, char **argv) {
    binding = argc > 1 ? argv[1] : "none";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part_of_the_job),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_again),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
