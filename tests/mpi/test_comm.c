/* Communicators and blocking collectives. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mpi/comm_case.h"

/* ---- who is there ---- */

static void test_ranks(void **state) {
    lks_comm *comm = open_comm(state);
    int comparison;
    MPI_Comm_compare(MPI_COMM_WORLD, lks_comm_mpi(comm), &comparison);
    MPI_CHECK(comparison == MPI_CONGRUENT);
    MPI_CHECK(lks_comm_rank(comm) == mpi_check_rank());
    MPI_CHECK(lks_comm_size(comm) == mpi_check_size());
    MPI_CHECK(lks_comm_local_rank(comm) == mpi_check_rank());
    MPI_CHECK(lks_comm_local_size(comm) == mpi_check_size());
    MPI_CHECK(lks_comm_host_count(comm) == 1);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_bad_communicators(void **state) {
    (void)state;
    lks_comm *comm;
    MPI_CHECK(lks_comm_create(MPI_COMM_NULL, NULL, NULL, &comm) == LKS_EINVAL);
    MPI_CHECK(strstr(lks_last_error(), "MPI_COMM_NULL") != NULL);
    MPI_CHECK(comm == NULL);
    if (mpi_check_size() > 1) {
        MPI_Comm half, inter;
        MPI_Comm_split(MPI_COMM_WORLD, mpi_check_rank() == 0, 0, &half);
        MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, mpi_check_rank() == 0 ? 1 : 0, 0, &inter);
        MPI_CHECK(lks_comm_create(inter, NULL, NULL, &comm) == LKS_EINVAL);
        MPI_CHECK(strstr(lks_last_error(), "intercommunicator") != NULL);
        MPI_Comm_free(&inter);
        MPI_Comm_free(&half);
    }
    lks_comm_destroy(NULL);
    mpi_verdict();
}

