/* HDF5 files that all ranks write together: laid out collectively, each rank its own ranges, errors
 * the same on every rank. */
#include "mpi/mpi_check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "comm/comm.h"
#include "h5/h5.h"

static lks_comm *comm;
static char folder[64];

/* The same folder for all ranks, made by rank 0. */
static int open_world(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/lockstep-test-XXXXXX");
    if (mpi_check_rank() == 0 && mkdtemp(folder) == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
    return lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK ? 0 : -1;
}

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void remove_file(const char *name) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) unlink(path_of(name));
}

/* Element i of every array is i; each rank writes its part, in the order of no other rank. */
static void write_parts(lks_h5_array *array, int64_t count, float *values) {
    int64_t begin = 0, end = 0;
    lks_split(count, mpi_check_rank(), mpi_check_size(), &begin, &end);
    for (int64_t i = begin; i < end; i++)
        values[i] = (float)i;
    MPI_CHECK(lks_h5_write(array, begin, end - begin, LKS_F32, values + begin) == LKS_OK);
}

static void all_ranks_write_one_file(void **state) {
    (void)state;
    enum { ARRAYS = 12 };
    static float values[ARRAYS * 7 * 5];
    lks_h5_file *file = NULL;
    lks_h5_array *arrays[ARRAYS] = {0};
    MPI_REQUIRE(lks_h5_create_parallel(path_of("all.h5"), comm, &file) == LKS_OK);
    MPI_CHECK(lks_h5_create_group(file, "model") == LKS_OK);
    for (int a = 0; a < ARRAYS; a++) {
        /* a == 0: no element at all; the small ones leave ranks without a part */
        char name[32];
        snprintf(name, sizeof name, "model/layer%d.weight", a);
        MPI_REQUIRE(lks_h5_create_array(file, name, LKS_F32, &(lks_shape){3, {a, 7, 5}},
                                        &arrays[a]) == LKS_OK);
        MPI_CHECK(a == 0 || lks_h5_array_file_offset(arrays[a]) > 0);
    }
    MPI_CHECK(lks_h5_write_attr_i64(file, "/", "ranks", mpi_check_size()) == LKS_OK);
    MPI_CHECK(lks_h5_write_attr_text(file, "model", "note", "→") == LKS_OK);
    MPI_CHECK(lks_h5_write_attr_f64(file, "model", "lr", &(double){0.1}, 1) == LKS_OK);
    for (int a = ARRAYS - 1; a >= 0; a--) {
        write_parts(arrays[a], a * 7 * 5, values);
        lks_h5_close_array(arrays[a]);
    }
    MPI_CHECK(lks_h5_flush(file) == LKS_OK);
    MPI_CHECK(lks_h5_write_attr_i64(file, "/", "complete", 1) == LKS_OK);
    MPI_REQUIRE(lks_h5_close(file) == LKS_OK);
    mpi_verdict();
}

/* Every rank reads all of it, alone. */
static void every_rank_reads_it(void **state) {
    (void)state;
    static float values[11 * 7 * 5];
    lks_h5_file *file = NULL;
    MPI_REQUIRE(lks_h5_open(path_of("all.h5"), &file) == LKS_OK);
    for (int a = 0; a < 12; a++) {
        char name[32];
        lks_h5_array *array = NULL;
        snprintf(name, sizeof name, "model/layer%d.weight", a);
        MPI_REQUIRE(lks_h5_open_array(file, name, &array) == LKS_OK);
        MPI_CHECK(lks_h5_read(array, 0, a * 7 * 5, LKS_F32, values) == LKS_OK);
        for (int i = 0; i < a * 7 * 5; i++)
            MPI_CHECK(values[i] == (float)i);
        lks_h5_close_array(array);
    }
    int64_t ranks = 0, complete = 0;
    char *note = NULL;
    MPI_CHECK(lks_h5_read_attr_i64(file, "/", "ranks", &ranks) == LKS_OK);
    MPI_CHECK(ranks == mpi_check_size());
    MPI_CHECK(lks_h5_read_attr_i64(file, "/", "complete", &complete) == LKS_OK && complete == 1);
    MPI_CHECK(lks_h5_read_attr_text(file, "model", "note", &note) == LKS_OK);
    MPI_CHECK(note != NULL && strcmp(note, "→") == 0);
    free(note);
    lks_h5_array *absent = NULL;
    MPI_CHECK(lks_h5_open_array(file, "absent", &absent) == LKS_EDATA);
    MPI_CHECK(strstr(lks_last_error(), "arrays: model/layer0.weight, model/layer1.weight") != NULL);
    MPI_CHECK(lks_h5_close(file) == LKS_OK);
    remove_file("all.h5");
    mpi_verdict();
}

