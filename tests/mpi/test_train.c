/* Training over ranks: the number of ranks, the sharding and a second run change nothing but
 * rounding, and every way to stop or fail is the same on all ranks. */
#include "mpi/train_case.h"

#include "h5/h5.h"

static bool close_to(double a, double b, double relative) {
    return fabs(a - b) <= relative * fmax(fabs(a), fabs(b));
}

/* 1e-4 relative: what float32 sums in another order may drift apart over 4 epochs of SGD on this
 * network (measured: below 1e-5). */
static void test_any_number_of_ranks_trains_alike(void **state) {
    (void)state;
    lks_train_config config = case_config();
    static train_case together, alone;
    REQUIRE_OK(case_open(&together, MPI_COMM_WORLD, &config));
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    MPI_CHECK(
        case_same_params(together.trainer, alone.trainer)); /* initial weights: the same bits */
    REQUIRE_OK(lks_fit(together.trainer));
    REQUIRE_OK(lks_fit(alone.trainer));

    int64_t count_a, count_b;
    const lks_epoch_result *a = lks_trainer_history(together.trainer, &count_a);
    const lks_epoch_result *b = lks_trainer_history(alone.trainer, &count_b);
    MPI_REQUIRE(count_a == config.epochs && count_b == config.epochs);
    for (int64_t e = 0; e < count_a; e++) {
        MPI_CHECK(close_to(a[e].train_loss, b[e].train_loss, 1e-4));
        MPI_CHECK(close_to(a[e].val_loss, b[e].val_loss, 1e-4));
        MPI_CHECK(a[e].lr == b[e].lr);
        MPI_CHECK(a[e].epoch == e + 1);
    }
    MPI_CHECK(a[3].train_loss < 0.8 * a[0].train_loss); /* it learns */
    MPI_CHECK(a[3].val_acc > 0.5);
    MPI_CHECK(a[0].lr == 0.05 && a[2].lr == 0.025);
    MPI_CHECK(lks_trainer_end(together.trainer) == LKS_END_EPOCHS);
    case_close(&together);
    case_close(&alone);
    mpi_verdict();
}

