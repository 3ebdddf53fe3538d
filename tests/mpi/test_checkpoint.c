/* Saving with any number of ranks and restoring whole arrays or any part of them; failures that
 * leave the old checkpoint and nothing else. */
#include <math.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint_folder.h"
#include "full_disk.h"

/* Two blocks of 4 MiB and a short third, in a shape that no block boundary fits. */
enum { BIG_ROWS = 3, BIG_COLUMNS = 700001, BIG = BIG_ROWS * BIG_COLUMNS };
enum { LONG_TEXT = 100000, MAX_PIECES = 64 };

/* What a saved array must hold, known everywhere without keeping it. */
static float expected_value(int64_t index, int version) {
    uint32_t bits = (uint32_t)index * 2654435761u + (uint32_t)version * 40503u;
    return (float)(bits >> 8) / 65536.0f;
}

/* This rank's part of a big array: ragged pieces dealt round the ranks, an empty one among them. */
typedef struct big_array {
    float *memory;
    lks_piece pieces[MAX_PIECES];
    int piece_count;
} big_array;

static void fill_big(big_array *big, int rank, int size, int version) {
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

static lks_checkpoint_array big_description(const big_array *big) {
    return (lks_checkpoint_array){
        .path = "/model/big.weight",
        .dtype = LKS_F32,
        .shape = {.rank = 2, .dim = {BIG_ROWS, BIG_COLUMNS}},
        .pieces = big->pieces,
        .piece_count = big->piece_count,
    };
}

static lks_status save_big(const char *path, int version) {
    big_array big;
    fill_big(&big, mpi_check_rank(), mpi_check_size(), version);
    lks_checkpoint_array array = big_description(&big);
    lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    lks_status status = lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT);
    free(big.memory);
    return status;
}

/* Does the file hold this version, whole? Local. */
static bool holds_big(const char *path, int version) {
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

static void what_is_saved_comes_back_whole(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("a/b/run.h5"); /* its folders are made */
    MPI_CHECK(save_big(path, 1) == LKS_OK);
    MPI_CHECK(holds_big(path, 1));
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(save_big(path, 2) == LKS_OK);
    MPI_CHECK(holds_big(path, 2));
    MPI_CHECK(shared_folder_count("a/b") == 1); /* no temporary file stays */
    shared_folder_close((const char *const[]){"a", "a/b"}, 2);
    mpi_verdict();
}

static void any_part_can_be_read(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 3) == LKS_OK);

    /* Other pieces than those that were saved, in no order; both sides of the block boundary at
     * 2^20 elements; the same element twice. */
    enum { N = 7 };
    static const int64_t first[N] = {1048570, 0, BIG - 1, 1048576, 2097140, 77, BIG};
    static const int64_t count[N] = {12, 1, 1, 1, 900, 1048600, 0};
    float *values[N];
    lks_piece pieces[N];
    for (int i = 0; i < N; i++) {
        values[i] = calloc((size_t)count[i] + 1, sizeof(float));
        pieces[i] = (lks_piece){first[i], count[i], values[i]};
    }
    big_array part = {.piece_count = N};
    lks_checkpoint_array array = big_description(&part);
    array.pieces = pieces;
    lks_checkpoint *checkpoint = NULL;
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    MPI_CHECK(checkpoint && lks_checkpoint_read(checkpoint, &array) == LKS_OK);
    for (int i = 0; i < N; i++) {
        for (int64_t j = 0; j < count[i]; j++)
            MPI_CHECK(values[i][j] == expected_value(first[i] + j, 3));
        MPI_CHECK(values[i][count[i]] == 0); /* nothing is written behind the piece */
        free(values[i]);
    }
    lks_checkpoint_close(checkpoint);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* ---- small things: every dtype, scalars, nothing at all, attributes ---- */

typedef struct seen {
    char text[512];
} seen;

static lks_status note_array(void *data, const char *path, lks_dtype dtype,
                             const lks_shape *shape) {
    seen *s = data;
    char shape_text[LKS_SHAPE_TEXT_BYTES];
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s %s %s;", path, lks_dtype_name(dtype),
             lks_shape_text(shape, shape_text));
    return LKS_OK;
}

static double doubles[4] = {1.0 / 3, -0.0, INFINITY, 5e-324};
static int64_t integers[3] = {INT64_MIN, -1, INT64_MAX};
static int32_t words[2] = {INT32_MIN, 7};
static uint8_t byte = 200;
static float scalar = 0.1f;
static const double rates[2] = {0.1, 1.0 / 3};

