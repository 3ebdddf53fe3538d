/* Ranks that do not run the same are found out: at the start by configuration, data and parameters,
 * and later by check_sync. */
#include "mpi/train_case.h"
#include "train/same.h"

/* Is this the rank that differs? With one rank there is none to differ from. */
static bool is_other(void) {
    return mpi_check_rank() == mpi_check_size() - 1;
}

/* Every rank has the status; where there are others the message has the words, and on ranks other
 * than the culprit its number. */
static void check_refused(lks_status status, const char *words, const char *zeros_words) {
    char culprit[32];
    snprintf(culprit, sizeof culprit, "rank %d: ", mpi_check_size() - 1);
    bool alone = mpi_check_size() == 1;
    MPI_CHECK(status == (alone ? LKS_OK : LKS_EDIFFER));
    MPI_CHECK(alone || strstr(lks_last_error(), words) != NULL);
    MPI_CHECK(alone || strstr(lks_last_error(), zeros_words) != NULL);
    MPI_CHECK(alone || is_other() || strncmp(lks_last_error(), culprit, strlen(culprit)) == 0);
}

static void check_config(const lks_train_config *config, const lks_layer_spec *layers,
                         const char *words, const char *zeros_words) {
    static train_case run;
    check_refused(case_open_layers(&run, MPI_COMM_WORLD, layers, config), words, zeros_words);
    case_close(&run);
}

static void test_configuration(void **state) {
    (void)state;
    lks_train_config config = case_config();
    if (is_other()) config.batch_size = 31;
    check_config(&config, case_layers, "\"batch_size: 31\"", "\"batch_size: 30\"");

    config = case_config();
    if (is_other()) config.optimizer.options = "lr=0.06";
    check_config(&config, case_layers, "\"optimizer: sgd lr=0.06\"", "lr=0.05 momentum=0.9");

    config = case_config();
    lks_param_group groups[] = {{.params = "fc.*", .lr_scale = is_other() ? 2 : 3}, {0}};
    config.groups = groups;
    check_config(&config, case_layers, "\"group 0: fc.*, none, lr_scale 2\"", "lr_scale 3");

    config = case_config();
    if (is_other()) config.bucket_bytes = LKS_BUCKET_BYTES_AUTO;
    check_config(&config, case_layers, "this rank has \"bucket_bytes: auto\"", "rank 0 does not");

    lks_layer_spec layers[sizeof case_layers / sizeof *case_layers];
    memcpy(layers, case_layers, sizeof layers);
    if (is_other()) layers[5].options = "p=0.3";
    config = case_config();
    check_config(&config, layers, "dropout  p=0.3\"", "dropout  p=0.2\"");
    mpi_verdict();
}

/* Of the training or the validation data one label is another, or one sample is missing. */
static void check_data(bool validation, bool shorter, const char *words) {
    static train_case run;
    memset(&run, 0, sizeof run);
    case_fill(&run);
    const lks_train_config config = case_config();
    const lks_context_config context = {.device = "cpu", .threads = 1, .verbosity = 0};
    int64_t first = validation ? CASE_SAMPLES - 40 : 0;
    if (is_other() && !shorter) run.labels[first] = (run.labels[first] + 1) % CASE_CLASSES;
    int less_train = is_other() && shorter && !validation,
        less = is_other() && shorter && validation;
    REQUIRE_OK(lks_context_create(MPI_COMM_WORLD, &context, &run.context));
    REQUIRE_OK(lks_dataset_from_arrays(CASE_SAMPLES - 40 - less_train, &case_input, run.inputs,
                                       run.labels, NULL, NULL, &run.train));
    REQUIRE_OK(lks_dataset_from_arrays(
        40 - less, &case_input, run.inputs + (CASE_SAMPLES - 40) * CASE_INPUT,
        run.labels + CASE_SAMPLES - 40, NULL, NULL, &run.validation));
    check_refused(lks_trainer_create(run.context, case_layers, &case_input, run.train,
                                     run.validation, &config, &run.trainer),
                  words, "have the hash");
    case_close(&run);
}

static void test_data(void **state) {
    (void)state;
    check_data(false, false, "\"training data: 163 samples, ");
    check_data(false, true, "\"training data: 162 samples, ");
    check_data(true, false, "\"validation data: 40 samples, ");
    check_data(true, true, "\"validation data: 39 samples, ");
    mpi_verdict();
}

/* One bit of one number is another one. With zero_stage 0 no rank's parameters come from others. */
static void test_parameters(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    config.zero_stage = 0;
    config.check_sync = 2;
    bool done;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    for (int step = 1; step <= 3; step++)
        REQUIRE_OK(lks_step(run.trainer, &done));
    const lks_param *param = NULL;
    for (int i = 0; i < lks_graph_param_count(run.trainer->graph); i++)
        if (strcmp(lks_graph_param(run.trainer->graph, i)->name, "fc.bias") == 0)
            param = lks_graph_param(run.trainer->graph, i);
    MPI_REQUIRE(param != NULL);
    uint32_t bits;
    float *number = run.trainer->params.masters + param->offset + 3;
    memcpy(&bits, number, sizeof bits);
    bits ^= is_other();
    memcpy(number, &bits, sizeof bits);
    check_refused(lks_trainer_check_sync(run.trainer), "after 3 steps, first in fc.bias: hash ",
                  "on rank 0");
    check_refused(lks_step(run.trainer, &done), "after 4 steps, first in ", "on rank 0");
    case_close(&run);
    mpi_verdict();
}

static void test_alike_at_every_stage(void **state) {
    (void)state;
    static train_case run;
    for (int stage = 0; stage <= 2; stage++) {
        lks_train_config config = case_config();
        config.zero_stage = stage;
        config.check_sync = 1;
        config.epochs = 1;
        REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_fit(run.trainer));
        case_close(&run);
    }
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_alike_at_every_stage),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
