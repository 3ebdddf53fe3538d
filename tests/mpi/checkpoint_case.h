/* What the tests of checkpoints save: a big array in ragged pieces, and small things of every kind.
 */
#ifndef LKS_TESTS_CHECKPOINT_CASE_H
#define LKS_TESTS_CHECKPOINT_CASE_H

#include <math.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint_folder.h"

/* Two blocks of 4 MiB and a short third, in a shape that no block boundary fits. */
enum { BIG_ROWS = 3, BIG_COLUMNS = 700001, BIG = BIG_ROWS * BIG_COLUMNS };
enum { LONG_TEXT = 100000, MAX_PIECES = 64 };

/* What a saved array must hold, known everywhere without keeping it. */
static inline float expected_value(int64_t index, int version) {
    uint32_t bits = (uint32_t)index * 2654435761u + (uint32_t)version * 40503u;
    return (float)(bits >> 8) / 65536.0f;
}

/* This rank's part of a big array: ragged pieces dealt round the ranks, an empty one among them. */
typedef struct big_array {
    float *memory;
    lks_piece pieces[MAX_PIECES];
    int piece_count;
} big_array;

static inline void fill_big(big_array *big, int rank, int size, int version) {
    big->memory = malloc(BIG * sizeof *big->memory);
    if (!big->memory) MPI_Abort(MPI_COMM_WORLD, 1);
    big->piece_count = 0;
    uint32_t seed = 12345;
    int64_t first = 0, used = 0;
    for (int turn = 0; first < BIG; turn++) {
        seed = seed * 1664525u + 1013904223u;
        /* from a few elements to more than a block */
        int64_t count = turn % 5 == 4 ? 0 : (int64_t)(seed >> 8) % (turn % 2 ? 700 : 1300000);
        if (count > BIG - first || turn == MAX_PIECES - 1) count = BIG - first;
        if (turn % size == rank) {
            float *data = big->memory + used;
            for (int64_t i = 0; i < count; i++)
                data[i] = expected_value(first + i, version);
            big->pieces[big->piece_count++] = (lks_piece){first, count, count ? data : NULL};
            used += count;
        }
        first += count;
    }
}

static inline lks_checkpoint_array big_description(const big_array *big) {
    return (lks_checkpoint_array){
        .path = "/model/big.weight",
        .dtype = LKS_F32,
        .shape = {.rank = 2, .dim = {BIG_ROWS, BIG_COLUMNS}},
        .pieces = big->pieces,
        .piece_count = big->piece_count,
    };
}

static inline lks_status save_big_by(lks_transfer transfer, const char *path, int version) {
    big_array big;
    fill_big(&big, mpi_check_rank(), mpi_check_size(), version);
    lks_checkpoint_array array = big_description(&big);
    lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    lks_status status = lks_checkpoint_write(world, path, &content, transfer);
    free(big.memory);
    return status;
}

static inline lks_status save_big(const char *path, int version) {
    return save_big_by(LKS_TRANSFER_INDEPENDENT, path, version);
}

/* Does the file hold this version, whole? Local. */
static inline bool holds_big(const char *path, int version) {
    float *values = calloc(BIG, sizeof *values);
    if (!values) return false;
    big_array whole = {.pieces = {{0, BIG, values}}, .piece_count = 1};
    lks_checkpoint_array array = big_description(&whole);
    lks_checkpoint *checkpoint = NULL;
    bool good = lks_checkpoint_open(path, &checkpoint) == LKS_OK &&
                lks_checkpoint_read(checkpoint, &array) == LKS_OK;
    for (int64_t i = 0; good && i < BIG; i++)
        good = values[i] == expected_value(i, version);
    lks_checkpoint_close(checkpoint);
    free(values);
    return good;
}

/* ---- small things: every dtype, scalars, nothing at all, attributes ---- */

static double doubles[4] = {1.0 / 3, -0.0, INFINITY, 5e-324};
static int64_t integers[3] = {INT64_MIN, -1, INT64_MAX};
static int32_t words[2] = {INT32_MIN, 7};
static uint8_t byte = 200;
static float scalar = 0.1f;
static const double rates[2] = {0.1, 1.0 / 3};

