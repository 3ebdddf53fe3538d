/* Collectives, over every back end: shared memory, MPI, and MPI with transfers cut into pieces. */
#include <malloc.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "comm/backend.h"
#include "comm/mpi/mpi.h"
#include "comm/shared/shared.h"
#include "mpi/mpi_check.h"

typedef struct variant {
    const lks_comm_ops *ops;
    int limit; /* of MPI's pieces; 0: its own */
} variant;

/* A communicator of the test's variant over the ranks of `mpi`. Collective. */
static lks_comm *open_comm_on(void **state, MPI_Comm mpi) {
    const variant *v = *state;
    lks_comm *comm = NULL;
    MPI_REQUIRE(lks_comm_create(mpi, NULL, NULL, &comm) == LKS_OK);
    bool selected = lks_comm_size(comm) == 1 || lks_comm_select(comm, v->ops) == LKS_OK;
    MPI_REQUIRE(selected);
    if (v->limit > 0 && lks_comm_size(comm) > 1) lks_comm_mpi_limit(comm, v->limit);
    return comm;
}

static lks_comm *open_comm(void **state) {
    return open_comm_on(state, MPI_COMM_WORLD);
}

static void *allocate(size_t bytes) {
    void *memory = calloc(bytes + 1, 1);
    MPI_REQUIRE(memory != NULL);
    return memory;
}

/* ---- elements of every type ---- */

static void put(void *data, int64_t i, lks_dtype dtype, int value) {
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    switch (dtype) {
    case LKS_F32:
        ((float *)data)[i] = f;
        break;
    case LKS_F64:
        ((double *)data)[i] = value;
        break;
    case LKS_BF16:
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        break;
    case LKS_I32:
        ((int32_t *)data)[i] = value;
        break;
    case LKS_I64:
        ((int64_t *)data)[i] = value;
        break;
    case LKS_U8:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    }
}

static bool holds(const void *data, int64_t i, lks_dtype dtype, int value) {
    double expected[1];
    put(expected, 0, dtype, value);
    size_t bytes = lks_dtype_bytes(dtype);
    return memcmp((const char *)data + (size_t)i * bytes, expected, bytes) == 0;
}

/* What rank `rank` contributes to element i: small, so that every type holds it and sums of a few
 * exactly, bfloat16 with its 8 bits included. */
static int input(int rank, int64_t i) {
    return (int)((i * 7 + rank * 3) % 23) - 11;
}

static int expected_sum(int size, int64_t i) {
    int sum = 0;
    for (int r = 0; r < size; r++)
        sum += input(r, i);
    return sum;
}

static int expected_max(int size, int64_t i) {
    int max = input(0, i);
    for (int r = 1; r < size; r++)
        max = input(r, i) > max ? input(r, i) : max;
    return max;
}

static void fill(void *data, int64_t count, lks_dtype dtype, int rank) {
    for (int64_t i = 0; i < count; i++)
        put(data, i, dtype, input(rank, i));
}

static const lks_dtype reduced_types[] = {LKS_F32, LKS_F64, LKS_I64, LKS_BF16};
enum { REDUCED_TYPES = sizeof reduced_types / sizeof reduced_types[0] };
static const lks_dtype all_types[] = {LKS_F32, LKS_F64, LKS_BF16, LKS_I32, LKS_I64, LKS_U8};
enum { ALL_TYPES = sizeof all_types / sizeof all_types[0] };

/* Fewer than ranks, around one block of the kernels, around the limit of small all-reduces, several
 * chunks of shared memory. */
static const int64_t sizes[] = {0, 1, 2, 3, 5, 511, 1023, 1024, 1025, 2049, 40961, 300007};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

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
    MPI_CHECK(lks_comm_reduce_scatter(comm, &x, counts, LKS_F32, LKS_REDUCE_SUM) == LKS_EINVAL);
    counts[0] = 1;
    MPI_CHECK(lks_comm_reduce_scatter(comm, &x, counts, LKS_I32, LKS_REDUCE_SUM) == LKS_EINVAL);
    MPI_CHECK(lks_comm_all_gather(comm, NULL, counts, LKS_F32) == LKS_EINVAL);
    MPI_CHECK(lks_comm_wait(comm, NULL) == LKS_OK);
    free(counts);
    lks_comm_destroy(comm);
    mpi_verdict();
}

