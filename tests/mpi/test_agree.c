/* Agreement of all ranks on a failure. */
#include "mpi/comm_case.h"

/* Rank r fails if bit r of `culprits` is set; the lowest must be reported everywhere. */
static void check_agreement(lks_comm *comm, unsigned culprits) {
    static const lks_status kinds[] = {LKS_EIO, LKS_EDATA, LKS_ENOMEM, LKS_ECONFIG};
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm), lowest = 0;
    lks_status mine = LKS_OK;
    if (culprits >> rank & 1) mine = lks_fail(kinds[rank % 4], "cannot open file-%d", rank);
    lks_status agreed = lks_comm_agree(comm, mine);
    if (culprits == 0) {
        MPI_CHECK(agreed == LKS_OK);
        return;
    }
    while (!(culprits >> lowest & 1))
        lowest++;
    bool all = culprits == (1U << size) - 1;
    char expected[64];
    if (rank == lowest || all)
        snprintf(expected, sizeof expected, "cannot open file-%d", lowest);
    else
        snprintf(expected, sizeof expected, "rank %d: cannot open file-%d", lowest, lowest);
    MPI_CHECK(agreed == kinds[lowest % 4]);
    MPI_CHECK(strcmp(lks_last_error(), expected) == 0);
}

static void test_agree(void **state) {
    lks_comm *comm = open_comm(state);
    /* Every set of culprits: none, the first, the last, several, all. */
    for (unsigned culprits = 0; culprits < 1U << lks_comm_size(comm); culprits++)
        check_agreement(comm, culprits);
    check_agreement(comm, 0);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_agree_on_a_long_detail(void **state) {
    lks_comm *comm = open_comm(state);
    int last = lks_comm_size(comm) - 1;
    char text[2 * LKS_ERROR_BYTES];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    lks_status mine = lks_comm_rank(comm) == last ? lks_fail(LKS_EDATA, "%s", text) : LKS_OK;
    MPI_CHECK(lks_comm_agree(comm, mine) == LKS_EDATA);
    size_t length = strlen(lks_last_error());
    MPI_CHECK(length > LKS_ERROR_BYTES - 100 && length < LKS_ERROR_BYTES);
    lks_comm_destroy(comm);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        ON_ALL(test_agree),
        ON_ALL(test_agree_on_a_long_detail),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
