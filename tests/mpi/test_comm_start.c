/* Non-blocking collectives, and several communicators at once. */
#include <malloc.h>

#include "mpi/comm_case.h"

/* ---- non-blocking ---- */

enum { FLIGHTS = 12 };

typedef struct flight {
    lks_request *request;
    void *data;
    int64_t count;
} flight;

/* Starts a transfer of the kind that suits its number: all-reduce, reduce-scatter, all-gather. */
static void start_flight(lks_comm *comm, flight *f, int number, int64_t *counts) {
    int rank = lks_comm_rank(comm);
    f->count = sizes[number % SIZES] + number;
    f->data = allocate((size_t)f->count * sizeof(float));
    fill(f->data, f->count, LKS_F32, number % 3 == 2 ? 1 : rank);
    cut(counts, lks_comm_size(comm), f->count, number % PATTERNS);
    lks_status status;
    if (number % 3 == 0)
        status = lks_comm_all_reduce_start(comm, f->data, f->count, LKS_F32, LKS_REDUCE_SUM,
                                           &f->request);
    else if (number % 3 == 1)
        status = lks_comm_reduce_scatter_start(comm, f->data, counts, LKS_F32, LKS_REDUCE_SUM,
                                               &f->request);
    else
        status = lks_comm_all_gather_start(comm, f->data, counts, LKS_F32, &f->request);
    MPI_CHECK(status == LKS_OK);
    memset(counts, 0x7f, (size_t)lks_comm_size(comm) * sizeof *counts); /* no longer needed */
}

static void end_flight(lks_comm *comm, flight *f, int number, int64_t *counts) {
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    MPI_CHECK(lks_comm_wait(comm, f->request) == LKS_OK);
    cut(counts, size, f->count, number % PATTERNS);
    int64_t first = number % 3 == 1 ? begin_of(counts, rank) : 0;
    int64_t end = number % 3 == 1 ? first + counts[rank] : f->count;
    bool good = true;
    for (int64_t i = first; i < end && good; i++)
        good = holds(f->data, i, LKS_F32, number % 3 == 2 ? input(1, i) : expected_sum(size, i));
    MPI_CHECK(good);
    free(f->data);
}

