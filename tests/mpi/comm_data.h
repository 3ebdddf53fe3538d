/* Data whose reductions are known, for the tests of collectives. */
#ifndef LKS_TESTS_COMM_DATA_H
#define LKS_TESTS_COMM_DATA_H

#include "comm/comm.h"
#include "mpi/mpi_check.h"

/* Waited for at once. */
static inline lks_status reduce_scatter(lks_comm *comm, void *data, const int64_t *counts,
                                        lks_dtype dtype, lks_reduce_op op) {
    lks_request *request;
    lks_status status = lks_comm_reduce_scatter_start(comm, data, counts, dtype, op, &request);
    return status ? status : lks_comm_wait(comm, request);
}

static inline void *allocate(size_t bytes) {
    void *memory = calloc(bytes + 1, 1);
    MPI_REQUIRE(memory != NULL);
    return memory;
}

/* ---- elements of every type ---- */

static inline void put(void *data, int64_t i, lks_dtype dtype, int value) {
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

static inline bool holds(const void *data, int64_t i, lks_dtype dtype, int value) {
    double expected[1];
    put(expected, 0, dtype, value);
    size_t bytes = lks_dtype_bytes(dtype);
    return memcmp((const char *)data + (size_t)i * bytes, expected, bytes) == 0;
}

/* What rank `rank` contributes to element i: small, so that every type holds it and sums of a few
 * exactly, bfloat16 with its 8 bits included. */
static inline int input(int rank, int64_t i) {
    return (int)((i * 7 + rank * 3) % 23) - 11;
}

static inline int expected_sum(int size, int64_t i) {
    int sum = 0;
    for (int r = 0; r < size; r++)
        sum += input(r, i);
    return sum;
}

static inline int expected_max(int size, int64_t i) {
    int max = input(0, i);
    for (int r = 1; r < size; r++)
        max = input(r, i) > max ? input(r, i) : max;
    return max;
}

static inline void fill(void *data, int64_t count, lks_dtype dtype, int rank) {
    for (int64_t i = 0; i < count; i++)
        put(data, i, dtype, input(rank, i));
}

static const lks_dtype reduced_types[] = {LKS_F32, LKS_F64, LKS_I64, LKS_BF16};
enum { REDUCED_TYPES = sizeof reduced_types / sizeof reduced_types[0] };
static const lks_dtype all_types[] = {LKS_F32, LKS_F64, LKS_BF16, LKS_I32, LKS_I64, LKS_U8};
enum { ALL_TYPES = sizeof all_types / sizeof all_types[0] };

/* Fewer than ranks, around one block of the kernels, around the limit of small all-reduces, several
 * chunks of shared memory. */
static const int64_t sizes[] = {0, 1, 3, 1024, 1025, 2049, 40961, 300007};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static inline void check_all_reduce(lks_comm *comm, int64_t count, lks_dtype dtype,
                                    lks_reduce_op op) {
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

/* Cuts `count` elements into parts: even, one rank has all, or uneven with empty ones. */
static inline void cut(int64_t *counts, int size, int64_t count, int pattern) {
    int64_t left = count;
    for (int r = 0; r < size; r++) {
        int64_t share = pattern == 0 ? count / size : pattern == 1 ? 0 : r % 2 ? left / 2 : 0;
        counts[r] = share;
        left -= share;
    }
    counts[pattern == 1 ? 0 : size - 1] += left;
}
enum { PATTERNS = 3 };

static inline int64_t begin_of(const int64_t *counts, int rank) {
    int64_t begin = 0;
    for (int r = 0; r < rank; r++)
        begin += counts[r];
    return begin;
}

#endif