static void test_twice_gives_the_same_bits_and_so_does_sharding(void **state) {
    (void)state;
    lks_train_config config = case_config();
    static train_case first, second, unsharded;
    REQUIRE_OK(case_open(&first, MPI_COMM_WORLD, &config));
    REQUIRE_OK(case_open(&second, MPI_COMM_WORLD, &config));
    config.zero_stage = 0;
    REQUIRE_OK(case_open(&unsharded, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(first.trainer));
    REQUIRE_OK(lks_fit(second.trainer));
    REQUIRE_OK(lks_fit(unsharded.trainer));
    MPI_CHECK(case_same_params(first.trainer, second.trainer));
    MPI_CHECK(case_same_params(first.trainer, unsharded.trainer));
    case_close(&first);
    case_close(&second);
    case_close(&unsharded);
    mpi_verdict();
}

/* Every rank must end with the parameters of rank 0. */
static void test_all_ranks_end_with_the_same_parameters(void **state) {
    (void)state;
    lks_train_config config = case_config();
    config.optimizer = (lks_spec){.type = "adamw", .options = "lr=3e-3"};
    static train_case run;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    int64_t count;
    float *mine = case_params(run.trainer, &count);
    MPI_REQUIRE(mine != NULL);
    float *first = malloc((size_t)count * sizeof(float));
    MPI_REQUIRE(first != NULL);
    memcpy(first, mine, (size_t)count * sizeof(float));
    MPI_Bcast(first, (int)count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    MPI_CHECK(memcmp(first, mine, (size_t)count * sizeof(float)) == 0);
    free(first);
    free(mine);
    case_close(&run);
    mpi_verdict();
}

/* One sample for each rank, and a last batch (163 = 81 * 2 + 1 = 54 * 3 + 1 = 40 * 4 + 3) that
 * leaves ranks without any. */
static void test_ranks_without_samples(void **state) {
    (void)state;
    lks_train_config config = case_config();
    config.batch_size = mpi_check_size() == 1 ? 2 : mpi_check_size();
    config.epochs = 1;
    config.optimizer.options = "lr=1e-3";
    static train_case together, alone;
    REQUIRE_OK(case_open(&together, MPI_COMM_WORLD, &config));
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    REQUIRE_OK(lks_fit(together.trainer));
    REQUIRE_OK(lks_fit(alone.trainer));
    int64_t count;
    double a = lks_trainer_history(together.trainer, &count)[0].train_loss;
    double b = lks_trainer_history(alone.trainer, &count)[0].train_loss;
    MPI_CHECK(close_to(a, b, 1e-4));
    case_close(&together);
    case_close(&alone);
    mpi_verdict();
}

/* Micro-batches of 3 samples add up to the batch; a rank whose part is smaller takes part with
 * none. Without batch norm, whose statistics are of the micro-batch. 1e-5 relative: float32
 * gradients summed in another order over 4 epochs. */
static void test_micro_batches_add_up(void **state) {
    (void)state;
    static const lks_layer_spec layers[] = {
        {.type = "conv2d", .options = "out_channels=6 kernel_size=3"},
        {.type = "silu"},
        {.type = "flatten"},
        {.type = "dropout", .options = "p=0.2"},
        {.type = "linear", .options = "out_features=5"},
        {0},
    };
    static train_case whole, micro;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open_layers(&whole, MPI_COMM_WORLD, layers, &config));
    config.micro_batch_size = 3;
    REQUIRE_OK(case_open_layers(&micro, MPI_COMM_WORLD, layers, &config));
    REQUIRE_OK(lks_fit(whole.trainer));
    REQUIRE_OK(lks_fit(micro.trainer));
    int64_t count;
    const lks_epoch_result *a = lks_trainer_history(whole.trainer, &count);
    const lks_epoch_result *b = lks_trainer_history(micro.trainer, &count);
    for (int64_t e = 0; e < count; e++) {
        MPI_CHECK(close_to(a[e].train_loss, b[e].train_loss, 1e-5));
        MPI_CHECK(close_to(a[e].val_loss, b[e].val_loss, 1e-5));
    }
    case_close(&whole);
    case_close(&micro);

    /* with batch norm over the ranks it must not hang, whatever the parts */
    REQUIRE_OK(case_open(&micro, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(micro.trainer));
    case_close(&micro);
    mpi_verdict();
}

static double halve(void *data, int64_t epoch) {
    return *(double *)data / (double)(1 << epoch);
}

/* Only rank 0's schedule counts, even where the others' functions say something else: the rates
 * that were used are the same on every rank to the last bit. */
static void test_rank_0_decides_the_rates(void **state) {
    (void)state;
    static train_case run, alone;
    lks_train_config config = case_config();
    double factor = mpi_check_rank() == 0 ? 1 : 3;
    config.schedule = (lks_spec){.type = "lambda"};
    config.lr_lambda = halve;
    config.lr_lambda_data = &factor;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    int64_t count;
    const lks_epoch_result *history = lks_trainer_history(run.trainer, &count);
    for (int64_t e = 0; e < count; e++)
        MPI_CHECK(history[e].lr == 0.05 / (double)(1 << e));

    double one = 1;
    config.lr_lambda_data = &one;
    REQUIRE_OK(case_open(&alone, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(alone.trainer));
    MPI_CHECK(case_same_params(run.trainer, alone.trainer));
    case_close(&run);
    case_close(&alone);

    config.schedule = (lks_spec){.type = "one_cycle", .options = "max_lr=0.1 total_steps=20"};
    config.optimizer = (lks_spec){.type = "adagrad"};
    MPI_CHECK(case_open(&run, MPI_COMM_WORLD, &config) == LKS_ECONFIG);
    MPI_CHECK(strstr(lks_last_error(), "cycle_momentum") != NULL);
    case_close(&run);
    mpi_verdict();
}

static lks_action stop_on_last_rank(void *data, const lks_epoch_result *result) {
    (void)data;
    return mpi_check_rank() == mpi_check_size() - 1 && result->epoch == 2 ? LKS_STOP : LKS_CONTINUE;
}

static void test_one_rank_can_stop_all(void **state) {
    (void)state;
    lks_train_config config = case_config();
    config.callbacks.on_epoch = stop_on_last_rank;
    static train_case run;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_epochs_done(run.trainer) == 2);
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_CALLBACK);
    case_close(&run);
    mpi_verdict();
}

static void test_early_stopping(void **state) {
    (void)state;
    lks_train_config config = case_config();
    config.epochs = 50;
    config.early_stopping =
        "monitor=val_loss patience=3 min_delta=10 restore_best=true"; /* nothing improves by 10 */
    static train_case run, two;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    MPI_CHECK(lks_trainer_end(run.trainer) == LKS_END_EARLY_STOPPING);
    MPI_CHECK(lks_trainer_epochs_done(run.trainer) ==
              4); /* the first is the best, then 3 without improvement */

    config = case_config();
    config.epochs = 1; /* restore_best: what the first epoch left */
    REQUIRE_OK(case_open(&two, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(two.trainer));
    MPI_CHECK(case_same_params(run.trainer, two.trainer));
    case_close(&run);
    case_close(&two);
    mpi_verdict();
}

/* ---- failures ---- */

static void test_divergence_is_an_error_on_all_ranks(void **state) {
    (void)state;
    lks_train_config config = case_config();
    config.optimizer.options = "lr=1e30";
    static train_case run;
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    MPI_CHECK(lks_fit(run.trainer) == LKS_ENUMERIC);
    MPI_CHECK(strstr(lks_last_error(), "not a finite number") != NULL);
    case_close(&run);
    mpi_verdict();
}

static void test_bad_configurations(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    config.batch_size = mpi_check_size() - 1; /* 0 on one rank */
    MPI_CHECK(case_open(&run, MPI_COMM_WORLD, &config) == LKS_ECONFIG);
    MPI_CHECK(strstr(lks_last_error(), "batch_size") != NULL);
    case_close(&run);

    config = case_config();
    config.loss.type = "mse";
    MPI_CHECK(case_open(&run, MPI_COMM_WORLD, &config) == LKS_EDATA);
    MPI_CHECK(strstr(lks_last_error(), "labels") != NULL);
    case_close(&run);

    config = case_config();
    config.optimizer.options = "lr=0.1 momentun=0.9";
    MPI_CHECK(case_open(&run, MPI_COMM_WORLD, &config) == LKS_ECONFIG);
    MPI_CHECK(strstr(lks_last_error(), "momentum") != NULL);
    case_close(&run);
    mpi_verdict();
}

/* A bad value that the loader meets in the middle of an epoch, on the one rank that reads it: all
 * ranks give up together, with the same message. The budget of 1 byte makes the loader read as it
 * goes. */
static void test_bad_data_on_one_rank_ends_all(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    memset(&run, 0, sizeof(run));
    case_fill(&run);
    char path[64];
    snprintf(path, sizeof(path), "bad-data-%d.h5", mpi_check_size());
    if (mpi_check_rank() == 0) {
        run.inputs[100 * CASE_INPUT + 3] = NAN;
        const lks_shape inputs = {4, {CASE_SAMPLES, CASE_CHANNELS, CASE_SIDE, CASE_SIDE}},
                        labels = {1, {CASE_SAMPLES}};
        lks_h5_file *file = NULL;
        lks_h5_array *x = NULL, *y = NULL;
        MPI_CHECK(lks_h5_create(path, &file) == LKS_OK);
        MPI_CHECK(lks_h5_create_array(file, "/x", LKS_F32, &inputs, &x) == LKS_OK);
        MPI_CHECK(lks_h5_create_array(file, "/y", LKS_I64, &labels, &y) == LKS_OK);
        MPI_CHECK(lks_h5_write(x, 0, CASE_SAMPLES * CASE_INPUT, LKS_F32, run.inputs) == LKS_OK);
        MPI_CHECK(lks_h5_write(y, 0, CASE_SAMPLES, LKS_I64, run.labels) == LKS_OK);
        lks_h5_close_array(x);
        lks_h5_close_array(y);
        MPI_CHECK(lks_h5_close(file) == LKS_OK);
    }
    mpi_verdict();

    char options[128];
    snprintf(options, sizeof(options), "file=%s inputs=x targets=y", path);
    const lks_spec spec = {.type = "hdf5", .options = options};
    const lks_context_config context = {.device = "cpu", .threads = 1, .verbosity = 0};
    REQUIRE_OK(lks_context_create(MPI_COMM_WORLD, &context, &run.context));
    REQUIRE_OK(lks_dataset_open(&spec, 1, &run.train));
    REQUIRE_OK(lks_trainer_create(run.context, case_layers, &case_input, run.train, NULL, &config,
                                  &run.trainer));
    MPI_CHECK(lks_fit(run.trainer) == LKS_EDATA);
    MPI_CHECK(strstr(lks_last_error(), "[100") != NULL); /* which sample */
    MPI_CHECK(strstr(lks_last_error(), path) != NULL);
    case_close(&run);
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) remove(path);
    mpi_verdict();
}

/* ---- the other calls ---- */

static void test_predict_and_validate(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));

    double loss, acc, again;
    REQUIRE_OK(lks_validate(run.trainer, NULL, &loss, &acc));
    REQUIRE_OK(lks_validate(run.trainer, run.validation, &again, NULL));
    MPI_CHECK(loss == again);
    int64_t count;
    const lks_epoch_result *history = lks_trainer_history(run.trainer, &count);
    MPI_CHECK(loss == history[count - 1].val_loss && acc == history[count - 1].val_acc);

    /* each rank predicts another number of samples, rank 0 none: their accuracy on all 40 is
     * validation's */
    static float outputs[40 * CASE_CLASSES];
    REQUIRE_OK(lks_predict(run.trainer, 0, NULL, NULL));
    const float *inputs = run.inputs + (CASE_SAMPLES - 40) * CASE_INPUT;
    REQUIRE_OK(lks_predict(run.trainer, 40, inputs, outputs));
    int correct = 0;
    for (int i = 0; i < 40; i++) {
        int best = 0;
        for (int c = 1; c < CASE_CLASSES; c++)
            if (outputs[i * CASE_CLASSES + c] > outputs[i * CASE_CLASSES + best]) best = c;
        correct += best == run.labels[CASE_SAMPLES - 40 + i];
    }
    MPI_CHECK(fabs(correct / 40.0 - acc) < 1e-12);
    case_close(&run);
    mpi_verdict();
}

