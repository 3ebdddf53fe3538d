/* Files that are no whole checkpoint: what is said of them. That no damage is overlooked is
 * tests/fault/test_damage.c's to show. One rank: reading is local. */
#include <fcntl.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/trailer.h"
#include "checkpoint_folder.h"
#include "h5/h5.h"

static bool says(const char *words) {
    return strstr(lks_last_error(), words) != NULL;
}

static int64_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)info.st_size : -1;
}

/* Changes a byte of the file; the same again changes it back. */
static void flip(const char *path, int64_t offset, uint8_t mask) {
    int descriptor = open(path, O_RDWR);
    uint8_t byte = 0;
    MPI_CHECK(descriptor >= 0 && pread(descriptor, &byte, 1, offset) == 1);
    byte ^= mask;
    MPI_CHECK(pwrite(descriptor, &byte, 1, offset) == 1 && close(descriptor) == 0);
}

static void write_file(const char *path, const void *data, size_t count) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, count, file) != count || fclose(file) != 0)
        MPI_Abort(MPI_COMM_WORLD, 1);
}

/* ---- damage in a large array is found block by block ---- */

enum { BLOCK = 1 << 20, BIG = 2 * BLOCK + 1000 }; /* elements of float32: 4 MiB a block */

static lks_status read_part(lks_checkpoint *checkpoint, int64_t first, int64_t count,
                            float *values) {
    lks_piece piece = {first, count, values};
    lks_checkpoint_array array = {"/model/big", LKS_F32, {1, {BIG}}, &piece, 1};
    return lks_checkpoint_read(checkpoint, &array);
}

static int64_t offset_of(const char *path, const char *array_path) {
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    MPI_REQUIRE(lks_h5_open(path, &file) == LKS_OK);
    MPI_REQUIRE(lks_h5_open_array(file, array_path, &array) == LKS_OK);
    int64_t offset = lks_h5_array_file_offset(array);
    lks_h5_close_array(array);
    lks_h5_close(file);
    return offset;
}

static void a_damaged_block_is_named_and_the_others_are_read(void **state) {
    (void)state;
    shared_folder_open();
    char path[320];
    snprintf(path, sizeof path, "%s", shared_path("run.h5"));
    float *values = calloc(BIG, sizeof *values);
    if (!values) MPI_Abort(MPI_COMM_WORLD, 1);
    lks_piece piece = {0, BIG, values};
    lks_checkpoint_array array = {"/model/big", LKS_F32, {1, {BIG}}, &piece, 1};
    MPI_REQUIRE(lks_checkpoint_write(world, path, &(lks_checkpoint_content){&array, 1, NULL, 0},
                                     LKS_TRANSFER_INDEPENDENT) == LKS_OK);
    int64_t data = offset_of(path, "/model/big");
    flip(path, data + 4 * (int64_t)(BLOCK + 7), 0x10);

    lks_checkpoint *checkpoint = NULL;
    MPI_REQUIRE(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    MPI_CHECK(read_part(checkpoint, 0, BIG, values) == LKS_ECHECKPOINT);
    MPI_CHECK(says("/model/big") && says("block 1 of 3") && says("1048576 to 2097151"));
    MPI_CHECK(read_part(checkpoint, BLOCK, 1, values) == LKS_ECHECKPOINT); /* in part, too */
    MPI_CHECK(read_part(checkpoint, 0, BLOCK, values) == LKS_OK);
    MPI_CHECK(read_part(checkpoint, 2 * BLOCK, 1000, values) == LKS_OK);
    lks_checkpoint_close(checkpoint);

    flip(path, data + 4 * (int64_t)(BLOCK + 7), 0x10); /* whole again */
    MPI_REQUIRE(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    MPI_CHECK(read_part(checkpoint, 0, BIG, values) == LKS_OK);
    lks_checkpoint_close(checkpoint);
    flip(path, offset_of(path, "/integrity/model/big") + 16, 1);
    checkpoint = NULL;
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("trailer"));
    MPI_CHECK(!checkpoint);
    free(values);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* ---- HDF5 files that are something else ---- */

/* A trailer that vouches for all of the file. */
static void seal(const char *path) {
    const lks_span all = {0, size_of(path)};
    int descriptor = open(path, O_RDWR);
    MPI_CHECK(descriptor >= 0);
    MPI_CHECK(lks_trailer_write(descriptor, &all, 1, descriptor, path, all.end) == LKS_OK);
    close(descriptor);
}

/* A file with the root attributes that are given; NULL and negative ones are left out. */
static void write_root(const char *path, const char *format, int64_t version, int64_t complete) {
    lks_h5_file *file = NULL;
    MPI_REQUIRE(lks_h5_create(path, &file) == LKS_OK);
    if (format) MPI_CHECK(lks_h5_write_attr_text(file, "/", "format", format) == LKS_OK);
    if (version >= 0)
        MPI_CHECK(lks_h5_write_attr_i64(file, "/", "format_version", version) == LKS_OK);
    if (complete >= 0) MPI_CHECK(lks_h5_write_attr_i64(file, "/", "complete", complete) == LKS_OK);
    MPI_CHECK(lks_h5_close(file) == LKS_OK);
    seal(path);
}

static void other_files_are_refused(void **state) {
    (void)state;
    shared_folder_open();
    char path[320];
    snprintf(path, sizeof path, "%s", shared_path("run.h5"));
    lks_checkpoint *checkpoint = NULL;
    const char *ours = "lockstep-checkpoint";
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_EIO && says("No such file"));
    MPI_CHECK(lks_checkpoint_open(shared_folder, &checkpoint) == LKS_EIO);
    write_file(path, "epoch: 3\n", 9);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("not an HDF5"));
    write_root(path, NULL, 1, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("no checkpoint"));
    write_root(path, "keras", 1, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("'keras'"));
    write_root(path, ours, -1, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("format_version"));
    write_root(path, ours, 2, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT);
    MPI_CHECK(says("version 2") && says("newer Lockstep"));
    write_root(path, ours, 0, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT);
    write_root(path, ours, 1, 0);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("incomplete"));
    write_root(path, ours, 1, -1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("incomplete"));
    MPI_CHECK(!checkpoint);
    write_root(path, ours, 1, 1);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    lks_checkpoint_close(checkpoint);
    MPI_CHECK(truncate(path, size_of(path) - 1) == 0); /* all is said, but nothing proves it */
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT && says("trailer"));
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_block_is_named_and_the_others_are_read),
        cmocka_unit_test(other_files_are_refused),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
