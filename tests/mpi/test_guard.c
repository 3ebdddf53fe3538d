/* The guard over ranks that all live: who does not arrive is named to all, who ends for reasons of
 * its own is not blamed, and in peace nothing is said. What becomes of killed and stopped ranks is
 * tested with the command (tests/fault/missing). */
#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "comm/guard.h"
#include "mpi/mpi_check.h"

/* Takes the place of libc's: without it rank 0 cannot invite the others to connect. */
static bool no_random;

ssize_t getrandom(void *buffer, size_t bytes, unsigned int flags) {
    if (!no_random) return syscall(SYS_getrandom, buffer, bytes, flags);
    errno = ENOSYS;
    return -1;
}

/* Takes the place of libc's, too: a connection stays where it is while rank 0 has no descriptor for
 * it. */
static bool no_descriptors;

int accept4(int listening, struct sockaddr *address, socklen_t *bytes, int flags) {
    if (!no_descriptors) return (int)syscall(SYS_accept4, listening, address, bytes, flags);
    errno = EMFILE;
    return -1;
}

/* What the guard's thread said here. */
typedef struct heard {
    atomic_bool told, ended;
    char message[512];
} heard;

static void hear(void *data, const char *message) {
    heard *h = data;
    snprintf(h->message, sizeof h->message, "%s", message);
    atomic_store(&h->told, true);
}

static void hear_end(void *data) {
    atomic_store(&((heard *)data)->ended, true);
}

static lks_guard *guard(lks_comm *comm, double timeout, heard *h) {
    lks_guard *w = NULL;
    const lks_guard_config config = {timeout, hear, hear_end, h};
    MPI_CHECK(lks_guard_create(comm, &config, NULL, &w) == LKS_OK);
    return w;
}

static void wait_for(atomic_bool *flag) {
    const struct timespec moment = {.tv_nsec = 1000000};
    while (!atomic_load(flag))
        nanosleep(&moment, NULL);
}

static void test_in_peace(void **state) {
    (void)state;
    heard h = {0};
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    lks_guard *w = guard(comm, 3600, &h);
    MPI_REQUIRE(w != NULL);
    MPI_CHECK(lks_guard_enter(w, LKS_GUARD_TRAIN) == LKS_GUARD_START);
    MPI_CHECK(lks_guard_enter(w, LKS_GUARD_SAVE) == LKS_GUARD_TRAIN);
    lks_guard_destroy(w);
    MPI_CHECK(!h.told && !h.ended);
    MPI_CHECK(guard(comm, 0, &h) == NULL); /* none wanted */
    lks_guard_destroy(NULL);
    const lks_guard_config mute = {.timeout = 1, .tell = hear};
    MPI_CHECK(lks_guard_create(comm, &mute, NULL, &w) == LKS_EINVAL && w == NULL);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* The last rank comes to the barrier only when its guard has said that the job ends. */
static void test_one_does_not_arrive(void **state) {
    (void)state;
    heard h = {0};
    lks_comm *comm = NULL;
    int rank = mpi_check_rank(), size = mpi_check_size();
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d (", size - 1);
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    lks_guard *w = guard(comm, 1, &h);
    lks_guard_enter(w, LKS_GUARD_TRAIN);
    lks_guard_step(w, 7);
    if (rank == size - 1) wait_for(&h.ended);
    MPI_CHECK(lks_comm_barrier(comm) == LKS_OK);
    wait_for(&h.ended);
    MPI_CHECK(h.told == (rank == 0)); /* one rank tells */
    if (rank == 0) {
        MPI_CHECK(strstr(h.message, expected) != NULL);
        MPI_CHECK(strstr(h.message, "training, 7 steps done)") != NULL);
        MPI_CHECK(strstr(h.message, "nothing has got any further") != NULL);
        MPI_CHECK(size == 1 || strstr(h.message, "did not arrive") != NULL);
    }
    lks_guard_destroy(w);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Then each rank looks after itself, and no rank can say who is missing. */
static void check_without_connections(bool *obstacle, const char *reason) {
    heard h = {0};
    lks_comm *comm = NULL;
    char own[32];
    snprintf(own, sizeof own, ": rank %d (", mpi_check_rank());
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    *obstacle = true;
    lks_guard *w = guard(comm, 1, &h);
    *obstacle = false;
    MPI_CHECK(mpi_check_size() == 1 || strstr(lks_last_error(), reason) != NULL);
    MPI_REQUIRE(w != NULL);
    lks_guard_enter(w, LKS_GUARD_TRAIN);
    wait_for(&h.ended);
    MPI_CHECK(h.told && strstr(h.message, "nothing has got any further") != NULL);
    MPI_CHECK(strstr(h.message, own) != NULL && strstr(h.message, "arrive") == NULL);
    lks_guard_destroy(w);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_without_invitation(void **state) {
    (void)state;
    check_without_connections(&no_random, "no random number");
}

static void test_without_descriptors(void **state) {
    (void)state;
    check_without_connections(&no_descriptors, "cannot take a connection");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_peace),
        cmocka_unit_test(test_one_does_not_arrive),
        cmocka_unit_test(test_without_invitation),
        cmocka_unit_test(test_without_descriptors),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
