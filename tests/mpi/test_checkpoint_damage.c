/* Files that are no whole checkpoint: each is refused, and nothing wrong is ever read without an
 * error. One rank: reading is local. */
#include <fcntl.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/trailer.h"
#include "checkpoint_folder.h"
#include "h5/h5.h"

static bool says(const char *words) {
    return strstr(lks_last_error(), words) != NULL;
}

/* ---- a small checkpoint with some of everything ---- */

static float weights[60];
static double moments[5] = {1, -2, 3.5, 0, 1e300};
static const double rates[3] = {0.1, 0.2, 0.3};
static const char *const note = "the note of this run";

static lks_status save_small(const char *path) {
    for (int i = 0; i < 60; i++)
        weights[i] = (float)i + 0.25f;
    const lks_piece pieces[] = {{0, 60, weights}, {0, 5, moments}};
    lks_checkpoint_array arrays[] = {
        {"/model/fc.weight", LKS_F32, {2, {6, 10}}, &pieces[0], 1},
        {"/optimizer/sum/fc.weight", LKS_F64, {1, {5}}, &pieces[1], 1},
    };
    lks_checkpoint_attr attrs[] = {
        {.path = "/", .name = "note", .kind = LKS_ATTR_TEXT, .text = note},
        {.path = "/optimizer", .name = "step", .kind = LKS_ATTR_I64, .i64 = 123456789},
        {.path = "/scheduler", .name = "state", .kind = LKS_ATTR_F64, .f64 = rates, .count = 3},
    };
    return lks_checkpoint_write(world, path, &(lks_checkpoint_content){arrays, 2, attrs, 3},
                                LKS_TRANSFER_INDEPENDENT);
}

/* Reads all of it: LKS_OK only when everything is what was saved; LKS_EINTERNAL for wrong content
 * that was read without an error. */
static lks_status read_small(lks_checkpoint *checkpoint) {
    float w[60] = {0};
    double m[5] = {0}, r[3] = {0};
    const lks_piece pieces[] = {{0, 60, w}, {0, 5, m}};
    lks_checkpoint_array arrays[] = {
        {"/model/fc.weight", LKS_F32, {2, {6, 10}}, &pieces[0], 1},
        {"/optimizer/sum/fc.weight", LKS_F64, {1, {5}}, &pieces[1], 1},
    };
    int64_t step = 0;
    int count = 0;
    char *text = NULL;
    lks_status status = lks_checkpoint_read(checkpoint, &arrays[0]);
    if (!status) status = lks_checkpoint_read(checkpoint, &arrays[1]);
    if (!status) status = lks_checkpoint_get_i64(checkpoint, "/optimizer", "step", &step);
    if (!status) status = lks_checkpoint_get_f64(checkpoint, "/scheduler", "state", r, 3, &count);
    if (!status) status = lks_checkpoint_get_text(checkpoint, "/", "note", &text);
    if (!status && (memcmp(w, weights, sizeof w) != 0 || memcmp(m, moments, sizeof m) != 0 ||
                    memcmp(r, rates, sizeof r) != 0 || count != 3 || step != 123456789 ||
                    strcmp(text, note) != 0))
        status = LKS_EINTERNAL;
    free(text);
    return status;
}

static lks_status open_and_read(const char *path) {
    lks_checkpoint *checkpoint = NULL;
    lks_status status = lks_checkpoint_open(path, &checkpoint);
    if (!status) status = read_small(checkpoint);
    lks_checkpoint_close(checkpoint);
    return status;
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

static void no_flipped_byte_is_read_silently(void **state) {
    (void)state;
    shared_folder_open();
    char path[320];
    snprintf(path, sizeof path, "%s", shared_path("run.h5"));
    MPI_REQUIRE(save_small(path) == LKS_OK);
    MPI_REQUIRE(open_and_read(path) == LKS_OK);
    int64_t count = size_of(path);
    for (int64_t i = 0; i < count; i += 5) { /* every fifth, to be quick */
        uint8_t mask = i % 3 ? (uint8_t)(1 << i % 8) : 0xff;
        flip(path, i, mask);
        MPI_CHECK(open_and_read(path) == LKS_ECHECKPOINT);
        MPI_CHECK(says(path));
        flip(path, i, mask);
    }
    MPI_CHECK(count > 1000 && open_and_read(path) == LKS_OK);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void no_cut_file_is_opened(void **state) {
    (void)state;
    shared_folder_open();
    char path[320];
    snprintf(path, sizeof path, "%s", shared_path("run.h5"));
    MPI_REQUIRE(save_small(path) == LKS_OK);
    lks_checkpoint *checkpoint = NULL;
    for (int64_t count = size_of(path) - 1; count >= 0; count -= 3) {
        MPI_CHECK(truncate(path, count) == 0);
        MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_ECHECKPOINT);
        MPI_CHECK(says(path));
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
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
        cmocka_unit_test(no_flipped_byte_is_read_silently),
        cmocka_unit_test(no_cut_file_is_opened),
        cmocka_unit_test(a_damaged_block_is_named_and_the_others_are_read),
        cmocka_unit_test(other_files_are_refused),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