/* Each array is one rank's alone, so that some ranks may have no pieces at all. */
static lks_status save_small(const char *path, int64_t step, const char *long_text) {
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

static void check_small_arrays(lks_checkpoint *checkpoint) {
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
    for (int k = 0; k < 6; k++)
        MPI_CHECK(lks_checkpoint_read(checkpoint, &arrays[k]) == LKS_OK);
    MPI_CHECK(memcmp(d, doubles, sizeof d) == 0);
    MPI_CHECK(memcmp(i, integers, sizeof i) == 0);
    MPI_CHECK(memcmp(w, words, sizeof w) == 0);
    MPI_CHECK(b == byte && f == scalar);
}

static void check_small_attrs(lks_checkpoint *checkpoint, const char *long_text) {
    int64_t step = 0;
    double values[2] = {0};
    int count = -1;
    char *text = NULL;
    MPI_CHECK(lks_checkpoint_get_i64(checkpoint, "/optimizer", "step", &step) == LKS_OK);
    MPI_CHECK(step == -5);
    MPI_CHECK(lks_checkpoint_get_i64(checkpoint, "/", "ranks_at_save", &step) == LKS_OK);
    MPI_CHECK(step == mpi_check_size());
    MPI_CHECK(lks_checkpoint_get_f64(checkpoint, "/scheduler/inner", "state", values, 2, &count) ==
              LKS_OK);
    MPI_CHECK(count == 2 && memcmp(values, rates, sizeof values) == 0);
    MPI_CHECK(lks_checkpoint_get_f64(checkpoint, "/scheduler", "one", values, 2, &count) == LKS_OK);
    MPI_CHECK(count == 1 && values[0] == rates[0]);
    MPI_CHECK(lks_checkpoint_get_f64(checkpoint, "/scheduler", "no", values, 2, &count) == LKS_OK);
    MPI_CHECK(count == 0);
    MPI_CHECK(lks_checkpoint_get_text(checkpoint, "/optimizer", "name", &text) == LKS_OK);
    MPI_CHECK(text && strcmp(text, "adamw \xc3\xa9") == 0);
    free(text);
    MPI_CHECK(lks_checkpoint_get_text(checkpoint, "/", "note", &text) == LKS_OK);
    MPI_CHECK(text && strcmp(text, "") == 0);
    free(text);
    MPI_CHECK(lks_checkpoint_get_text(checkpoint, "/config", "text", &text) == LKS_OK);
    MPI_CHECK(text && strcmp(text, long_text) == 0);
    free(text);
}

/* Missing things, and things of another kind. */
static void check_refusals(lks_checkpoint *checkpoint) {
    int64_t number;
    double values[2];
    int count;
    char *text = NULL;
    lks_shape shape;
    MPI_CHECK(lks_checkpoint_get_i64(checkpoint, "/optimizer", "steps", &number) ==
              LKS_ECHECKPOINT);
    MPI_CHECK(lks_checkpoint_get_i64(checkpoint, "/optimizers", "step", &number) ==
              LKS_ECHECKPOINT);
    MPI_CHECK(lks_checkpoint_get_i64(checkpoint, "/optimizer", "name", &number) == LKS_ECHECKPOINT);
    MPI_CHECK(lks_checkpoint_get_f64(checkpoint, "/scheduler/inner", "state", values, 1, &count) ==
              LKS_ECHECKPOINT);
    MPI_CHECK(lks_checkpoint_get_text(checkpoint, "/optimizer", "step", &text) == LKS_ECHECKPOINT);
    MPI_CHECK(!text);
    MPI_CHECK(lks_checkpoint_shape(checkpoint, "/model/absent", &shape) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "model/absent"));

    double d[4];
    lks_piece piece = {0, 4, d};
    lks_checkpoint_array array = {"/optimizer/exp_avg/z", LKS_F64, {2, {2, 2}}, &piece, 1};
    array.path = "/optimizer/exp_avg/y";
    MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_ECHECKPOINT);
    array.path = "/optimizer/exp_avg/z";
    array.shape = (lks_shape){2, {4, 1}};
    MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "float64 [2, 2], expected float64 [4, 1]"));
    array.shape = (lks_shape){2, {2, 2}};
    array.dtype = LKS_F32;
    MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "float64 [2, 2], expected float32 [2, 2]"));
    array.dtype = LKS_F64;
    piece.first = 1;
    MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_EINVAL);
}

