/* Clipping, steps that are not finite, and the stages of sharding, over ranks. */
#include "mpi/train_case.h"

static const lks_layer_spec plain_layers[] = {
    {.type = "flatten"},
    {.type = "linear", .name = "fc1", .options = "out_features=24"},
    {.type = "silu"},
    {.type = "linear", .name = "fc2", .options = "out_features=5"},
    {0},
};

/* SGD without anything else moves the parameters by lr times the gradient, so the step's length
 * shows the clipped norm. */
static double length_of_one_step(const char *gradients, int norm, double lr) {
    static train_case run;
    lks_train_config config = case_config();
    char options[64];
    snprintf(options, sizeof options, "lr=%g", lr);
    config.optimizer = (lks_spec){.type = "sgd", .options = options};
    config.gradients = gradients;
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, plain_layers, &config));
    int64_t count = 0;
    bool done;
    float *before = case_params(run.trainer, &count);
    REQUIRE_OK(lks_step(run.trainer, &done));
    float *after = case_params(run.trainer, &count);
    MPI_REQUIRE(before != NULL && after != NULL);
    double length = 0;
    for (int64_t i = 0; i < count; i++) {
        double moved = fabs((double)after[i] - before[i]);
        length = norm == 0 ? fmax(length, moved) : length + (norm == 1 ? moved : moved * moved);
    }
    free(before);
    free(after);
    case_close(&run);
    return norm == 2 ? sqrt(length) : length;
}

/* 1e-4: a step of 0.01 is taken from float32 parameters of about 0.1, which are exact to 6e-9 each.
 */
static void test_clipping_by_norm_and_value(void **state) {
    (void)state;
    double free_length = length_of_one_step(NULL, 2, 0.1);
    MPI_CHECK(free_length > 0.1 * 0.05);
    MPI_CHECK(fabs(length_of_one_step("clip_norm=0.02", 2, 0.1) / (0.1 * 0.02) - 1) < 1e-4);
    MPI_CHECK(fabs(length_of_one_step("clip_norm=0.02 norm_type=1", 1, 0.1) / (0.1 * 0.02) - 1) <
              1e-3);
    MPI_CHECK(fabs(length_of_one_step("clip_norm=0.002 norm_type=inf", 0, 0.1) / (0.1 * 0.002) -
                   1) < 1e-3);
    MPI_CHECK(length_of_one_step("clip_norm=1000", 2, 0.1) == free_length);
    MPI_CHECK(fabs(length_of_one_step("clip_value=0.001", 0, 0.1) / (0.1 * 0.001) - 1) < 1e-3);
    mpi_verdict();
}

/* The clipped norm, and with it every parameter, is the same to the last bit however the gradients
 * are shared out. */
static void test_stages_give_the_same_bits(void **state) {
    (void)state;
    static train_case runs[3];
    for (int stage = 0; stage < 3; stage++) {
        lks_train_config config = case_config();
        config.zero_stage = stage;
        config.micro_batch_size = 4;
        config.gradients = "clip_norm=0.05 clip_value=0.004";
        REQUIRE_OK(case_open(&runs[stage], MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_fit(runs[stage].trainer));
    }
    MPI_CHECK(case_same_params(runs[0].trainer, runs[1].trainer));
    MPI_CHECK(case_same_params(runs[0].trainer, runs[2].trainer));
    for (int stage = 0; stage < 3; stage++)
        case_close(&runs[stage]);
    mpi_verdict();
}

static void spoil(lks_trainer *trainer) {
    float bias[CASE_CLASSES] = {0, 0, INFINITY, 0, 0};
    REQUIRE_OK(lks_trainer_set_param(trainer, "fc2.bias", bias));
}

static void test_nonfinite_steps(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, plain_layers, &config));
    spoil(run.trainer);
    bool done;
    MPI_CHECK(lks_step(run.trainer, &done) == LKS_ENUMERIC);
    MPI_CHECK(strstr(lks_last_error(), "step 1 ") != NULL &&
              strstr(lks_last_error(), "fc1.weight") != NULL);
    case_close(&run);

    config.gradients = "on_nonfinite=skip max_skipped=2";
    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, plain_layers, &config));
    REQUIRE_OK(lks_step(run.trainer, &done));
    float bias[CASE_CLASSES];
    REQUIRE_OK(lks_trainer_get_param(run.trainer, "fc2.bias", NULL, bias));
    spoil(run.trainer);
    REQUIRE_OK(lks_step(run.trainer, &done));
    REQUIRE_OK(lks_step(run.trainer, &done));
    REQUIRE_OK(
        lks_trainer_set_param(run.trainer, "fc2.bias", bias)); /* good again: counts from 0 */
    REQUIRE_OK(lks_step(run.trainer, &done));
    spoil(run.trainer);
    REQUIRE_OK(lks_step(run.trainer, &done));
    MPI_CHECK(!done);
    case_close(&run);

    REQUIRE_OK(case_open_layers(&run, MPI_COMM_WORLD, plain_layers, &config));
    spoil(run.trainer);
    REQUIRE_OK(lks_step(run.trainer, &done));
    REQUIRE_OK(lks_step(run.trainer, &done));
    MPI_CHECK(lks_step(run.trainer, &done) == LKS_ENUMERIC);
    MPI_CHECK(strstr(lks_last_error(), "given up") != NULL);
    case_close(&run);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clipping_by_norm_and_value),
        cmocka_unit_test(test_stages_give_the_same_bits),
        cmocka_unit_test(test_nonfinite_steps),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
