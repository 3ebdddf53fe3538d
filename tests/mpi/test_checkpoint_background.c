/* Saving in the background: the same file as saving at once, the same verdicts, and nothing left
 * behind, wherever it ends. */
#include <sched.h>

#include "checkpoint_case.h"
#include "full_disk.h"

/* A save of the big array under way; its description is gone by now, its data is not. */
typedef struct saving {
    big_array big;
    lks_save *save;
} saving;

static void start_big(const char *path, int version, saving *out) {
    fill_big(&out->big, mpi_check_rank(), mpi_check_size(), version);
    char name[] = "/model/big.weight";
    lks_checkpoint_array array = big_description(&out->big);
    array.path = name;
    char group[] = "/optimizer", key[] = "step";
    lks_checkpoint_attr attr = {.path = group, .name = key, .kind = LKS_ATTR_I64, .i64 = version};
    lks_checkpoint_content content = {&array, 1, &attr, 1};
    MPI_REQUIRE(lks_save_create(world, &out->save) == LKS_OK);
    lks_save_start(out->save, path, &content, NULL, LKS_OK);
    /* All that describes the data may go. */
    memset(name, 'x', sizeof name - 1);
    memset(group, 'x', sizeof group - 1);
    memset(out->big.pieces, 0xee, sizeof out->big.pieces);
}