/* An MPI error comes back as a status; the caller's own communicator keeps its error handler. */
static void test_mpi_errors(void **state) {
    lks_comm *comm = open_comm(state);
    MPI_Errhandler handler;
    MPI_Comm_get_errhandler(MPI_COMM_WORLD, &handler);
    MPI_CHECK(handler == MPI_ERRORS_ARE_FATAL);
    int nobody = lks_comm_size(comm) + 1;
    int code = MPI_Send(NULL, 0, MPI_INT, nobody, 0, lks_comm_mpi(comm));
    MPI_CHECK(lks_comm_check_mpi(code, "MPI_Send") == LKS_ECOMM);
    MPI_CHECK(strstr(lks_last_error(), "MPI_Send failed: MPI_ERR_RANK") != NULL);
    MPI_CHECK(lks_comm_check_mpi(MPI_SUCCESS, "MPI_Send") == LKS_OK);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_invalid_arguments(void **state) {
    lks_comm *comm = open_comm(state);
    float x = 1;
    int64_t *counts = allocate((size_t)lks_comm_size(comm) * sizeof *counts);
    lks_request *request = NULL;
    MPI_CHECK(lks_comm_all_reduce(comm, &x, 1, LKS_I32, LKS_REDUCE_SUM) == LKS_EINVAL);
    MPI_CHECK(strstr(lks_last_error(), "int32") != NULL);
    MPI_CHECK(lks_comm_all_reduce(comm, &x, 1, LKS_U8, LKS_REDUCE_MAX) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_reduce(comm, &x, -1, LKS_F32, LKS_REDUCE_SUM) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_reduce(comm, NULL, 1, LKS_F32, LKS_REDUCE_SUM) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_reduce(comm, &x, 1, LKS_F32, (lks_reduce_op)7) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_reduce_start(comm, &x, 1, LKS_U8, LKS_REDUCE_SUM, &request) ==
              LKS_EINVAL);
    MPI_CHECK(request == NULL);
    MPI_CHECK(lks_comm_broadcast(comm, &x, 4, lks_comm_size(comm)) == LKS_EINVAL);
    MPI_CHECK(lks_comm_broadcast(comm, &x, 4, -1) == LKS_EINVAL);
    MPI_CHECK(lks_comm_broadcast(comm, &x, -4, 0) == LKS_EINVAL);
    counts[0] = -1;
    MPI_CHECK(lks_comm_all_gather(comm, &x, counts, LKS_F32) == LKS_EINVAL);
    MPI_CHECK(reduce_scatter(comm, &x, counts, LKS_F32, LKS_REDUCE_SUM) == LKS_EINVAL);
    counts[0] = 1;
    MPI_CHECK(reduce_scatter(comm, &x, counts, LKS_I32, LKS_REDUCE_SUM) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_gather(comm, NULL, counts, LKS_F32) == LKS_EINVAL);
    MPI_CHECK(lks_comm_wait(comm, NULL) == LKS_OK);
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* ---- all-reduce ---- */

static void test_all_reduce(void **state) {
    lks_comm *comm = open_comm(state);
    for (int t = 0; t < REDUCED_TYPES; t++) {
        for (int s = 0; s < SIZES; s++) {
            check_all_reduce(comm, sizes[s], reduced_types[t], LKS_REDUCE_SUM);
            check_all_reduce(comm, sizes[s], reduced_types[t], LKS_REDUCE_MAX);
        }
    }
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_max_of_special_values(void **state) {
    lks_comm *comm = open_comm(state);
    int rank = lks_comm_rank(comm), last = lks_comm_size(comm) - 1;
    float x[] = {rank == 0 ? NAN : 1.0F, rank == last ? NAN : 1.0F, rank == 0 ? -INFINITY : -3.0F,
                 rank == last ? INFINITY : 3.0F};
    double y[] = {x[0], x[1], x[2], x[3]};
    int64_t z[] = {rank == 0 ? INT64_MIN : INT64_MIN + 1, rank == last ? INT64_MAX : 0};
    uint16_t b[] = {rank == last ? 0x7fc0 : 0x3f80}; /* NaN, 1 */
    MPI_CHECK(lks_comm_all_reduce(comm, x, 4, LKS_F32, LKS_REDUCE_MAX) == LKS_OK);
    MPI_CHECK(lks_comm_all_reduce(comm, y, 4, LKS_F64, LKS_REDUCE_MAX) == LKS_OK);
    MPI_CHECK(lks_comm_all_reduce(comm, z, 2, LKS_I64, LKS_REDUCE_MAX) == LKS_OK);
    MPI_CHECK(lks_comm_all_reduce(comm, b, 1, LKS_BF16, LKS_REDUCE_MAX) == LKS_OK);
    MPI_CHECK(isnan(x[0]) && isnan(x[1]) && isnan(y[0]) && isnan(y[1]));
    MPI_CHECK(x[2] == (last > 0 ? -3.0F : -INFINITY) && x[3] == INFINITY);
    MPI_CHECK(y[2] == (last > 0 ? -3.0 : -INFINITY) && y[3] == INFINITY);
    MPI_CHECK(z[0] == (last > 0 ? INT64_MIN + 1 : INT64_MIN) && z[1] == INT64_MAX);
    MPI_CHECK((b[0] & 0x7fff) > 0x7f80);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* bfloat16 keeps 8 significant bits: the step above 1 is 2^-7, so 2^-8 is a tie. */
static void test_bf16_rounding(void **state) {
    lks_comm *comm = open_comm(state);
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    const uint16_t one = 0x3f80, half_step = 0x3b80, quarter_step = 0x3b00, largest = 0x7f7f;
    uint16_t x[4] = {0};
    if (rank == 0) {
        uint16_t first[4] = {one, one + 1, largest, one};
        memcpy(x, first, sizeof x);
    } else if (rank == 1) {
        uint16_t second[4] = {half_step, half_step, largest, half_step};
        memcpy(x, second, sizeof x);
    } else if (rank == 2) {
        x[3] = quarter_step;
    }
    MPI_CHECK(lks_comm_all_reduce(comm, x, 4, LKS_BF16, LKS_REDUCE_SUM) == LKS_OK);
    MPI_CHECK(x[0] == one);                            /* the tie goes down to the even neighbour */
    MPI_CHECK(x[1] == (size > 1 ? one + 2 : one + 1)); /* and up to it */
    MPI_CHECK(x[2] == (size > 1 ? 0x7f80 : largest));  /* infinity */
    /* Rounded once: 1 + 0.75 steps; a tree of roundings would lose both summands. */
    MPI_CHECK(size < 3 || x[3] == one + 1);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_bf16_special_values(void **state) {
    lks_comm *comm = open_comm(state);
    int rank = lks_comm_rank(comm), last = lks_comm_size(comm) - 1;
    const uint16_t one = 0x3f80, infinity = 0x7f80, minus_infinity = 0xff80, full_nan = 0x7fff;
    uint16_t x[] = {rank == last ? full_nan : one, rank == 0 ? infinity : one,
                    rank == 0      ? infinity
                    : rank == last ? minus_infinity
                                   : one};
    MPI_CHECK(lks_comm_all_reduce(comm, x, 3, LKS_BF16, LKS_REDUCE_SUM) == LKS_OK);
    MPI_CHECK((x[0] & 0x7fff) > infinity); /* NaN: more than infinity, as an integer */
    MPI_CHECK(x[1] == infinity);
    MPI_CHECK(last > 0 ? (x[2] & 0x7fff) > infinity : x[2] == infinity);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Numbers whose sum depends on the order. */
static void fill_rough(float *x, int64_t count, int rank) {
    uint32_t state = 12345U + (uint32_t)rank * 7919U;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        x[i] = ldexpf((float)(int32_t)state, (int)(state >> 8) % 24 - 40);
    }
}

static void test_same_bits(void **state) {
    lks_comm *comm = open_comm(state);
    const int64_t count = 70001;
    size_t bytes = (size_t)count * sizeof(float);
    float *x = allocate(bytes), *again = allocate(bytes), *of_rank_0 = allocate(bytes);
    fill_rough(x, count, lks_comm_rank(comm));
    fill_rough(again, count, lks_comm_rank(comm));
    MPI_CHECK(lks_comm_all_reduce(comm, x, count, LKS_F32, LKS_REDUCE_SUM) == LKS_OK);
    memcpy(of_rank_0, x, bytes);
    MPI_Bcast(of_rank_0, (int)count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    MPI_CHECK(memcmp(x, of_rank_0, bytes) == 0);
    MPI_CHECK(lks_comm_all_reduce(comm, again, count, LKS_F32, LKS_REDUCE_SUM) == LKS_OK);
    MPI_CHECK(memcmp(x, again, bytes) == 0);
    free(x);
    free(again);
    free(of_rank_0);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Shared memory adds in the order of the ranks, however the array is cut into calls. */
static void test_order_of_ranks(void **state) {
    lks_comm *comm = open_comm(state);
    const int64_t count = 70001, cuts[] = {0, 3, 1000, 1001, 50000, count};
    size_t bytes = (size_t)count * sizeof(float);
    float *x = allocate(bytes), *expected = allocate(bytes), *theirs = allocate(bytes);
    fill_rough(expected, count, 0);
    for (int r = 1; r < lks_comm_size(comm); r++) {
        fill_rough(theirs, count, r);
        for (int64_t i = 0; i < count; i++)
            expected[i] += theirs[i];
    }
    fill_rough(x, count, lks_comm_rank(comm));
    for (int c = 0; c < 5; c++)
        MPI_CHECK(lks_comm_all_reduce(comm, x + cuts[c], cuts[c + 1] - cuts[c], LKS_F32,
                                      LKS_REDUCE_SUM) == LKS_OK);
    MPI_CHECK(memcmp(x, expected, bytes) == 0);
    free(x);
    free(expected);
    free(theirs);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* ---- parts ---- */

static void check_reduce_scatter(lks_comm *comm, int64_t count, const int64_t *counts,
                                 lks_dtype dtype, lks_reduce_op op) {
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    void *data = allocate((size_t)count * lks_dtype_bytes(dtype));
    fill(data, count, dtype, rank);
    MPI_CHECK(reduce_scatter(comm, data, counts, dtype, op) == LKS_OK);
    bool good = true;
    int64_t begin = begin_of(counts, rank);
    for (int64_t i = begin; i < begin + counts[rank] && good; i++) {
        int expected = op == LKS_REDUCE_SUM ? expected_sum(size, i) : expected_max(size, i);
        good = holds(data, i, dtype, expected);
    }
    MPI_CHECK(good);
    free(data);
}

static void test_reduce_scatter(void **state) {
    lks_comm *comm = open_comm(state);
    int64_t *counts = allocate((size_t)lks_comm_size(comm) * sizeof *counts);
    for (int s = 0; s < SIZES; s++) {
        for (int pattern = 0; pattern < PATTERNS; pattern++) {
            cut(counts, lks_comm_size(comm), sizes[s], pattern);
            for (int t = 0; t < REDUCED_TYPES; t++)
                check_reduce_scatter(comm, sizes[s], counts, reduced_types[t],
                                     t % 2 ? LKS_REDUCE_MAX : LKS_REDUCE_SUM);
        }
    }
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void check_all_gather(lks_comm *comm, int64_t count, const int64_t *counts,
                             lks_dtype dtype) {
    size_t bytes = lks_dtype_bytes(dtype);
    int64_t begin = begin_of(counts, lks_comm_rank(comm)), mine = counts[lks_comm_rank(comm)];
    char *data = allocate((size_t)count * bytes);
    fill(data, count, dtype, 1);
    memset(data, 0x55, (size_t)begin * bytes);
    memset(data + (size_t)(begin + mine) * bytes, 0x55, (size_t)(count - begin - mine) * bytes);
    MPI_CHECK(lks_comm_all_gather(comm, data, counts, dtype) == LKS_OK);
    bool good = true;
    for (int64_t i = 0; i < count && good; i++)
        good = holds(data, i, dtype, input(1, i));
    MPI_CHECK(good);
    free(data);
}

static void test_all_gather(void **state) {
    lks_comm *comm = open_comm(state);
    int64_t *counts = allocate((size_t)lks_comm_size(comm) * sizeof *counts);
    for (int s = 0; s < SIZES; s++) {
        for (int pattern = 0; pattern < PATTERNS; pattern++) {
            cut(counts, lks_comm_size(comm), sizes[s], pattern);
            for (int t = 0; t < ALL_TYPES; t++)
                check_all_gather(comm, sizes[s], counts, all_types[t]);
        }
    }
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

static void test_broadcast_and_barrier(void **state) {
    lks_comm *comm = open_comm(state);
    for (int s = 0; s < SIZES; s++) {
        for (int root = 0; root < lks_comm_size(comm); root++) {
            uint8_t *data = allocate((size_t)sizes[s]);
            if (lks_comm_rank(comm) == root) fill(data, sizes[s], LKS_U8, root);
            MPI_CHECK(lks_comm_broadcast(comm, data, sizes[s], root) == LKS_OK);
            bool good = true;
            for (int64_t i = 0; i < sizes[s]; i++)
                good = good && holds(data, i, LKS_U8, input(root, i));
            MPI_CHECK(good);
            MPI_CHECK(lks_comm_barrier(comm) == LKS_OK);
            free(data);
        }
    }
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* Nobody leaves a barrier before everybody came. */
static void test_barrier_waits(void **state) {
    lks_comm *comm = open_comm(state);
    MPI_Win window;
    int *arrived = NULL;
    MPI_Win_allocate_shared(mpi_check_rank() == 0 ? sizeof(int) : 0, sizeof(int), MPI_INFO_NULL,
                            MPI_COMM_WORLD, &arrived, &window);
    MPI_Aint bytes;
    int unit;
    MPI_Win_shared_query(window, 0, &bytes, &unit, &arrived);
    if (mpi_check_rank() == 0) *arrived = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    bool good = true;
    for (int round = 1; round <= 200; round++) {
        __atomic_fetch_add(arrived, 1, __ATOMIC_SEQ_CST);
        MPI_CHECK(lks_comm_barrier(comm) == LKS_OK);
        good = good && __atomic_load_n(arrived, __ATOMIC_SEQ_CST) >= round * lks_comm_size(comm);
    }
    MPI_CHECK(good);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_free(&window);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* 2^31 + 4097 bytes, made of one piece of memory mapped many times. */
static void test_beyond_int_counts(void **state) {
    if (mpi_check_size() != 2) return; /* it takes a second */
    lks_comm *comm = open_comm(state);
    const size_t period = (size_t)1 << 21, maps = ((size_t)1 << 31) / period + 1;
    int64_t count = ((int64_t)1 << 31) + 4097;
    int fd = memfd_create("period", 0);
    MPI_REQUIRE(fd >= 0 && ftruncate(fd, (off_t)period) == 0);
    char *data = mmap(NULL, period * maps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MPI_REQUIRE(data != MAP_FAILED);
    bool mapped = true;
    for (size_t m = 0; m < maps; m++)
        mapped = mapped && mmap(data + m * period, period, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    MPI_REQUIRE(mapped);
    if (lks_comm_rank(comm) == 0) fill(data, (int64_t)period, LKS_U8, 0);
    MPI_CHECK(lks_comm_broadcast(comm, data, count, 0) == LKS_OK);
    bool good = true;
    for (int64_t i = 0; i < (int64_t)period; i++)
        good = good && holds(data, i, LKS_U8, input(0, i));
    MPI_CHECK(good);
    munmap(data, period * maps);
    close(fd);
    lks_comm_destroy(comm);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        ON(shared, test_bad_communicators),
        ON_ALL(test_ranks),
        ON_ALL(test_mpi_errors),
        ON_ALL(test_invalid_arguments),
        ON_ALL(test_all_reduce),
        ON_ALL(test_max_of_special_values),
        ON_ALL(test_bf16_rounding),
        ON_ALL(test_bf16_special_values),
        ON_ALL(test_same_bits),
        ON(shared, test_order_of_ranks),
        ON_ALL(test_reduce_scatter),
        ON_ALL(test_all_gather),
        ON_ALL(test_broadcast_and_barrier),
        ON_ALL(test_barrier_waits),
        ON(shared, test_beyond_int_counts),
        ON(mpi, test_beyond_int_counts),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
