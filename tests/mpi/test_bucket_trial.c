/* bucket_bytes: auto, and what the size of buckets may change: nothing but time. */
#include "mpi/checkpoint_folder.h"
#include "mpi/train_case.h"
#include "train/trainer.h"

/* 1.3 MiB in the second layer: with a first bucket of 1 KiB, the sizes from 4 MiB on are one. */
static const lks_layer_spec large_layers[] = {
    {.type = "flatten"},
    {.type = "linear", .options = "out_features=580"},
    {.type = "silu"},
    {.type = "linear", .options = "out_features=580"},
    {.type = "silu"},
    {.type = "linear", .options = "out_features=5"},
    {0},
};

static lks_train_config trial_config(int64_t bucket_bytes) {
    lks_train_config config = case_config();
    config.epochs = 1;
    config.bucket_bytes = bucket_bytes;
    return config;
}

static int calls;

static lks_action count_call(void *data, const lks_progress *progress) {
    (void)data;
    (void)progress;
    calls++;
    return LKS_CONTINUE;
}

static bool same_params(const train_case *a, const train_case *b) {
    const lks_param_store *one = &a->trainer->params, *other = &b->trainer->params;
    return one->flat_bytes == other->flat_bytes &&
           memcmp(one->flat, other->flat, one->flat_bytes) == 0;
}

/* The fastest of the sizes is taken, the same one on every rank; and the run is that of this size,
 * or of any other: nothing is clipped, so that no number depends on how the norm is added up. */
static void the_run_is_as_without_a_trial(void **state) {
    (void)state;
    static train_case tuned, fixed, other;
    lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    config.callbacks.on_step = count_call;
    calls = 0;
    REQUIRE_OK(case_open_layers(&tuned, MPI_COMM_WORLD, large_layers, &config));
    MPI_CHECK(calls == 0);
    int64_t chosen = tuned.trainer->config.bucket_bytes, first = chosen;
    MPI_Bcast(&first, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
    MPI_CHECK(chosen == first);
    MPI_CHECK(chosen == LKS_BUCKET_BYTES_DEFAULT || (chosen == 1 << 20 && mpi_check_size() > 1));
    MPI_CHECK(tuned.trainer->position.global_step == 0);
    config = trial_config(chosen);
    REQUIRE_OK(case_open_layers(&fixed, MPI_COMM_WORLD, large_layers, &config));
    config = trial_config(64 << 10);
    REQUIRE_OK(case_open_layers(&other, MPI_COMM_WORLD, large_layers, &config));
    MPI_CHECK(same_params(&tuned, &fixed));
    REQUIRE_OK(lks_fit(tuned.trainer));
    REQUIRE_OK(lks_fit(fixed.trainer));
    REQUIRE_OK(lks_fit(other.trainer));
    MPI_CHECK(same_params(&tuned, &fixed));
    MPI_CHECK(same_params(&tuned, &other));
    case_close(&tuned);
    case_close(&fixed);
    case_close(&other);
    mpi_verdict();
}

static lks_status run_trial(train_case *run, const lks_layer_spec *layers,
                            const lks_train_config *config, lks_bucket_trial *out) {
    lks_status status = case_open_data(run, MPI_COMM_WORLD, "cpu");
    return status
               ? status
               : lks_bucket_trial_run(run->context, layers, &case_input, run->train, config, out);
}

static void sizes_that_cut_differently_are_tried(void **state) {
    (void)state;
    static train_case run;
    lks_bucket_trial trial;
    const lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    REQUIRE_OK(run_trial(&run, large_layers, &config, &trial));
    if (mpi_check_size() == 1) {
        MPI_CHECK(trial.count == 0 && trial.bucket_bytes == LKS_BUCKET_BYTES_DEFAULT);
    } else {
        MPI_CHECK(trial.count == 2);
        MPI_CHECK(trial.bytes[0] == LKS_BUCKET_BYTES_DEFAULT && trial.bytes[1] == 1 << 20);
        const int best = trial.seconds[1] < trial.seconds[0];
        MPI_CHECK(trial.seconds[0] > 0 && trial.seconds[1] > 0);
        MPI_CHECK(trial.bucket_bytes == trial.bytes[best]);
    }
    case_close(&run);
    mpi_verdict();
}

/* The first line of metrics.jsonl. */
static void the_choice_is_recorded(void **state) {
    (void)state;
    static train_case run;
    char line[512] = "", expected[160];
    shared_folder_open();
    lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    config.output = shared_path("run");
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, large_layers, &config));
    snprintf(expected, sizeof expected,
             "{\"kind\": \"bucket_bytes\", \"bucket_bytes\": %lld, \"tried\": "
             "[{\"bucket_bytes\": 26214400, \"step_seconds\": ",
             (long long)run.trainer->config.bucket_bytes);
    FILE *file = mpi_check_rank() == 0 ? fopen(shared_path("run/metrics.jsonl"), "r") : NULL;
    MPI_CHECK(file != NULL || mpi_check_rank() > 0);
    if (file != NULL) {
        const bool any = fgets(line, sizeof line, file) != NULL;
        MPI_CHECK(any == (mpi_check_size() > 1));
        MPI_CHECK(!any || strncmp(line, expected, strlen(expected)) == 0);
        fclose(file);
    }
    case_close(&run);
    shared_folder_close((const char *const[]){"run", "run/checkpoints"}, 2);
    mpi_verdict();
}

