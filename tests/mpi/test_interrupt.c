/* A run that is interrupted, wherever it stands, leaves one checkpoint, and continued from there it
 * comes to the same bits. */
#include <dirent.h>

#include "mpi/resume_case.h"

/* Who asks, and after which step of the run. */
typedef struct asker {
    lks_trainer **trainer;
    int64_t step;
} asker;

static lks_action ask(void *data, const lks_progress *progress) {
    const asker *a = data;
    int64_t step = (progress->epoch - 1) * RESUME_STEPS + progress->step;
    if (step == a->step && mpi_check_rank() == step % mpi_check_size())
        lks_trainer_request_stop(*a->trainer);
    return LKS_CONTINUE;
}

/* A run in `folder`, asked after `step` to stop, with options text `checkpoint`. */
static void interrupt(train_case *run, const char *folder, int step, const char *checkpoint) {
    static asker data;
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = checkpoint;
    config.callbacks = (lks_callbacks){.on_step = ask, .data = &data};
    remove_folder(folder);
    REQUIRE_OK(resume_open(run, MPI_COMM_WORLD, &config));
    data = (asker){&run->trainer, step};
    REQUIRE_OK(lks_fit(run->trainer));
}

static int count_files(const char *folder) {
    char path[128];
    int count = 0;
    struct dirent *entry;
    snprintf(path, sizeof path, "%s/checkpoints", folder);
    DIR *dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        count += strstr(entry->d_name, ".h5") != NULL && strcmp(entry->d_name, "latest.h5") != 0;
    if (dir != NULL) closedir(dir);
    return count;
}

/* Continues from what `interrupt` left and compares. */
static void check_continued(const char *folder, lks_trainer *whole) {
    static train_case resumed;
    lks_train_config config = resume_config();
    config.output = folder;
    bool found = false;
    REQUIRE_OK(resume_open(&resumed, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_resume(resumed.trainer, "auto", &found));
    MPI_CHECK(found);
    REQUIRE_OK(lks_fit(resumed.trainer));
    MPI_CHECK(lks_trainer_end(resumed.trainer) == LKS_END_EPOCHS);
    MPI_CHECK(case_same_params(whole, resumed.trainer));
    MPI_CHECK(same_history(whole, resumed.trainer));
    case_close(&resumed);
}

static void run_whole(train_case *out) {
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(out, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(out->trainer));
}

/* After the last step of an epoch the validation, of 40 samples in batches of 30, is broken off. */
static void test_at_every_place_of_an_epoch(void **state) {
    (void)state;
    static const int steps[] = {1, RESUME_STEPS - 1, RESUME_STEPS, RESUME_STEPS + 1,
                                2 * RESUME_STEPS - 1};
    static train_case whole, run;
    char folder[64];
    snprintf(folder, sizeof folder, "%s", folder_of("interrupt"));
    run_whole(&whole);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int step = steps[i];
        interrupt(&run, folder, step, "every.epochs=0 best=false final=false");
        int64_t expected = step % RESUME_STEPS == 0 ? step : step + 1;
        MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_REQUEST);
        MPI_CHECK(run.trainer->position.global_step == expected);
        MPI_CHECK(lks_trainer_epochs_done(run.trainer) == (expected - 1) / RESUME_STEPS);
        double rows = run.trainer->step_sums[LKS_SUM_WEIGHT];
        MPI_Allreduce(MPI_IN_PLACE, &rows, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        MPI_CHECK(step % RESUME_STEPS != 0 || rows == 30);
        MPI_CHECK(count_files(folder) == 1 && count_lines(folder, "\"checkpoint\"") == 1);
        case_close(&run);
        check_continued(folder, whole.trainer);
    }
    case_close(&whole);
    remove_folder(folder);
    mpi_verdict();
}

/* The save of the step under way is in the background, or is the very one. */
static void test_around_other_saves(void **state) {
    (void)state;
    static const char *const settings[] = {"every.steps=1 keep_last=0 async=true best=false",
                                           "every.steps=2 keep_last=0 async=true best=false",
                                           "every.steps=1 keep_last=0 best=false"};
    static train_case whole, run;
    char folder[64];
    snprintf(folder, sizeof folder, "%s", folder_of("interrupt-saving"));
    run_whole(&whole);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        interrupt(&run, folder, 2, settings[i]);
        int saves = i == 1 ? 2 : 3;
        MPI_CHECK(count_files(folder) == saves && count_lines(folder, "\"checkpoint\"") == saves);
        case_close(&run);
        check_continued(folder, whole.trainer);
    }
    case_close(&whole);
    remove_folder(folder);
    mpi_verdict();
}

/* A request from before the first step; one that comes too late to matter; and lks_fit once more.
 */
static void test_early_and_late(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    if (mpi_check_rank() == mpi_check_size() - 1) lks_trainer_request_stop(run.trainer);
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_REQUEST);
    MPI_CHECK(run.trainer->position.global_step == 1);
    bool done;
    MPI_CHECK(lks_step(run.trainer, &done) == LKS_OK && !done);
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_EPOCHS);
    lks_trainer_request_stop(run.trainer);
    REQUIRE_OK(lks_fit(run.trainer)); /* no step left */
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_EPOCHS);
    case_close(&run);
    mpi_verdict();
}

/* The limit is over before the first step is. */
static void test_time_limit(void **state) {
    (void)state;
    static train_case whole, run;
    lks_train_config config = resume_config();
    char folder[64];
    snprintf(folder, sizeof folder, "%s", folder_of("interrupt-limit"));
    run_whole(&whole);
    remove_folder(folder);
    config.output = folder;
    config.time_limit = 1e-6;
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_TIME_LIMIT);
    MPI_CHECK(run.trainer->position.global_step == 1);
    case_close(&run);
    check_continued(folder, whole.trainer);
    case_close(&whole);
    remove_folder(folder);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_every_place_of_an_epoch),
        cmocka_unit_test(test_around_other_saves),
        cmocka_unit_test(test_early_and_late),
        cmocka_unit_test(test_time_limit),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