/* ---- all-reduce ---- */

static void check_all_reduce(lks_comm *comm, int64_t count, lks_dtype dtype, lks_reduce_op op) {
    void *data = allocate((size_t)count * lks_dtype_bytes(dtype));
    fill(data, count, dtype, lks_comm_rank(comm));
    MPI_CHECK(lks_comm_all_reduce(comm, count ? data : NULL, count, dtype, op) == LKS_OK);
    bool good = true;
    for (int64_t i = 0; i < count && good; i++) {
        int size = lks_comm_size(comm);
        int expected = op == LKS_REDUCE_SUM ? expected_sum(size, i) : expected_max(size, i);
        good = holds(data, i, dtype, expected);
    }
    MPI_CHECK(good);
    free(data);
}

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
    /* Shared memory rounds once: 1 + 0.75 steps; a tree of roundings would lose both summands. */
    const variant *v = *state;
    if (v->ops == &lks_comm_shared_ops && size > 2) MPI_CHECK(x[3] == one + 1);
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

/* Cuts `count` elements into parts: even, one rank has all, or uneven with empty ones. */
static void cut(int64_t *counts, int size, int64_t count, int pattern) {
    int64_t left = count;
    for (int r = 0; r < size; r++) {
        int64_t share = pattern == 0 ? count / size : pattern == 1 ? 0 : r % 2 ? left / 2 : 0;
        counts[r] = share;
        left -= share;
    }
    counts[pattern == 1 ? 0 : size - 1] += left;
}
enum { PATTERNS = 3 };

static int64_t begin_of(const int64_t *counts, int rank) {
    int64_t begin = 0;
    for (int r = 0; r < rank; r++)
        begin += counts[r];
    return begin;
}

static void check_reduce_scatter(lks_comm *comm, int64_t count, const int64_t *counts,
                                 lks_dtype dtype, lks_reduce_op op) {
    int rank = lks_comm_rank(comm), size = lks_comm_size(comm);
    void *data = allocate((size_t)count * lks_dtype_bytes(dtype));
    fill(data, count, dtype, rank);
    MPI_CHECK(lks_comm_reduce_scatter(comm, data, counts, dtype, op) == LKS_OK);
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
    MPI_CHECK(lks_comm_reduce_scatter(comm, x, counts, LKS_F32, LKS_REDUCE_SUM) == LKS_OK);
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

/* ---- agreement ---- */

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

/* ---- */

/* The limit is below one block, so that pieces and reductions are cut differently. */
static variant shared = {&lks_comm_shared_ops, 0};
static variant mpi = {&lks_comm_mpi_ops, 0};
static variant pieces = {&lks_comm_mpi_ops, 1021};

#define ON(variant, test) \
    { #test " [" #variant "]", test, NULL, NULL, &variant }
#define ON_ALL(test) ON(shared, test), ON(mpi, test), ON(pieces, test)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        ON(shared, test_bad_communicators),
        ON_ALL(test_ranks),
        ON_ALL(test_mpi_errors),
        ON_ALL(test_invalid_arguments),
        ON_ALL(test_all_reduce),
        ON_ALL(test_max_of_special_values),
        ON_ALL(test_bf16_rounding),
        ON_ALL(test_same_bits),
        ON(shared, test_order_of_ranks),
        ON_ALL(test_reduce_scatter),
        ON_ALL(test_all_gather),
        ON_ALL(test_broadcast_and_barrier),
        ON_ALL(test_barrier_waits),
        ON(shared, test_beyond_int_counts),
        ON(mpi, test_beyond_int_counts),
        ON_ALL(test_non_blocking),
        ON_ALL(test_progress_suffices),
        ON(shared, test_steady_state_allocates_nothing),
        ON_ALL(test_sub_communicators),
        ON_ALL(test_destroy_order),
        ON_ALL(test_one_rank),
        ON_ALL(test_agree),
        ON_ALL(test_agree_on_a_long_detail),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