static void small_things_come_back(void **state) {
    (void)state;
    shared_folder_open();
    char *long_text = malloc(LONG_TEXT + 1);
    if (!long_text) MPI_Abort(MPI_COMM_WORLD, 1);
    for (int i = 0; i < LONG_TEXT; i++)
        long_text[i] = (char)('a' + i % 26);
    long_text[LONG_TEXT] = '\0';

    const char *path = shared_path("small.h5");
    lks_checkpoint *checkpoint = NULL;
    MPI_CHECK(save_small(path, -5, long_text) == LKS_OK);
    MPI_REQUIRE(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    check_small_arrays(checkpoint);
    check_small_attrs(checkpoint, long_text);
    check_refusals(checkpoint);
    check_small_arrays(checkpoint); /* still readable after errors */

    seen s = {""};
    MPI_CHECK(lks_checkpoint_visit(checkpoint, note_array, &s) == LKS_OK);
    static const char expected[] =
        "/optimizer/exp_avg/z float64 [2, 2];/optimizer/exp_avg/a int64 [3];"
        "/sampler/words int32 [1, 2];/byte uint8 [1];/model/scalar float32 [];"
        "/model/none float32 [0, 5];/config/text uint8 [100000];";
    MPI_CHECK(strcmp(s.text, expected) == 0);
    lks_checkpoint_close(checkpoint);
    free(long_text);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Many arrays: the groups grow beyond their first blocks, and closing gives room back. Array i has
 * i elements, of which rank i % size has all. */
static void many_arrays_come_back(void **state) {
    (void)state;
    enum { MANY = 300 };
    shared_folder_open();
    char names[MANY][32], path[320];
    float values[MANY], found[MANY];
    lks_piece pieces[MANY];
    lks_checkpoint_array arrays[MANY];
    snprintf(path, sizeof path, "%s", shared_path("run.h5"));
    for (int i = 0; i < MANY; i++) {
        values[i] = (float)i;
        snprintf(names[i], sizeof names[i], "/model/%d.weight", i);
        pieces[i] = (lks_piece){0, i, values};
        arrays[i] = (lks_checkpoint_array){
            names[i], LKS_F32, {1, {i}}, &pieces[i], i % mpi_check_size() == mpi_check_rank()};
    }
    for (int count = 1; count <= MANY; count += count < 10 ? 3 : 70) {
        lks_checkpoint_content content = {arrays, count, NULL, 0};
        MPI_REQUIRE(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) ==
                    LKS_OK);
        lks_checkpoint *checkpoint = NULL;
        MPI_REQUIRE(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
        for (int i = 0; i < count; i++) {
            lks_piece piece = {0, i, found};
            lks_checkpoint_array array = arrays[i];
            array.pieces = &piece;
            array.piece_count = 1;
            MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_OK);
            MPI_CHECK(memcmp(found, values, (size_t)i * sizeof *found) == 0);
        }
        lks_checkpoint_close(checkpoint);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void a_checkpoint_may_be_empty(void **state) {
    (void)state;
    shared_folder_open();
    lks_checkpoint *checkpoint = NULL;
    lks_checkpoint_content nothing = {0};
    MPI_CHECK(lks_checkpoint_write(world, shared_path("run.h5"), &nothing,
                                   LKS_TRANSFER_INDEPENDENT) == LKS_OK);
    MPI_CHECK(lks_checkpoint_open(shared_path("run.h5"), &checkpoint) == LKS_OK);
    lks_checkpoint_close(checkpoint);
    lks_checkpoint_close(NULL);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* ---- failures: one verdict, the old file, no temporary file ---- */

/* The error names what it was about, on every rank. */
static bool says(const char *words) {
    return strstr(lks_last_error(), words) != NULL;
}

static void a_bad_place_is_an_error(void **state) {
    (void)state;
    shared_folder_open();
    const char *folder = shared_path("folder");
    if (mpi_check_rank() == 0) {
        MPI_CHECK(mkdir(folder, 0777) == 0);
        FILE *file = fopen(shared_path("file"), "w");
        MPI_CHECK(file && fclose(file) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(save_big(folder, 1) == LKS_EIO);
    MPI_CHECK(says(folder) && says("is a folder"));
    MPI_CHECK(save_big(shared_path("file/run.h5"), 1) == LKS_EIO);
    MPI_CHECK(says("run.h5 was not saved") && says("expected a folder"));
    MPI_CHECK(save_big(shared_path("file/deep/run.h5"), 1) == LKS_EIO);
    /* A folder that nobody may write to, root included. */
    MPI_CHECK(save_big("/proc/run.h5", 1) == LKS_EIO);
    MPI_CHECK(says("/proc/run.h5"));
    MPI_CHECK(save_big("/proc/deep/run.h5", 1) == LKS_EIO);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(shared_folder_count("") == 2 && shared_folder_count("folder") == 0);
    shared_folder_close((const char *const[]){"folder"}, 1);
    mpi_verdict();
}

static void wrong_pieces_are_refused_on_every_rank(void **state) {
    (void)state;
    shared_folder_open();
    int rank = mpi_check_rank(), last = mpi_check_size() - 1;
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);

    float values[8] = {0};
    lks_piece piece = {0, rank == last ? 8 : 0, values};
    lks_checkpoint_array array = {"/model/w", LKS_F32, {1, {8}}, &piece, 1};
    lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    if (rank == last) piece.first = 1;
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_EINVAL);
    MPI_CHECK(says("/model/w") && says("8 elements from 1"));
    if (last > 0 && rank != last) {
        char culprit[32];
        snprintf(culprit, sizeof culprit, "rank %d: ", last);
        MPI_CHECK(says(culprit));
    }
    piece = (lks_piece){0, rank == last ? 7 : 0, values};
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_EINVAL);
    MPI_CHECK(says("have 7 elements, expected 8"));
    piece = (lks_piece){0, rank == last ? 8 : 0, NULL};
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_EINVAL);
    array.dtype = LKS_BF16;
    piece.data = values;
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_EINVAL);
    array.dtype = LKS_F32;
    lks_checkpoint_array twice[2] = {array, array};
    content = (lks_checkpoint_content){.arrays = twice, .array_count = 2};
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_EIO);

    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(holds_big(path, 1));
    MPI_CHECK(shared_folder_count("") == 1);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void a_full_disk_is_found_before_the_data(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);

    if (mpi_check_rank() == 0) full_disk_after(-1, true);
    MPI_CHECK(save_big(path, 2) == LKS_EIO);
    MPI_CHECK(says("run.h5 was not saved") && says("cannot reserve") && says("No space left"));
    MPI_CHECK(holds_big(path, 1));
    MPI_CHECK(shared_folder_count("") == 1);
    full_disk_after(-1, false);

    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Does the file hold that step, whole? Local. */
static bool holds_small(const char *path, int64_t expected) {
    lks_checkpoint *checkpoint = NULL;
    int64_t step = 0;
    if (lks_checkpoint_open(path, &checkpoint)) return false;
    check_small_arrays(checkpoint);
    lks_status status = lks_checkpoint_get_i64(checkpoint, "/optimizer", "step", &step);
    lks_checkpoint_close(checkpoint);
    return !status && step == expected;
}

/* The culprit's writes fail, one more of them succeeding each time until all do: a save never
 * hangs, fails on every rank or on none, and never harms the checkpoint that was there. Returns how
 * many saves failed. */
static int sweep_failing_writes(const char *path, int culprit) {
    int failed = 0;
    for (lks_status status = LKS_EIO; status && failed < 100; failed++) {
        if (mpi_check_rank() == culprit) full_disk_after(failed, false);
        status = save_small(path, 2, "short");
        int failures = full_disk_failures();
        full_disk_after(-1, false);
        MPI_Bcast(&failures, 1, MPI_INT, culprit, MPI_COMM_WORLD);
        MPI_CHECK(status == (failures > 0 ? LKS_EIO : LKS_OK));
        MPI_CHECK(!status || says("No space left"));
        MPI_CHECK(shared_folder_count("") == 1);
        MPI_CHECK(holds_small(path, status ? 1 : 2));
        MPI_Barrier(MPI_COMM_WORLD);
    }
    return failed - 1;
}

static void no_failing_write_harms_the_old_checkpoint(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    int last = mpi_check_size() - 1;
    for (int culprit = 0; culprit <= last; culprit += last > 0 ? last : 1) {
        MPI_REQUIRE(save_small(path, 1, "short") == LKS_OK);
        int failed = sweep_failing_writes(path, culprit);
        MPI_CHECK(failed > 0 && failed < 99);
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_comes_back_whole),
        cmocka_unit_test(any_part_can_be_read),
        cmocka_unit_test(small_things_come_back),
        cmocka_unit_test(many_arrays_come_back),
        cmocka_unit_test(a_checkpoint_may_be_empty),
        cmocka_unit_test(a_bad_place_is_an_error),
        cmocka_unit_test(wrong_pieces_are_refused_on_every_rank),
        cmocka_unit_test(a_full_disk_is_found_before_the_data),
        cmocka_unit_test(no_failing_write_harms_the_old_checkpoint),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
