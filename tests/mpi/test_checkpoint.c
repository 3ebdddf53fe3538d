/* Saving with any number of ranks and restoring whole arrays or any part of them. */
#include "checkpoint_case.h"

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

static void collective_transfers_save_the_same(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_CHECK(save_big_by(LKS_TRANSFER_COLLECTIVE, path, 4) == LKS_OK);
    MPI_CHECK(holds_big(path, 4));
    MPI_CHECK(lks_checkpoint_verify(path, NULL) == LKS_OK);
    MPI_CHECK(shared_folder_count("") == 1);
    MPI_Barrier(MPI_COMM_WORLD);
    lks_checkpoint_content nothing = {0};
    MPI_CHECK(lks_checkpoint_write(world, path, &nothing, LKS_TRANSFER_COLLECTIVE) == LKS_OK);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Enough for several windows at 4 ranks, with pieces and blocks that end on both sides of them. */
static void a_large_array_is_saved_window_by_window(void **state) {
    (void)state;
    enum { PIECE = 650001, PIECES = 57 }; /* 141 MiB */
    shared_folder_open();
    const char *path = shared_path("run.h5");
    float *pattern = malloc(PIECE * sizeof *pattern);
    lks_piece mine[PIECES];
    int count = 0;
    for (int i = 0; i < PIECE; i++)
        pattern[i] = expected_value(i, 5);
    for (int i = mpi_check_rank(); i < PIECES; i += mpi_check_size())
        mine[count++] = (lks_piece){(int64_t)i * PIECE, PIECE, pattern};
    lks_checkpoint_array array = {"/model/w", LKS_F32, {1, {PIECE * PIECES}}, mine, count};
    lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_OK);

    float *read = malloc(PIECE * sizeof *read);
    lks_checkpoint *checkpoint = NULL;
    MPI_REQUIRE(pattern && read && lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    for (int i = mpi_check_rank(); i < PIECES; i += mpi_check_size()) {
        lks_piece piece = {(int64_t)i * PIECE, PIECE, read};
        array.pieces = &piece, array.piece_count = 1;
        MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_OK);
        MPI_CHECK(memcmp(read, pattern, PIECE * sizeof *read) == 0);
    }
    lks_checkpoint_close(checkpoint);
    free(read);
    free(pattern);
    shared_folder_close(NULL, 0);
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

/* ---- memory ---- */

/* A line of /proc/self/status in KiB; -1 where there is none. */
static int64_t status_line(const char *name) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    long long value = -1;
    size_t length = strlen(name);
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0) value = atoll(line + length);
    if (file) fclose(file);
    return value;
}

/* The most that this process has held starts anew from what it holds now. */
static bool forget_peak(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    return file && fputs("5", file) >= 0 && fclose(file) == 0;
}

static void a_save_holds_one_block_besides_the_data(void **state) {
    (void)state;
    enum { COUNT = 6 << 20, BLOCK_KIB = 4 << 10, SLACK_KIB = 2 << 10 }; /* 24 MiB a rank */
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_CHECK(save_big(path, 1) == LKS_OK); /* what HDF5 and MPI keep for good */
    int rank = mpi_check_rank(), size = mpi_check_size();
    float *values = malloc(COUNT * sizeof *values);
    MPI_REQUIRE(values);
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)i;
    lks_piece piece = {(int64_t)rank * COUNT, COUNT, values};
    lks_checkpoint_array array = {"/model/w", LKS_F32, {2, {size, COUNT}}, &piece, 1};
    lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    bool measured = forget_peak();
    int64_t before = status_line("VmRSS:");
    MPI_CHECK(lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT) == LKS_OK);
    int64_t extra = status_line("VmHWM:") - before;
    MPI_CHECK(!measured || extra <= BLOCK_KIB + SLACK_KIB);
    free(values);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_comes_back_whole),
        cmocka_unit_test(collective_transfers_save_the_same),
        cmocka_unit_test(a_large_array_is_saved_window_by_window),
        cmocka_unit_test(any_part_can_be_read),
        cmocka_unit_test(small_things_come_back),
        cmocka_unit_test(many_arrays_come_back),
        cmocka_unit_test(a_checkpoint_may_be_empty),
        cmocka_unit_test(a_save_holds_one_block_besides_the_data),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
