/* Interrupted and resumed equals never interrupted, to the last bit: after every step, for every
 * optimizer and every schedule, with files written in the step and in the background. */
#include "mpi/resume_case.h"
#include "optim/optim.h"
#include "sched/sched.h"

/* Trains once without saving, once with a file after every so many steps, and once more from each
 * of these files to the end. */
static void resume_from_steps(lks_train_config config, int every, bool async) {
    static train_case whole, saving, resumed;
    char folder[64], path[128], checkpoint[128];
    snprintf(folder, sizeof folder, "%s", folder_of("resume"));
    REQUIRE_OK(resume_open(&whole, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(whole.trainer));

    lks_train_config with_files = config;
    snprintf(checkpoint, sizeof checkpoint, "every.steps=%d keep_last=0 best=false async=%s", every,
             async ? "true" : "false");
    with_files.output = folder;
    with_files.checkpoint = checkpoint;
    REQUIRE_OK(resume_open(&saving, MPI_COMM_WORLD, &with_files));
    REQUIRE_OK(lks_fit(saving.trainer));
    MPI_CHECK(case_same_params(whole.trainer, saving.trainer));
    case_close(&saving);

    for (int step = every; step <= RESUME_EPOCHS * RESUME_STEPS; step += every) {
        snprintf(path, sizeof path, "%s/checkpoints/step-%08d.h5", folder, step);
        REQUIRE_OK(resume_open(&resumed, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_trainer_restore(resumed.trainer, path));
        MPI_CHECK(resumed.trainer->position.global_step == step);
        REQUIRE_OK(lks_fit(resumed.trainer));
        MPI_CHECK(case_same_params(whole.trainer, resumed.trainer));
        MPI_CHECK(same_history(whole.trainer, resumed.trainer));
        case_close(&resumed);
    }
    case_close(&whole);
    remove_folder(folder);
}

static void test_after_every_step(void **state) {
    (void)state;
    lks_train_config config = resume_config();
    config.early_stopping = "monitor=val_loss patience=10 restore_best=true";
    resume_from_steps(config, 1, false);
    mpi_verdict();
}

static void test_from_files_of_the_background(void **state) {
    (void)state;
    lks_train_config config = resume_config();
    config.optimizer = (lks_spec){.type = "adamw"};
    config.early_stopping = "monitor=val_loss patience=10 restore_best=true";
    resume_from_steps(config, 1, true);
    mpi_verdict();
}

/* In the middle of the second epoch. */
static void test_every_optimizer(void **state) {
    (void)state;
    const char *type;
    for (int i = 0; (type = lks_optimizer_type(i)) != NULL; i++) {
        lks_train_config config = resume_config();
        config.optimizer = (lks_spec){.type = type};
        config.zero_stage = i % 3;
        resume_from_steps(config, 8, false);
    }
    mpi_verdict();
}

static double halve(void *data, int64_t epoch) {
    (void)data;
    return epoch % 2 == 0 ? 1.0 : 0.5;
}

/* What a schedule cannot do without; a new one without an entry must do without options. */
static const char *options_of(const char *schedule) {
    static const char *const needed[][2] = {
        {"step", "step_size=1"},
        {"multi_step", "milestones=[1,3]"},
        {"exponential", "gamma=0.9"},
        {"cosine_annealing", "T_max=5"},
        {"cosine_annealing_warm_restarts", "T_0=3"},
        {"one_cycle", "max_lr=0.1 total_steps=20"},
        {"sequential", "schedules=[\"linear total_iters=1\",\"exponential gamma=0.9\"] "
                       "milestones=[1]"},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (strcmp(needed[i][0], schedule) == 0) return needed[i][1];
    return "";
}

/* Moved on by epochs, and by steps where a schedule can do that. */
static void test_every_schedule(void **state) {
    (void)state;
    const char *type;
    for (int i = 0; (type = lks_schedule_type(i)) != NULL; i++) {
        char options[160];
        lks_train_config config = resume_config();
        bool per_step = lks_options_find(lks_schedule_options(type), "interval") != NULL &&
                        strcmp(type, "reduce_on_plateau") != 0;
        snprintf(options, sizeof options, "%s%s", options_of(type),
                 per_step && i % 2 == 0 ? " interval=step" : "");
        config.schedule = (lks_spec){.type = type, .options = options};
        config.lr_lambda = halve;
        resume_from_steps(config, 8, false);
    }
    mpi_verdict();
}

/* A program's own loop may save where lks_fit does not: between an epoch's last step and its end.
 */
static void test_between_the_last_step_and_the_end(void **state) {
    (void)state;
    static train_case whole, first, second;
    const char *path = folder_of("resume-end.h5");
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&whole, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(whole.trainer));
    REQUIRE_OK(resume_open(&first, MPI_COMM_WORLD, &config));
    for (bool done = false; !done;)
        REQUIRE_OK(lks_step(first.trainer, &done));
    REQUIRE_OK(lks_trainer_save(first.trainer, path));
    REQUIRE_OK(resume_open(&second, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_restore(second.trainer, path));
    REQUIRE_OK(lks_fit(second.trainer));
    MPI_CHECK(case_same_params(whole.trainer, second.trainer));
    MPI_CHECK(same_history(whole.trainer, second.trainer));
    int64_t count;
    const lks_epoch_result *history = lks_trainer_history(second.trainer, &count);
    MPI_CHECK(isfinite(history[0].samples_per_second) && history[0].samples_per_second > 0);
    MPI_CHECK(history[0].seconds > 0);
    case_close(&whole);
    case_close(&first);
    case_close(&second);
    remove_folder(path);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_every_step),
        cmocka_unit_test(test_from_files_of_the_background),
        cmocka_unit_test(test_every_optimizer),
        cmocka_unit_test(test_every_schedule),
        cmocka_unit_test(test_between_the_last_step_and_the_end),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
