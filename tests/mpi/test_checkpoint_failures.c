/* Saves that fail: one verdict on every rank, the old file, no temporary file. */
#include <sys/stat.h>

#include "checkpoint_case.h"
#include "full_disk.h"

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
    MPI_CHECK(says("run.h5 was not saved") && says("a file of that name stands there"));
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

/* More than one window of a file of 4 ranks (save.c). */
static lks_status save_large(const char *path) {
    enum { COUNT = 34 << 20 };
    int64_t begin, end;
    lks_split(COUNT, mpi_check_rank(), mpi_check_size(), &begin, &end);
    float *data = calloc((size_t)(end - begin), sizeof *data);
    MPI_REQUIRE(data != NULL);
    const lks_piece piece = {begin, end - begin, data};
    const lks_checkpoint_array array = {"/model/w", LKS_F32, {1, {COUNT}}, &piece, 1};
    const lks_checkpoint_content content = {.arrays = &array, .array_count = 1};
    lks_status status = lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT);
    free(data);
    return status;
}

/* Who waits for one window's data hears of it, and nobody behind. */
static void a_disk_that_fails_between_two_windows_is_found(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    const bool is_culprit = mpi_check_rank() == mpi_check_size() - 1;
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);
    full_disk_breaks(is_culprit);
    MPI_CHECK(save_large(path) == LKS_EIO);
    MPI_CHECK(full_disk_failures() == is_culprit);
    full_disk_breaks(false);
    MPI_CHECK(says("run.h5 was not saved") && says("durable: Input/output error"));
    MPI_CHECK(holds_big(path, 1));
    MPI_CHECK(shared_folder_count("") == 1);
    shared_folder_close(NULL, 0);
    mpi_verdict();
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

/* MPI-IO may lose what a full disk refused without an error; no such file becomes a checkpoint. */
static void what_collective_transfers_lose_is_found(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);
    full_disk_loses(true); /* on every rank: which of them MPI-IO lets write is its own choice */
    MPI_CHECK(save_big_by(LKS_TRANSFER_COLLECTIVE, path, 2) == LKS_EIO);
    int lost = full_disk_failures();
    full_disk_loses(false);
    MPI_Allreduce(MPI_IN_PLACE, &lost, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_CHECK(lost > 0);
    MPI_CHECK(says("run.h5 was not saved") && says("the file system lost data"));
    MPI_CHECK(holds_big(path, 1));
    MPI_CHECK(shared_folder_count("") == 1);
    shared_folder_close(NULL, 0);
    mpi_verdict();
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
        cmocka_unit_test(a_bad_place_is_an_error),
        cmocka_unit_test(wrong_pieces_are_refused_on_every_rank),
        cmocka_unit_test(a_full_disk_is_found_before_the_data),
        cmocka_unit_test(a_disk_that_fails_between_two_windows_is_found),
        cmocka_unit_test(what_collective_transfers_lose_is_found),
        cmocka_unit_test(no_failing_write_harms_the_old_checkpoint),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