static void test_non_blocking(void **state) {
    lks_comm *comm = open_comm(state);
    int64_t *counts = allocate((size_t)lks_comm_size(comm) * sizeof *counts);
    flight flights[FLIGHTS];
    for (int order = 0; order < 3; order++) {
        for (int n = 0; n < FLIGHTS; n++) {
            start_flight(comm, &flights[n], n, counts);
            /* As ranks come to different numbers of progress calls: */
            for (int p = 0; p < (n * 5 + lks_comm_rank(comm)) % 4; p++)
                MPI_CHECK(lks_comm_progress(comm) == LKS_OK);
        }
        /* A blocking call between start and wait. */
        if (order == 1) check_all_reduce(comm, 1000, LKS_F64, LKS_REDUCE_SUM);
        for (int n = 0; n < FLIGHTS; n++) {
            int next = order == 0 ? n : order == 1 ? FLIGHTS - 1 - n : (n * 5) % FLIGHTS;
            end_flight(comm, &flights[next], next, counts);
        }
    }
    MPI_CHECK(lks_comm_progress(comm) == LKS_OK);
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* The newest transfer ends first, and another starts while the oldest is still not waited for. */
static void test_waits_between_starts(void **state) {
    lks_comm *comm = open_comm(state);
    int64_t *counts = allocate((size_t)lks_comm_size(comm) * sizeof *counts);
    flight oldest, newest;
    start_flight(comm, &oldest, 6, counts);
    for (int n = 0; n < FLIGHTS; n++) {
        start_flight(comm, &newest, n, counts);
        end_flight(comm, &newest, n, counts);
    }
    end_flight(comm, &oldest, 6, counts);
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Progress alone brings a transfer to its end: wait finds it done. */
static void test_progress_suffices(void **state) {
    lks_comm *comm = open_comm(state);
    if (lks_comm_size(comm) > 1) {
        const int64_t count = 200000;
        float *x = allocate((size_t)count * sizeof *x);
        fill(x, count, LKS_F32, lks_comm_rank(comm));
        lks_request *request;
        MPI_CHECK(lks_comm_all_reduce_start(comm, x, count, LKS_F32, LKS_REDUCE_SUM, &request) ==
                  LKS_OK);
        while (!request->done && lks_comm_progress(comm) == LKS_OK)
            continue;
        MPI_CHECK(holds(x, count - 1, LKS_F32, expected_sum(lks_comm_size(comm), count - 1)));
        MPI_CHECK(lks_comm_wait(comm, request) == LKS_OK);
        free(x);
    }
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void run_steps(lks_comm *comm, float *x, int steps) {
    for (int s = 0; s < steps; s++) {
        lks_request *requests[3] = {0};
        for (int i = 0; i < 3; i++)
            MPI_CHECK(lks_comm_all_reduce_start(comm, x + i * 10000, 10000, LKS_F32, LKS_REDUCE_SUM,
                                                &requests[i]) == LKS_OK);
        for (int i = 0; i < 3; i++)
            MPI_CHECK(lks_comm_wait(comm, requests[i]) == LKS_OK);
        MPI_CHECK(lks_comm_agree(comm, LKS_OK) == LKS_OK);
    }
}

/* MPI allocates for itself, so this holds for shared memory alone. */
static void test_steady_state_allocates_nothing(void **state) {
    lks_comm *comm = open_comm(state);
    float *x = allocate(30000 * sizeof *x);
    run_steps(comm, x, 2);
    size_t before = mallinfo2().uordblks;
    run_steps(comm, x, 50);
    MPI_CHECK(mallinfo2().uordblks == before);
    free(x);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* The other ranks' summands come into memory of this rank's; through shared memory they do not. */
static void test_sums_under_way_are_counted(void **state) {
    enum { COUNT = 3000001 };
    const variant *v = *state;
    lks_comm *comm = open_comm(state);
    const size_t size = (size_t)lks_comm_size(comm), part = (COUNT + size - 1) / size;
    const size_t expected = v->ops == &lks_comm_mpi_ops ? (size - 1) * part * sizeof(float) : 0;
    MPI_CHECK(lks_comm_reduction_bytes(comm, COUNT, LKS_F32) == expected);
    float *x = calloc(COUNT, sizeof *x);
    MPI_REQUIRE(x != NULL);
    lks_request *request;
    const struct mallinfo2 before = mallinfo2();
    MPI_CHECK(lks_comm_all_reduce_start(comm, x, COUNT, LKS_F32, LKS_REDUCE_SUM, &request) ==
              LKS_OK);
    const struct mallinfo2 under_way = mallinfo2();
    /* not where a sanitizer allocates in glibc's place, which then knows of nothing */
    if (before.uordblks > 0)
        MPI_CHECK(under_way.uordblks + under_way.hblkhd >=
                  before.uordblks + before.hblkhd + expected);
    MPI_CHECK(lks_comm_wait(comm, request) == LKS_OK);
    free(x);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* ---- failures ---- */

enum { PART = 1000, FIRST_TAG = 1 };

/* What the others send too late does not come into the memory that rank 0 has been given back. */
static void check_late_message(lks_comm *comm, const float *x, int from) {
    float late[PART];
    int there = 0;
    for (double began = lks_clock_seconds(); !there && lks_clock_seconds() - began < 60;)
        MPI_Iprobe(from, FIRST_TAG, lks_comm_mpi(comm), &there, MPI_STATUS_IGNORE);
    MPI_CHECK(there);
    if (!there) return;
    MPI_Recv(late, PART, MPI_FLOAT, from, FIRST_TAG, lks_comm_mpi(comm), MPI_STATUS_IGNORE);
    MPI_CHECK(late[0] == (float)from && x[from * PART] == -1);
}

static void test_failure_lets_go_of_memory(void **state) {
    lks_comm *comm = open_comm(state);
    const int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    float *x = allocate((size_t)size * PART * sizeof *x);
    int64_t *counts = allocate((size_t)size * sizeof *counts);
    lks_request *request = NULL;
    for (int i = 0; i < size * PART; i++)
        x[i] = rank == 0 ? -1 : (float)rank;
    for (int r = 0; r < size; r++)
        counts[r] = PART;
    if (rank == 0 && size > 1) {
        MPI_CHECK(lks_comm_all_gather_start(comm, x, counts, LKS_F32, &request) == LKS_OK);
        lks_fail(LKS_EDEVICE, "its device is gone");
        MPI_CHECK(lks_comm_give_up(comm) == LKS_ECOMM);
        MPI_CHECK(lks_comm_wait(comm, request) == LKS_ECOMM);
        MPI_CHECK(lks_comm_all_reduce(comm, x, 1, LKS_F32, LKS_REDUCE_SUM) == LKS_ECOMM);
        MPI_CHECK(strcmp(lks_last_error(), "its device is gone") == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank > 0) {
        MPI_Send(x, PART, MPI_FLOAT, 0, FIRST_TAG, lks_comm_mpi(comm));
        MPI_Recv(x, PART, MPI_FLOAT, 0, FIRST_TAG, lks_comm_mpi(comm), MPI_STATUS_IGNORE);
    }
    for (int from = 1; from < size && rank == 0; from++)
        check_late_message(comm, x, from);
    free(counts);
    free(x);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* ---- several communicators ---- */

static void test_sub_communicators(void **state) {
    int rank = mpi_check_rank(), color = rank % 2;
    MPI_Comm half;
    MPI_Comm_split(MPI_COMM_WORLD, color, -rank, &half); /* in reversed order */
    lks_comm *world = open_comm(state), *sub = open_comm_on(state, half);
    MPI_Comm_free(&half); /* the duplicate lives on */
    int members = (mpi_check_size() + 1 - color) / 2;
    MPI_CHECK(lks_comm_size(sub) == members);
    MPI_CHECK(lks_comm_rank(sub) == members - 1 - rank / 2);

    lks_request *in_world, *in_sub;
    float *x = allocate(100000 * sizeof *x), *y = allocate(100000 * sizeof *y);
    fill(x, 100000, LKS_F32, lks_comm_rank(world));
    fill(y, 100000, LKS_F32, lks_comm_rank(sub));
    MPI_CHECK(lks_comm_all_reduce_start(world, x, 100000, LKS_F32, LKS_REDUCE_SUM, &in_world) ==
              LKS_OK);
    MPI_CHECK(lks_comm_all_reduce_start(sub, y, 100000, LKS_F32, LKS_REDUCE_SUM, &in_sub) ==
              LKS_OK);
    MPI_CHECK(lks_comm_wait(world, in_world) == LKS_OK);
    MPI_CHECK(lks_comm_wait(sub, in_sub) == LKS_OK);
    bool good = true;
    for (int i = 0; i < 100000 && good; i++)
        good = holds(x, i, LKS_F32, expected_sum(lks_comm_size(world), i)) &&
               holds(y, i, LKS_F32, expected_sum(members, i));
    MPI_CHECK(good);
    free(x);
    free(y);
    lks_comm_destroy(world); /* the older one first */
    check_all_reduce(sub, 3000, LKS_F64, LKS_REDUCE_SUM);
    lks_comm_destroy(sub);
    mpi_verdict();
}

static void test_destroy_order(void **state) {
    lks_comm *first = open_comm(state), *second = open_comm(state);
    check_all_reduce(first, 10, LKS_F32, LKS_REDUCE_SUM);
    lks_comm_destroy(second);
    check_all_reduce(first, 70000, LKS_F32, LKS_REDUCE_SUM);
    /* What nobody waited for is brought to its end. */
    float x[1000];
    fill(x, 1000, LKS_F32, lks_comm_rank(first));
    lks_request *request;
    MPI_CHECK(lks_comm_all_reduce_start(first, x, 1000, LKS_F32, LKS_REDUCE_SUM, &request) ==
              LKS_OK);
    lks_comm_destroy(first);
    MPI_CHECK(holds(x, 999, LKS_F32, expected_sum(mpi_check_size(), 999)));
    mpi_verdict();
}

static void test_one_rank(void **state) {
    lks_comm *comm = open_comm_on(state, MPI_COMM_SELF);
    MPI_CHECK(lks_comm_size(comm) == 1 && lks_comm_rank(comm) == 0);
    float x[3] = {1, 2, 3};
    int64_t counts[1] = {3};
    lks_request *request;
    MPI_CHECK(lks_comm_all_reduce_start(comm, x, 3, LKS_F32, LKS_REDUCE_SUM, &request) == LKS_OK);
    MPI_CHECK(request == NULL);
    MPI_CHECK(lks_comm_wait(comm, request) == LKS_OK);
    MPI_CHECK(reduce_scatter(comm, x, counts, LKS_F32, LKS_REDUCE_SUM) == LKS_OK);
    MPI_CHECK(lks_comm_all_gather(comm, x, counts, LKS_F32) == LKS_OK);
    MPI_CHECK(lks_comm_broadcast(comm, x, sizeof x, 0) == LKS_OK);
    MPI_CHECK(lks_comm_barrier(comm) == LKS_OK);
    MPI_CHECK(lks_comm_progress(comm) == LKS_OK);
    MPI_CHECK(x[0] == 1 && x[1] == 2 && x[2] == 3);
    MPI_CHECK(lks_comm_agree(comm, LKS_OK) == LKS_OK);
    lks_status failed = lks_comm_agree(comm, lks_fail(LKS_EIO, "no file"));
    MPI_CHECK(failed == LKS_EIO && strcmp(lks_last_error(), "no file") == 0);
    lks_comm_destroy(comm);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        ON_ALL(test_non_blocking),
        ON_ALL(test_waits_between_starts),
        ON_ALL(test_progress_suffices),
        ON(shared, test_steady_state_allocates_nothing),
        ON_ALL(test_sums_under_way_are_counted),
        ON(mpi, test_failure_lets_go_of_memory),
        ON_ALL(test_sub_communicators),
        ON_ALL(test_destroy_order),
        ON_ALL(test_one_rank),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
