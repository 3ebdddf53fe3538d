/* Interrupted and resumed equals never interrupted, to the last bit; and any number of ranks
 * restores what any number saved. */
#include <unistd.h>

#include "mpi/train_case.h"
#include "train/trainer.h"

/* Stops after the given step of the run. */
typedef struct stop_at {
    int64_t calls, step;
} stop_at;

static lks_action stop_after_steps(void *data, const lks_progress *progress) {
    (void)progress;
    stop_at *stop = data;
    stop->calls++;
    return stop->calls == stop->step ? LKS_STOP : LKS_CONTINUE;
}

static void path_of(char *out, size_t capacity, const char *name) {
    snprintf(out, capacity, "resume-%s-%d.h5", name, mpi_check_size());
}

static void remove_file(const char *path) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) unlink(path);
}

/* Steps 1 .. 8 cover the middle, the last and the first step of an epoch of 6 steps. */
static void resume_after_step(int64_t step, const char *optimizer, const char *options) {
    static train_case whole, first, second;
    char path[64];
    path_of(path, sizeof(path), "step");
    lks_train_config config = case_config();
    config.optimizer = (lks_spec){.type = optimizer, .options = options};
    config.epochs = 3;
    config.early_stopping = "monitor=val_loss patience=10 restore_best=true";
    REQUIRE_OK(case_open(&whole, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(whole.trainer));

    stop_at stop = {.step = step};
    lks_train_config stopping = config;
    stopping.callbacks = (lks_callbacks){.on_step = stop_after_steps, .data = &stop};
    REQUIRE_OK(case_open(&first, MPI_COMM_WORLD, &stopping));
    REQUIRE_OK(lks_fit(first.trainer));
    MPI_CHECK(lks_trainer_end(first.trainer) == LKS_END_CALLBACK);
    REQUIRE_OK(lks_trainer_save(first.trainer, path));

    REQUIRE_OK(case_open(&second, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_restore(second.trainer, path));
    MPI_CHECK(case_same_params(first.trainer, second.trainer));
    REQUIRE_OK(lks_fit(second.trainer));
    MPI_CHECK(case_same_params(whole.trainer, second.trainer));

    int64_t count_a, count_b;
    const lks_epoch_result *a = lks_trainer_history(whole.trainer, &count_a);
    const lks_epoch_result *b = lks_trainer_history(second.trainer, &count_b);
    MPI_REQUIRE(count_a == config.epochs && count_b == config.epochs);
    for (int64_t e = 0; e < count_a; e++)
        MPI_CHECK(a[e].train_loss == b[e].train_loss && a[e].val_loss == b[e].val_loss &&
                  a[e].lr == b[e].lr && a[e].train_acc == b[e].train_acc &&
                  a[e].is_best == b[e].is_best);
    case_close(&whole);
    case_close(&first);
    case_close(&second);
    remove_file(path);
}

static void test_exact_continuation(void **state) {
    (void)state;
    for (int64_t step = 1; step <= 8; step++)
        resume_after_step(step, "sgd", "lr=0.05 momentum=0.9");
    resume_after_step(4, "adamw", "lr=1e-3");
    mpi_verdict();
}

/* Saved by all ranks, restored by each rank alone and by half of them: the same bits, whatever the
 * sharding. */
static void test_any_number_of_ranks_restores(void **state) {
    (void)state;
    static train_case saver, alone, some;
    char path[64];
    path_of(path, sizeof(path), "ranks");
    lks_train_config config = case_config();
    config.epochs = 1;
    config.optimizer = (lks_spec){.type = "adamw"};
    REQUIRE_OK(case_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(saver.trainer));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));

    config.zero_stage = 0;
    config.epochs = 2;
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    REQUIRE_OK(lks_trainer_restore(alone.trainer, path));
    MPI_CHECK(case_same_params(saver.trainer, alone.trainer));

    MPI_Comm half;
    MPI_Comm_split(MPI_COMM_WORLD, mpi_check_rank() % 2, mpi_check_rank(), &half);
    config.zero_stage = 1;
    REQUIRE_OK(case_open(&some, half, &config));
    REQUIRE_OK(lks_trainer_restore(some.trainer, path));
    MPI_CHECK(case_same_params(saver.trainer, some.trainer));
    REQUIRE_OK(lks_fit(alone.trainer));
    REQUIRE_OK(lks_fit(some.trainer));
    int64_t count;
    double a = lks_trainer_history(alone.trainer, &count)[1].train_loss;
    double b = lks_trainer_history(some.trainer, &count)[1].train_loss;
    MPI_CHECK(fabs(a - b) < 1e-4 * a); /* the order of float32 sums differs */
    case_close(&saver);
    case_close(&alone);
    case_close(&some);
    MPI_Comm_free(&half);
    remove_file(path);
    mpi_verdict();
}

static void test_a_checkpoint_of_another_run_is_refused(void **state) {
    (void)state;
    static train_case saver, other;
    char path[64];
    path_of(path, sizeof(path), "other");
    lks_train_config config = case_config();
    config.epochs = 1;
    REQUIRE_OK(case_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    config.optimizer = (lks_spec){.type = "adamw"};
    config.seed = 6;
    REQUIRE_OK(case_open(&other, MPI_COMM_WORLD, &config));
    MPI_CHECK(lks_trainer_restore(other.trainer, path) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "optimizer") != NULL &&
              strstr(lks_last_error(), "seed") != NULL);
    MPI_CHECK(lks_trainer_restore(other.trainer, "no-such-file.h5") == LKS_EIO);
    MPI_CHECK(lks_trainer_load_weights(other.trainer, path) == LKS_OK); /* weights alone do fit */
    MPI_CHECK(case_same_params(saver.trainer, other.trainer));
    case_close(&saver);
    case_close(&other);
    remove_file(path);
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
    snprintf(folder, sizeof folder, "resume-kept-%d", mpi_check_size());
    lks_train_config config = case_config();
    config.output = folder;
    config.epochs = 10001;
    config.checkpoint = "keep_last=3 best=false final=false";
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
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
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_continuation),
        cmocka_unit_test(test_any_number_of_ranks_restores),
        cmocka_unit_test(test_a_checkpoint_of_another_run_is_refused),
        cmocka_unit_test(test_the_newest_epochs_are_kept),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