/* Each array is one rank's alone, so that some ranks may have no pieces at all. */
static inline lks_status save_small(const char *path, int64_t step, const char *long_text) {
    int mine[6];
    for (int i = 0; i < 6; i++)
        mine[i] = i % mpi_check_size() == mpi_check_rank();
    const lks_piece pieces[] = {{0, 4, doubles}, {0, 3, integers}, {0, 2, words},
                                {0, 1, &byte},   {0, 1, &scalar},  {0, 0, NULL}};
    lks_checkpoint_array arrays[] = {
        {"/optimizer/exp_avg/z", LKS_F64, {2, {2, 2}}, &pieces[0], mine[0]},
        {"/optimizer/exp_avg/a", LKS_I64, {1, {3}}, &pieces[1], mine[1]},
        {"/sampler/words", LKS_I32, {2, {1, 2}}, &pieces[2], mine[2]},
        {"/byte", LKS_U8, {1, {1}}, &pieces[3], mine[3]},
        {"/model/scalar", LKS_F32, {0, {0}}, &pieces[4], mine[4]},
        {"/model/none", LKS_F32, {2, {0, 5}}, &pieces[5], mine[5]},
    };
    lks_checkpoint_attr attrs[] = {
        {.path = "/optimizer", .name = "step", .kind = LKS_ATTR_I64, .i64 = step},
        {.path = "/scheduler/inner",
         .name = "state",
         .kind = LKS_ATTR_F64,
         .f64 = rates,
         .count = 2},
        {.path = "/scheduler", .name = "one", .kind = LKS_ATTR_F64, .f64 = rates, .count = 1},
        {.path = "/scheduler", .name = "no", .kind = LKS_ATTR_F64, .f64 = rates, .count = 0},
        {.path = "/optimizer", .name = "name", .kind = LKS_ATTR_TEXT, .text = "adamw \xc3\xa9"},
        {.path = "/", .name = "note", .kind = LKS_ATTR_TEXT, .text = ""},
        {.path = "/config", .name = "text", .kind = LKS_ATTR_TEXT, .text = long_text},
    };
    lks_checkpoint_content content = {arrays, 6, attrs, 7};
    return lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT);
}

static inline void check_small_arrays(lks_checkpoint *checkpoint) {
    double d[4];
    int64_t i[3];
    int32_t w[2];
    uint8_t b;
    float f;
    const lks_piece pieces[] = {{0, 4, d}, {0, 3, i}, {0, 2, w}, {0, 1, &b}, {0, 1, &f}};
    lks_checkpoint_array arrays[] = {
        {"/optimizer/exp_avg/z", LKS_F64, {2, {2, 2}}, &pieces[0], 1},
        {"/optimizer/exp_avg/a", LKS_I64, {1, {3}}, &pieces[1], 1},
        {"/sampler/words", LKS_I32, {2, {1, 2}}, &pieces[2], 1},
        {"/byte", LKS_U8, {1, {1}}, &pieces[3], 1},
        {"/model/scalar", LKS_F32, {0, {0}}, &pieces[4], 1},
        {"/model/none", LKS_F32, {2, {0, 5}}, NULL, 0},
    };
    MPI_CHECK(lks_checkpoint_read_all(checkpoint, arrays, 6) == LKS_OK);
    MPI_CHECK(memcmp(d, doubles, sizeof d) == 0);
    MPI_CHECK(memcmp(i, integers, sizeof i) == 0);
    MPI_CHECK(memcmp(w, words, sizeof w) == 0);
    MPI_CHECK(b == byte && f == scalar);
}

/* The error names what it was about, on every rank. */
static inline bool says(const char *words) {
    return strstr(lks_last_error(), words) != NULL;
}

/* Does the file hold that step, whole? Local. */
static inline bool holds_small(const char *path, int64_t expected) {
    lks_checkpoint *checkpoint = NULL;
    int64_t step = 0;
    if (lks_checkpoint_open(path, &checkpoint)) return false;
    check_small_arrays(checkpoint);
    lks_status status = lks_checkpoint_get_i64(checkpoint, "/optimizer", "step", &step);
    lks_checkpoint_close(checkpoint);
    return !status && step == expected;
}

#endif