static void test_params_by_name(void **state) {
    (void)state;
    static train_case run;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    MPI_CHECK(strcmp(lks_trainer_param_name(run.trainer, 0), "conv1.weight") == 0);
    lks_shape shape;
    float bias[CASE_CLASSES] = {1, 2, 3, 4, 5}, read[CASE_CLASSES];
    MPI_CHECK(lks_trainer_set_param(run.trainer, "fc.bias", bias) == LKS_OK);
    MPI_CHECK(lks_trainer_get_param(run.trainer, "fc.bias", &shape, read) == LKS_OK);
    MPI_CHECK(shape.rank == 1 && shape.dim[0] == CASE_CLASSES &&
              memcmp(bias, read, sizeof(bias)) == 0);
    MPI_CHECK(lks_trainer_get_param(run.trainer, "fc.wait", NULL, NULL) == LKS_EINVAL);
    case_close(&run);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_ranks_trains_alike),
        cmocka_unit_test(test_twice_gives_the_same_bits_and_so_does_sharding),
        cmocka_unit_test(test_all_ranks_end_with_the_same_parameters),
        cmocka_unit_test(test_ranks_without_samples),
        cmocka_unit_test(test_micro_batches_add_up),
        cmocka_unit_test(test_rank_0_decides_the_rates),
        cmocka_unit_test(test_one_rank_can_stop_all),
        cmocka_unit_test(test_early_stopping),
        cmocka_unit_test(test_divergence_is_an_error_on_all_ranks),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_bad_data_on_one_rank_ends_all),
        cmocka_unit_test(test_predict_and_validate),
        cmocka_unit_test(test_params_by_name),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
