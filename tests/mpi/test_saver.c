/* Which checkpoints a run writes and keeps; those of the background are those of the step; what a
 * save that fails does to a run. */
#include "mpi/resume_case.h"
#include "train/saver.h"

static bool is_there(const char *folder, const char *name) {
    char path[192];
    snprintf(path, sizeof path, "%s/checkpoints/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Trains in the folder with these settings. */
static void train(const char *folder, const char *checkpoint, int epochs) {
    static train_case run;
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = checkpoint;
    config.epochs = epochs;
    remove_folder(folder); /* of a test that failed */
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    case_close(&run);
    MPI_Barrier(MPI_COMM_WORLD);
}

typedef struct expected_file {
    const char *name;
    bool there;
} expected_file;

static void check_files(const char *folder, const expected_file *files) {
    for (; files->name != NULL; files++)
        mpi_check(is_there(folder, files->name) == files->there, __FILE__, __LINE__, files->name);
}

static void test_epochs_and_steps(void **state) {
    (void)state;
    char folder[64], target[64] = "";
    snprintf(folder, sizeof folder, "%s", folder_of("saver-when"));
    train(folder, "every.epochs=2 every.steps=4 keep_last=3 best=false", 3);
    check_files(folder, (expected_file[]){{"epoch-0001.h5", false},
                                          {"epoch-0002.h5", true},
                                          {"epoch-0003.h5", false},
                                          {"step-00000004.h5", false},
                                          {"step-00000008.h5", true},
                                          {"step-00000012.h5", false}, /* is epoch-0002 */
                                          {"step-00000016.h5", true},
                                          {"step-00000018.h5", false},
                                          {"best.h5", false},
                                          {"final.h5", true},
                                          {NULL, false}});
    MPI_CHECK(count_lines(folder, "\"kind\": \"checkpoint\"") == 5);
    MPI_CHECK(count_lines(folder, "step-00000008.h5\", \"epoch\": 1, \"global_step\": 8,") == 1);
    char path[128];
    snprintf(path, sizeof path, "%s/checkpoints/latest.h5", folder);
    MPI_CHECK(readlink(path, target, sizeof target - 1) > 0 && strcmp(target, "final.h5") == 0);
    remove_folder(folder);
    train(folder, NULL, 1); /* without `every` after every epoch */
    check_files(folder,
                (expected_file[]){{"epoch-0001.h5", true}, {"best.h5", true}, {NULL, false}});
    remove_folder(folder);
    mpi_verdict();
}

/* A sixty-thousandth of a second passes in every step; and 0 epochs are none. */
static void test_minutes(void **state) {
    (void)state;
    const char *folder = folder_of("saver-minutes");
    train(folder, "every.epochs=0 every.minutes=1e-9 keep_last=0 best=false final=false", 1);
    MPI_CHECK(count_lines(folder, "\"kind\": \"checkpoint\"") == RESUME_STEPS);
    check_files(folder, (expected_file[]){{"step-00000001.h5", true},
                                          {"step-00000006.h5", true},
                                          {"epoch-0001.h5", false},
                                          {NULL, false}});
    remove_folder(folder);
    mpi_verdict();
}

/* keep_last goes by the epoch's number, not by the name, where 10000 stands before 9999; files of
 * epochs to come are of a run that this one has been taken back from. */
static void test_the_newest_epochs_are_kept(void **state) {
    (void)state;
    static const struct {
        const char *file;
        bool kept;
    } files[] = {
        {"epoch-9998.h5", false},    {"epoch-9999.h5", true}, {"epoch-10000.h5", true},
        {"epoch-10003.h5", true},    {"epoch-1.h5", true},    {"epoch-0001.h5.bak", true},
        {"step-00059990.h5", false},
    };
    enum { FILES = sizeof files / sizeof *files };
    static train_case run;
    char folder[64], path[FILES][128];
    snprintf(folder, sizeof folder, "saver-kept-%d", mpi_check_size());
    lks_train_config config = resume_config();
    config.output = folder;
    config.epochs = 10001;
    config.checkpoint = "keep_last=3 best=false final=false";
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    for (int i = 0; i < FILES; i++) {
        snprintf(path[i], sizeof path[i], "%s/checkpoints/%s", folder, files[i].file);
        FILE *file = mpi_check_rank() == 0 ? fopen(path[i], "w") : NULL;
        if (file != NULL) fclose(file);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    run.trainer->position.epoch = 10000;
    run.trainer->position.global_step = 10000 * 6;
    REQUIRE_OK(lks_fit(run.trainer));
    for (int i = 0; i < FILES; i++)
        MPI_CHECK((access(path[i], F_OK) == 0) == files[i].kept);
    case_close(&run);
    remove_folder(folder);
    mpi_verdict();
}

/* The files of the best epochs by the history, whatever that is. */
static void test_the_best_are_kept(void **state) {
    (void)state;
    enum { EPOCHS = 5, KEPT = 2 };
    static train_case run;
    char folder[64], a[192], b[192];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-best"));
    lks_train_config config = resume_config();
    config.output = folder;
    config.epochs = EPOCHS;
    config.checkpoint = "every.epochs=0 monitor=train_acc keep_best=2 final=false";
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_Barrier(MPI_COMM_WORLD);
    int64_t count;
    const lks_epoch_result *history = lks_trainer_history(run.trainer, &count);
    MPI_REQUIRE(count == EPOCHS);
    for (int e = 0; e < EPOCHS; e++) {
        int better = 0;
        for (int o = 0; o < EPOCHS; o++)
            better += history[o].train_acc > history[e].train_acc ||
                      (history[o].train_acc == history[e].train_acc && o < e);
        char name[64];
        snprintf(name, sizeof name, "best-epoch-%04d.h5", e + 1);
        MPI_CHECK(is_there(folder, name) == (better < KEPT));
        snprintf(a, sizeof a, "%s/checkpoints/%s", folder, name);
        snprintf(b, sizeof b, "%s/checkpoints/best.h5", folder);
        if (better == 0) MPI_CHECK(same_arrays(a, b));
    }
    case_close(&run);
    remove_folder(folder);
    mpi_verdict();
}

/* The state that a background save writes is that of its step, however far training has gone on. */
static void test_the_background_writes_the_same(void **state) {
    (void)state;
    char folders[2][64], a[128], b[128];
    snprintf(folders[0], sizeof folders[0], "%s", folder_of("saver-sync"));
    snprintf(folders[1], sizeof folders[1], "%s", folder_of("saver-async"));
    train(folders[0], "every.steps=5 keep_last=0 best=false", 3);
    train(folders[1], "every.steps=5 keep_last=0 best=false async=true", 3);
    static const char *const names[] = {"step-00000005", "step-00000010", "step-00000015", "final"};
    for (int i = 0; i < 4; i++) {
        snprintf(a, sizeof a, "%s/checkpoints/%s.h5", folders[0], names[i]);
        snprintf(b, sizeof b, "%s/checkpoints/%s.h5", folders[1], names[i]);
        MPI_CHECK(same_arrays(a, b));
    }
    MPI_CHECK(count_lines(folders[1], "\"kind\": \"checkpoint\"") == 4);
    remove_folder(folders[0]);
    remove_folder(folders[1]);
    mpi_verdict();
}

/* A program's own loop that ends while a save is under way: destroying the trainer ends the save.
 */
static void test_a_save_under_way_is_finished(void **state) {
    (void)state;
    static train_case run;
    char folder[64];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-end"));
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = "async=true best=false";
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    case_close(&run);
    MPI_Barrier(MPI_COMM_WORLD);
    check_files(folder,
                (expected_file[]){{"epoch-0001.h5", true}, {"latest.h5", true}, {NULL, false}});
    remove_folder(folder);
    mpi_verdict();
}

/* A file stands where the folder of the checkpoints should be. */
static lks_status train_without_folder(const char *folder, const char *checkpoint) {
    static train_case run;
    char path[128];
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = checkpoint;
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    snprintf(path, sizeof path, "%s/checkpoints", folder);
    if (mpi_check_rank() == 0) {
        rmdir(path);
        FILE *file = fopen(path, "w");
        if (file != NULL) fclose(file);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    lks_status status = lks_fit(run.trainer);
    bool stops = checkpoint != NULL && strstr(checkpoint, "on_error=stop") != NULL;
    /* in the background it comes to light later, but in the next epoch at the latest */
    int64_t epoch = run.trainer->position.epoch;
    bool later = stops && strstr(checkpoint, "async=true") != NULL;
    MPI_CHECK(epoch == (stops ? 1 : RESUME_EPOCHS) || (later && epoch == 2));
    case_close(&run);
    remove_folder(folder);
    return status;
}

static void test_a_save_that_fails(void **state) {
    (void)state;
    char folder[64];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-fails"));
    MPI_CHECK(train_without_folder(folder, "final=false") == LKS_OK);
    MPI_CHECK(train_without_folder(folder, "final=false async=true") == LKS_OK);
    MPI_CHECK(train_without_folder(folder, NULL) ==
              LKS_EIO); /* nothing comes after the final one */
    MPI_CHECK(strstr(lks_last_error(), "final.h5 was not saved") != NULL);
    MPI_CHECK(train_without_folder(folder, "on_error=stop") == LKS_EIO);
    MPI_CHECK(strstr(lks_last_error(), "epoch-0001.h5 was not saved") != NULL);
    MPI_CHECK(train_without_folder(folder, "on_error=stop async=true") == LKS_EIO);
    mpi_verdict();
}

static void tell_nothing(void *data, const char *message) {
    (void)data, (void)message;
}

static void end_nothing(void *data) {
    (void)data;
}

/* The guard's phase in which a line is logged. */
typedef struct phase_note {
    lks_guard *guard;
    lks_guard_phase phase;
    int lines;
} phase_note;

static void note_phase(void *data) {
    phase_note *note = data;
    note->phase = lks_guard_enter(note->guard, LKS_GUARD_SAVE);
    lks_guard_enter(note->guard, note->phase);
    note->lines++;
}

/* The guard grants names and links as much time as the data: it is in the phase of saving when rank
 * 0 warns that there is no latest.h5, because a folder stands in its place; and not afterwards. */
static void test_files_are_named_while_saving(void **state) {
    (void)state;
    static train_case run;
    static const char *const settings[] = {"every.steps=2", "every.steps=2 async=true"};
    static const lks_guard_config guard = {
        .timeout = 3600, .tell = tell_nothing, .end = end_nothing};
    char folder[64], path[128];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-phase"));
    snprintf(path, sizeof path, "%s/checkpoints/latest.h5", folder);
    for (int i = 0; i < 2; i++) {
        remove_folder(folder);
        lks_train_config config = resume_config();
        config.output = folder;
        config.checkpoint = settings[i];
        REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
        lks_context *context = run.context;
        REQUIRE_OK(lks_guard_create(context->comm, &guard, NULL, &context->guard));
        phase_note note = {.guard = context->guard};
        context->logger.stream = fopen("/dev/null", "w");
        context->logger.before_line = note_phase;
        context->logger.before_line_data = &note;
        if (mpi_check_rank() == 0) MPI_CHECK(mkdir(path, 0700) == 0);
        MPI_REQUIRE(context->logger.stream != NULL);
        REQUIRE_OK(lks_epoch(run.trainer, NULL));
        REQUIRE_OK(lks_saver_settle(run.trainer));
        MPI_CHECK(note.lines == (mpi_check_rank() == 0));
        MPI_CHECK(note.lines == 0 || note.phase == LKS_GUARD_SAVE);
        MPI_CHECK(lks_guard_enter(context->guard, LKS_GUARD_START) == LKS_GUARD_START);
        FILE *stream = context->logger.stream;
        case_close(&run);
        fclose(stream);
    }
    remove_folder(folder);
    mpi_verdict();
}

/* The best epoch of all was not saved: the best of the others is. */
static void test_a_best_epoch_that_was_lost(void **state) {
    (void)state;
    static train_case run;
    char folder[64], path[128];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-lost"));
    remove_folder(folder); /* of a test that failed */
    snprintf(path, sizeof path, "%s/checkpoints", folder);
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = "every.epochs=0 monitor=train_acc final=false";
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    if (mpi_check_rank() == 0) { /* a file stands where the folder should be */
        FILE *file = rmdir(path) == 0 ? fopen(path, "w") : NULL;
        MPI_CHECK(file != NULL && fclose(file) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    run.trainer->history[0].train_acc = 2; /* more than any other epoch can have */
    if (mpi_check_rank() == 0) MPI_CHECK(remove(path) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    MPI_CHECK(is_there(folder, "best.h5"));
    case_close(&run);
    remove_folder(folder);
    mpi_verdict();
}

/* The same in the background, where the save fails at its end: with one step an epoch it is still
 * under way when the next epoch ends. */
static void test_a_best_epoch_that_is_lost_later(void **state) {
    (void)state;
    static train_case run;
    char folder[64], path[128];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-late"));
    remove_folder(folder); /* of a test that failed */
    snprintf(path, sizeof path, "%s/checkpoints/best-epoch-0001.h5", folder);
    lks_train_config config = resume_config();
    config.output = folder;
    config.batch_size = CASE_SAMPLES - 40;
    config.checkpoint = "every.epochs=0 monitor=train_acc keep_best=2 final=false async=true";
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    MPI_CHECK(!run.trainer->epoch_lost[0]);
    run.trainer->history[0].train_acc = 2; /* more than any other epoch can have */
    if (mpi_check_rank() == 0) MPI_CHECK(mkdir(path, 0700) == 0); /* the file cannot be renamed */
    MPI_Barrier(MPI_COMM_WORLD);
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    MPI_CHECK(run.trainer->epoch_lost[0]);
    REQUIRE_OK(lks_saver_settle(run.trainer));
    MPI_CHECK(is_there(folder, "best.h5"));
    MPI_CHECK(is_there(folder, "best-epoch-0002.h5"));
    case_close(&run);
    if (mpi_check_rank() == 0) MPI_CHECK(rmdir(path) == 0);
    remove_folder(folder);
    mpi_verdict();
}

/* One rank's update failed, and no reduction has told the others yet. */
static void test_no_save_after_a_failure(void **state) {
    (void)state;
    static train_case run;
    char folder[64], path[128];
    snprintf(folder, sizeof folder, "%s", folder_of("saver-noted"));
    snprintf(path, sizeof path, "%s/by-hand.h5", folder);
    remove_folder(folder); /* of a test that failed */
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = "every.steps=1";
    for (int by_hand = 0; by_hand <= 1; by_hand++) {
        bool done;
        REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_step(run.trainer, &done));
        if (mpi_check_rank() == mpi_check_size() - 1)
            lks_trainer_note(run.trainer, lks_fail(LKS_EDEVICE, "the update of one rank"));
        lks_status status =
            by_hand ? lks_trainer_save(run.trainer, path) : lks_saver_after_step(run.trainer);
        MPI_CHECK(status == LKS_EDEVICE);
        MPI_CHECK(strstr(lks_last_error(), "the update of one rank") != NULL);
        case_close(&run);
        MPI_CHECK(!is_there(folder, "step-00000001.h5") && access(path, F_OK) != 0);
    }
    remove_folder(folder);
    mpi_verdict();
}

static void test_settings_that_do_not_go_together(void **state) {
    (void)state;
    lks_checkpoint_settings settings;
    MPI_CHECK(lks_checkpoint_settings_parse("async=true transfer=collective", &settings) ==
              LKS_ECONFIG);
    MPI_CHECK(lks_checkpoint_settings_parse("every.minutes=10", &settings) == LKS_OK &&
              settings.every_epochs == 0 && settings.every_minutes == 10);
    MPI_CHECK(lks_checkpoint_settings_parse(NULL, &settings) == LKS_OK &&
              settings.every_epochs == 1);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs_and_steps),
        cmocka_unit_test(test_minutes),
        cmocka_unit_test(test_the_newest_epochs_are_kept),
        cmocka_unit_test(test_the_best_are_kept),
        cmocka_unit_test(test_the_background_writes_the_same),
        cmocka_unit_test(test_a_save_under_way_is_finished),
        cmocka_unit_test(test_a_save_that_fails),
        cmocka_unit_test(test_files_are_named_while_saving),
        cmocka_unit_test(test_a_best_epoch_that_was_lost),
        cmocka_unit_test(test_a_best_epoch_that_is_lost_later),
        cmocka_unit_test(test_no_save_after_a_failure),
        cmocka_unit_test(test_settings_that_do_not_go_together),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