static void a_small_model_leaves_nothing_to_try(void **state) {
    (void)state;
    static train_case run;
    lks_bucket_trial trial;
    const lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    REQUIRE_OK(run_trial(&run, case_layers, &config, &trial));
    MPI_CHECK(trial.count == 0 && trial.bucket_bytes == LKS_BUCKET_BYTES_DEFAULT);
    case_close(&run);
    mpi_verdict();
}

/* How often a rank has been asked, and from which time on the last rank says yes. */
static int asked, ask_from;

static bool ask(void *data) {
    (void)data;
    asked++;
    return asked >= ask_from && mpi_check_rank() == mpi_check_size() - 1;
}

/* Every trainer is asked once a step. */
static void a_trial_stops_at_a_step(const lks_train_config *config, int step) {
    static train_case run;
    lks_bucket_trial trial;
    asked = 0;
    REQUIRE_OK(run_trial(&run, large_layers, config, &trial));
    MPI_CHECK(asked == (mpi_check_size() == 1 ? 0 : step));
    MPI_CHECK(trial.count == 0 && trial.bucket_bytes == LKS_BUCKET_BYTES_DEFAULT);
    case_close(&run);
}

/* In the warm-up of the first size, in its rounds, and in the second size; or at once, where the
 * time is over. The run itself makes one step, as where a request comes during the start. */
static void a_run_that_is_to_stop_tries_no_longer(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    config.callbacks.stop_requested = ask;
    for (ask_from = 1; ask_from <= 5; ask_from++)
        a_trial_stops_at_a_step(&config, ask_from);
    ask_from = 1000;
    asked = 0;
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, large_layers, &config));
    const int whole = asked;
    MPI_CHECK(whole == 0 || whole >= 8); /* two sizes, two steps and two rounds each */
    case_close(&run);

    ask_from = whole > 0 ? 6 : 1;
    asked = 0;
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, large_layers, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_REQUEST);
    MPI_CHECK(run.trainer->position.global_step == 1 && asked == (whole > 0 ? 7 : 1));
    case_close(&run);

    ask_from = 1000;
    config.time_limit = 1e-6;
    a_trial_stops_at_a_step(&config, 1);
    mpi_verdict();
}

/* On every rank alike, and as it is told without a trial. */
static void a_run_that_fails_fails_in_the_trial(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = trial_config(LKS_BUCKET_BYTES_AUTO);
    config.optimizer = (lks_spec){.type = "sgd", .options = "lr=1e38"};
    lks_status status = case_open_layers(&run, MPI_COMM_WORLD, large_layers, &config);
    MPI_CHECK(status == (mpi_check_size() > 1 ? LKS_ENUMERIC : LKS_OK));
    MPI_CHECK(status == LKS_OK || strstr(lks_last_error(), "bucket_bytes: auto: ") != NULL);
    case_close(&run);
    config.batch_size = 0;
    MPI_CHECK(case_open_layers(&run, MPI_COMM_WORLD, large_layers, &config) == LKS_ECONFIG);
    case_close(&run);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_run_is_as_without_a_trial),
        cmocka_unit_test(sizes_that_cut_differently_are_tried),
        cmocka_unit_test(the_choice_is_recorded),
        cmocka_unit_test(a_small_model_leaves_nothing_to_try),
        cmocka_unit_test(a_run_that_is_to_stop_tries_no_longer),
        cmocka_unit_test(a_run_that_fails_fails_in_the_trial),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