static void close_saving(saving *s) {
    lks_save_destroy(s->save);
    free(s->big.memory);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Four phases, and among several ranks the exchanges behind the first and the third of them. */
static int advances_of_a_save(void) {
    return mpi_check_size() > 1 ? 6 : 4;
}

static void wait_until_ready(const lks_save *save) {
    while (!lks_save_ready(save))
        sched_yield();
}

static void a_background_save_ends_as_a_checkpoint(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    for (int version = 1; version <= 2; version++) {
        saving s;
        start_big(path, version, &s);
        bool done = false;
        int advances = 0;
        for (; !done && advances < 10; advances++) {
            /* The old one and the temporary one; the last phase puts this in its place. */
            MPI_CHECK(advances == 0 || advances == advances_of_a_save() - 1 ||
                      shared_folder_count("") == version);
            MPI_Barrier(MPI_COMM_WORLD);
            if (version == 1) { /* else advance waits, and all agree */
                wait_until_ready(s.save);
                MPI_Barrier(MPI_COMM_WORLD);
            }
            MPI_CHECK(lks_save_is_open(s.save) && !lks_save_has_failed(s.save));
            MPI_CHECK(lks_save_advance(s.save, version == 1, &done) == LKS_OK);
        }
        MPI_CHECK(done && advances == advances_of_a_save() && lks_save_ready(s.save));
        MPI_CHECK(lks_save_finish(s.save) == LKS_OK && !lks_save_is_open(s.save));
        MPI_CHECK(holds_big(path, version));
        MPI_CHECK(shared_folder_count("") == 1);
        MPI_CHECK(lks_save_finish(s.save) == LKS_OK); /* nothing is left to do */
        close_saving(&s);
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void finish_waits_for_all_that_is_left(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    for (int advances = 0; advances < advances_of_a_save(); advances++) {
        saving s;
        bool done;
        start_big(path, advances, &s);
        for (int i = 0; i < advances; i++)
            MPI_CHECK(lks_save_advance(s.save, false, &done) == LKS_OK && !done);
        MPI_CHECK(lks_save_finish(s.save) == LKS_OK);
        MPI_CHECK(holds_big(path, advances));
        close_saving(&s);
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void an_abandoned_save_leaves_the_old_checkpoint(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);
    for (int advances = 0; advances < advances_of_a_save(); advances++) {
        saving s;
        bool done;
        start_big(path, 1, &s);
        for (int i = 0; i < advances; i++)
            MPI_CHECK(lks_save_advance(s.save, false, &done) == LKS_OK && !done);
        lks_save_abandon(s.save); /* after the last advance it may have been published */
        MPI_CHECK(!lks_save_is_open(s.save) && lks_save_ready(s.save));
        close_saving(&s);
        MPI_CHECK(shared_folder_count("") == 1);
        MPI_CHECK(holds_big(path, 1));
        MPI_Barrier(MPI_COMM_WORLD);
    }
    lks_save_abandon(NULL);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void a_save_that_cannot_start_says_so_on_every_rank(void **state) {
    (void)state;
    shared_folder_open();
    saving s;
    bool done = false;
    start_big("/proc/run.h5", 1, &s);
    MPI_CHECK(lks_save_advance(s.save, false, &done) == LKS_EIO && done);
    MPI_CHECK(says("/proc/run.h5 was not saved"));
    MPI_CHECK(lks_save_finish(s.save) == LKS_EIO);
    close_saving(&s);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Of one rank: its data did not come into being, or it could not even begin. */
static void a_save_without_its_data_fails_on_every_rank(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    const bool culprit = mpi_check_rank() == mpi_check_size() - 1;
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);
    for (int before = 0; before < 2; before++) {
        saving s;
        bool done = false;
        start_big(path, 2, &s);
        if (culprit && before) {
            lks_save_abandon(s.save);
            lks_save_start(s.save, path, NULL, NULL, lks_fail(LKS_EDEVICE, "no data"));
        } else if (culprit) {
            lks_save_fail(s.save, lks_fail(LKS_EDEVICE, "no data"));
        }
        MPI_CHECK(!culprit || lks_save_has_failed(s.save));
        MPI_CHECK(lks_save_advance(s.save, false, &done) == LKS_EDEVICE && done);
        MPI_CHECK(says("no data") && says("run.h5 was not saved"));
        MPI_CHECK(lks_save_finish(s.save) == LKS_EDEVICE);
        close_saving(&s);
        MPI_CHECK(shared_folder_count("") == 1 && holds_big(path, 1));
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* What is done to files once the file has its name is part of the save. */
static lks_status refuse_to_name(void *data) {
    *(bool *)data = true;
    return lks_fail(LKS_EIO, "no second name");
}

static void what_comes_after_the_name_is_part_of_the_save(void **state) {
    (void)state;
    shared_folder_open();
    saving s;
    bool called = false;
    const lks_published published = {refuse_to_name, &called};
    start_big(shared_path("run.h5"), 1, &s);
    lks_save_abandon(s.save);
    MPI_Barrier(MPI_COMM_WORLD);
    const lks_checkpoint_content content = {0};
    lks_save_start(s.save, shared_path("run.h5"), &content, &published, LKS_OK);
    MPI_CHECK(lks_save_finish(s.save) == LKS_EIO && says("no second name"));
    MPI_CHECK(called == (mpi_check_rank() == 0));
    close_saving(&s);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* The culprit's writes fail, one more of them succeeding each time until none does. Returns how
 * many saves failed. */
static int sweep_failing_writes(const char *path, int culprit) {
    int failed = 0;
    for (lks_status status = LKS_EIO; status && failed < 100; failed++) {
        saving s;
        bool done = false;
        if (mpi_check_rank() == culprit) full_disk_after(failed, false);
        start_big(path, 2, &s);
        for (status = LKS_OK; !status && !done;)
            status = lks_save_advance(s.save, false, &done);
        MPI_CHECK(done);
        MPI_CHECK(!status || (says("No space left") && says("run.h5 was not saved")));
        char name[32];
        snprintf(name, sizeof name, "rank %d: ", culprit);
        MPI_CHECK(!status || mpi_check_rank() == culprit || says(name));
        MPI_CHECK(shared_folder_count("") == 1); /* before finish already */
        MPI_CHECK(lks_save_ready(s.save) && lks_save_has_failed(s.save) == (status != LKS_OK));
        MPI_CHECK(lks_save_finish(s.save) == status);
        MPI_CHECK(!status || says("No space left"));
        int failures = full_disk_failures();
        full_disk_after(-1, false);
        MPI_Bcast(&failures, 1, MPI_INT, culprit, MPI_COMM_WORLD);
        MPI_CHECK(status == (failures > 0 ? LKS_EIO : LKS_OK));
        close_saving(&s);
    }
    MPI_CHECK(holds_big(path, 2));
    return failed - 1;
}

static void no_failing_write_in_the_thread_harms_the_old_checkpoint(void **state) {
    (void)state;
    shared_folder_open();
    const char *path = shared_path("run.h5");
    MPI_REQUIRE(save_big(path, 1) == LKS_OK);
    int failed = sweep_failing_writes(path, mpi_check_size() - 1);
    MPI_CHECK(failed > 0 && failed < 99);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_background_save_ends_as_a_checkpoint),
        cmocka_unit_test(finish_waits_for_all_that_is_left),
        cmocka_unit_test(an_abandoned_save_leaves_the_old_checkpoint),
        cmocka_unit_test(a_save_that_cannot_start_says_so_on_every_rank),
        cmocka_unit_test(a_save_without_its_data_fails_on_every_rank),
        cmocka_unit_test(what_comes_after_the_name_is_part_of_the_save),
        cmocka_unit_test(no_failing_write_in_the_thread_harms_the_old_checkpoint),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