/* The bytes at an array's offset are its elements: preallocation and hashing rely on it. */
static void the_offset_is_where_the_elements_are(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    static float values[COUNT];
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    MPI_REQUIRE(lks_h5_create_parallel(path_of("offset.h5"), comm, &file) == LKS_OK);
    MPI_REQUIRE(lks_h5_create_array(file, "a/b", LKS_F32, &(lks_shape){2, {10, 100}}, &array) ==
                LKS_OK);
    int64_t offset = lks_h5_array_file_offset(array);
    write_parts(array, COUNT, values);
    lks_h5_close_array(array);
    MPI_REQUIRE(lks_h5_close(file) == LKS_OK);

    int descriptor = open(path_of("offset.h5"), O_RDONLY);
    MPI_REQUIRE(descriptor >= 0);
    MPI_CHECK(pread(descriptor, values, sizeof values, offset) == (ssize_t)sizeof values);
    for (int i = 0; i < COUNT; i++)
        MPI_CHECK(values[i] == (float)i);
    close(descriptor);
    remove_file("offset.h5");
    mpi_verdict();
}

static void creating_in_no_folder_fails_on_all(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    MPI_CHECK(lks_h5_create_parallel(path_of("no/such.h5"), comm, &file) == LKS_EIO);
    MPI_CHECK(strstr(lks_last_error(), "no/such.h5: No such file or directory") != NULL);
    MPI_CHECK(file == NULL);
    mpi_verdict();
}

/* Calls that fail alike on every rank leave a file that goes on working. */
static void wrong_calls_fail_on_all(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL, *second = NULL;
    const lks_shape shape = {1, {4}};
    MPI_REQUIRE(lks_h5_create_parallel(path_of("wrong.h5"), comm, &file) == LKS_OK);
    MPI_REQUIRE(lks_h5_create_array(file, "x", LKS_F32, &shape, &array) == LKS_OK);
    MPI_CHECK(lks_h5_create_array(file, "x", LKS_F32, &shape, &second) == LKS_EIO);
    MPI_CHECK(strstr(lks_last_error(), "wrong.h5: cannot create the array x") != NULL);
    MPI_CHECK(lks_h5_create_array(file, "y", LKS_BF16, &shape, &second) == LKS_EINVAL);
    MPI_CHECK(second == NULL);
    MPI_CHECK(lks_h5_write_attr_i64(file, "absent", "a", 1) == LKS_EDATA);
    MPI_CHECK(lks_h5_write(array, 2, 3, LKS_F32, &(float[3]){0}) == LKS_EINVAL);
    float values[4];
    write_parts(array, 4, values);
    lks_h5_close_array(array);
    MPI_CHECK(lks_h5_close(file) == LKS_OK);
    remove_file("wrong.h5");
    mpi_verdict();
}

/* One rank alone cannot allocate its handle or gives another name: the others hear of it instead of
 * waiting. Here the last rank asks for a type that cannot be stored. */
static void one_failing_rank_is_heard_by_all(void **state) {
    (void)state;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    bool fails = mpi_check_rank() == mpi_check_size() - 1;
    MPI_REQUIRE(lks_h5_create_parallel(path_of("one.h5"), comm, &file) == LKS_OK);
    MPI_CHECK(lks_h5_create_array(file, "x", fails ? LKS_BF16 : LKS_F32, &(lks_shape){1, {4}},
                                  &array) == LKS_EINVAL);
    MPI_CHECK(strstr(lks_last_error(), "bfloat16") != NULL);
    MPI_CHECK(array == NULL);
    MPI_CHECK(lks_h5_flush(file) == LKS_OK);
    MPI_CHECK(lks_h5_close(file) == LKS_OK);
    remove_file("one.h5");
    mpi_verdict();
}

static void close_world(void **state) {
    (void)state;
    lks_comm_destroy(comm);
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) MPI_CHECK(rmdir(folder) == 0);
    mpi_verdict();
}

static void world_is_open(void **state) {
    MPI_REQUIRE(open_world(state) == 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(world_is_open),
        cmocka_unit_test(all_ranks_write_one_file),
        cmocka_unit_test(every_rank_reads_it),
        cmocka_unit_test(the_offset_is_where_the_elements_are),
        cmocka_unit_test(creating_in_no_folder_fails_on_all),
        cmocka_unit_test(wrong_calls_fail_on_all),
        cmocka_unit_test(one_failing_rank_is_heard_by_all),
        cmocka_unit_test(close_world),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
