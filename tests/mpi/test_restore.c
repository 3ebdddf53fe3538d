/* Any number of ranks restores what any number saved, however it was sharded; what is refused, and
 * that a refusal changes nothing; weights alone; the newest checkpoint of a folder. */
#include "mpi/resume_case.h"
#include "train/compare.h"

/* The first `size` ranks; MPI_COMM_NULL on the others. */
static MPI_Comm first_ranks(int size) {
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, mpi_check_rank() < size ? 0 : MPI_UNDEFINED, 0, &comm);
    return comm;
}

/* Restores `from` on `comm` and saves it again: the same bits. Then trains on, to *out_loss. */
static void restore_and_save(MPI_Comm comm, int zero_stage, const char *from, const char *to,
                             double *out_loss) {
    static train_case run;
    lks_train_config config = resume_config();
    config.optimizer = (lks_spec){.type = "adamw", .options = "amsgrad=true"};
    config.early_stopping = "monitor=val_loss restore_best=true";
    config.zero_stage = zero_stage;
    config.micro_batch_size = 0; /* batch norm would see others at another number of ranks */
    lks_status status = resume_open(&run, comm, &config);
    if (status == LKS_OK) status = lks_trainer_restore(run.trainer, from);
    if (status == LKS_OK) status = lks_trainer_save(run.trainer, to);
    MPI_CHECK(status == LKS_OK && same_arrays(from, to));
    if (status == LKS_OK) status = lks_fit(run.trainer);
    int64_t count = 0;
    const lks_epoch_result *history =
        status == LKS_OK ? lks_trainer_history(run.trainer, &count) : NULL;
    MPI_CHECK(count == RESUME_EPOCHS);
    *out_loss = count == RESUME_EPOCHS ? history[count - 1].train_loss : NAN;
    case_close(&run);
}

static void test_any_number_of_ranks(void **state) {
    (void)state;
    static train_case saver;
    char path[64], again[64];
    snprintf(path, sizeof path, "%s", folder_of("restore-from.h5"));
    lks_train_config config = resume_config();
    config.optimizer = (lks_spec){.type = "adamw", .options = "amsgrad=true"};
    config.early_stopping = "monitor=val_loss restore_best=true";
    for (int stage = 0; stage <= 2; stage++) {
        config.zero_stage = stage;
        REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_epoch(saver.trainer, NULL)); /* so that there is a best model */
        bool done;
        REQUIRE_OK(lks_step(saver.trainer, &done));
        REQUIRE_OK(lks_trainer_save(saver.trainer, path));
        double first = NAN;
        for (int size = 1; size <= mpi_check_size(); size++) {
            MPI_Comm comm = first_ranks(size);
            snprintf(again, sizeof again, "restore-to-%d.h5", mpi_check_size());
            double loss = NAN;
            if (comm != MPI_COMM_NULL) {
                restore_and_save(comm, (stage + size) % 3, path, again, &loss);
                if (size == 1) first = loss;
                /* the order of float32 sums differs: 6 steps, each with some 1e-6 */
                MPI_CHECK(isnan(first) || fabs(loss - first) < 1e-4 * first);
                MPI_Comm_free(&comm);
            }
            mpi_verdict();
        }
        case_close(&saver);
    }
    remove_folder(path);
    remove_folder(again);
    mpi_verdict();
}

static void test_a_checkpoint_of_another_run_is_refused(void **state) {
    (void)state;
    static train_case saver, other;
    const char *path = folder_of("restore-other.h5");
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_step(saver.trainer, &(bool){false}));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    config.optimizer = (lks_spec){.type = "adamw"};
    config.schedule = (lks_spec){.type = "constant"};
    config.seed = 6;
    config.batch_size = 31;
    config.data = "drop_last=true shuffle=false";
    REQUIRE_OK(case_open(&other, MPI_COMM_WORLD, &config));
    other.trainer->sample_hash ^= 1;
    int64_t count;
    float *before = case_params(other.trainer, &count);
    MPI_CHECK(lks_trainer_restore(other.trainer, path) == LKS_ECHECKPOINT);
    static const char *const words[] = {"optimizer is sgd there, adamw here",
                                        "schedule is step there, constant here",
                                        "seed is 5 there, 6 here",
                                        "batch_size is 30 there, 31 here",
                                        "drop_last is false there, true here",
                                        "shuffle is true there, false here",
                                        "the training samples are other ones",
                                        "it has no /model/conv1.weight",
                                        "it has /model/fc1.weight, which this model does not"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        mpi_check(strstr(lks_last_error(), words[i]) != NULL, __FILE__, __LINE__, words[i]);
    MPI_CHECK(lks_trainer_restore(other.trainer, "no-such-file.h5") == LKS_EIO);
    MPI_CHECK(lks_trainer_load_weights(other.trainer, path) == LKS_ECHECKPOINT);
    float *after = case_params(other.trainer, &count);
    MPI_CHECK(before != NULL && after != NULL &&
              memcmp(before, after, (size_t)count * sizeof *after) == 0);
    free(before);
    free(after);
    case_close(&saver);
    case_close(&other);
    remove_folder(path);
    mpi_verdict();
}

/* Few samples are known again by all of them. */
static void test_every_one_of_few_samples_counts(void **state) {
    (void)state;
    enum { FEW = 5 };
    const lks_shape input = {.rank = 1, .dim = {1}};
    int64_t hashes[FEW + 1];
    for (int changed = 0; changed <= FEW; changed++) { /* FEW: none */
        float inputs[FEW] = {0};
        const int64_t labels[FEW] = {0};
        lks_dataset *dataset;
        if (changed < FEW) inputs[changed] = 1;
        REQUIRE_OK(lks_dataset_from_arrays(FEW, &input, inputs, labels, NULL, NULL, &dataset));
        REQUIRE_OK(lks_sample_hash(dataset, &hashes[changed]));
        lks_dataset_destroy(dataset);
    }
    for (int changed = 0; changed < FEW; changed++)
        MPI_CHECK(hashes[changed] != hashes[FEW]);
    mpi_verdict();
}

/* The run file's hyper-parameters hold; the learning rate is the schedule's. */
static void test_other_hyper_parameters_are_taken(void **state) {
    (void)state;
    static train_case saver, other;
    const char *path = folder_of("restore-hyper.h5");
    lks_train_config config = resume_config();
    config.optimizer.options = "lr=0.05 momentum=0.9";
    REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    config.optimizer.options = "lr=0.5 momentum=0.8";
    REQUIRE_OK(resume_open(&other, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_restore(other.trainer, path));
    MPI_CHECK(lks_rates_lr(other.trainer->rates) == 0.05);
    MPI_CHECK(lks_optimizer_momentum(other.trainer->optimizer, 0) == 0.8);
    case_close(&saver);
    case_close(&other);
    remove_folder(path);
    mpi_verdict();
}

/* What watched without restore_best has no best model: early stopping begins anew. */
static void test_restore_best_may_be_turned_on(void **state) {
    (void)state;
    static train_case saver, other;
    const char *path = folder_of("restore-best.h5");
    lks_train_config config = resume_config();
    config.early_stopping = "monitor=val_loss";
    REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_epoch(saver.trainer, NULL));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    MPI_CHECK(saver.trainer->stopping.best_epoch == 1);
    config.early_stopping = "monitor=val_loss restore_best=true";
    REQUIRE_OK(resume_open(&other, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_restore(other.trainer, path));
    MPI_CHECK(other.trainer->position.epoch == 1 && other.trainer->stopping.best_epoch <= 0);
    REQUIRE_OK(lks_fit(other.trainer));
    MPI_CHECK(other.trainer->stopping.best_epoch == 2);
    case_close(&saver);
    case_close(&other);
    remove_folder(path);
    mpi_verdict();
}

/* A file that contradicts itself: one epoch in the history, two finished. */
static void test_a_history_of_another_length_is_refused(void **state) {
    (void)state;
    static train_case run;
    const char *path = folder_of("restore-history.h5");
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    run.trainer->position.epoch = 2;
    REQUIRE_OK(lks_trainer_save(run.trainer, path));
    MPI_CHECK(lks_trainer_restore(run.trainer, path) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "/history: it has 1 epochs, but 2 are finished") != NULL);
    case_close(&run);
    remove_folder(path);
    mpi_verdict();
}

/* A block in the middle of the data is damaged: found while reading, and the run is as before. */
static void test_a_damaged_file_changes_nothing(void **state) {
    (void)state;
    static train_case saver, other;
    const char *path = folder_of("restore-damage.h5");
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_step(saver.trainer, &(bool){false}));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    if (mpi_check_rank() == 0) { /* the bytes of fc1.bias */
        float bias[7];
        MPI_CHECK(lks_trainer_get_param(saver.trainer, "fc1.bias", NULL, bias) == LKS_OK);
        FILE *file = fopen(path, "r+b");
        static char bytes[1 << 20];
        size_t length = fread(bytes, 1, sizeof bytes, file);
        char *found = memmem(bytes, length, bias, sizeof bias);
        MPI_CHECK(found != NULL);
        fseek(file, found == NULL ? 0 : found - bytes, SEEK_SET);
        fputc(found == NULL ? 0 : *found ^ 1, file);
        fclose(file);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    config.epochs = 1;
    REQUIRE_OK(resume_open(&other, MPI_COMM_WORLD, &config));
    int64_t count;
    float *before = case_params(other.trainer, &count);
    MPI_CHECK(lks_trainer_restore(other.trainer, path) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "/model/fc1.bias") != NULL);
    float *after = case_params(other.trainer, &count);
    MPI_CHECK(before != NULL && after != NULL &&
              memcmp(before, after, (size_t)count * sizeof *after) == 0);
    MPI_CHECK(other.trainer->position.global_step == 0);
    REQUIRE_OK(lks_fit(other.trainer));
    free(before);
    free(after);
    case_close(&saver);
    case_close(&other);
    remove_folder(path);
    mpi_verdict();
}

/* Weights of a part of another model. */
static void test_weights_of_another_model(void **state) {
    (void)state;
    static const lks_layer_spec wider[] = {
        {.type = "flatten"},
        {.type = "linear", .name = "fc1", .options = "out_features=7"},
        {.type = "batch_norm", .name = "norm", .options = "synchronize=true"},
        {.type = "relu"},
        {.type = "linear", .name = "fc2", .options = "out_features=6"},
        {.type = "linear", .name = "head", .options = "out_features=5"},
        {0},
    };
    static train_case saver, other;
    const char *path = folder_of("restore-weights.h5");
    lks_train_config config = resume_config();
    REQUIRE_OK(resume_open(&saver, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_step(saver.trainer, &(bool){false}));
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));
    config.seed = 77;
    REQUIRE_OK(case_open_layers(&other, MPI_COMM_WORLD, wider, &config));
    MPI_CHECK(lks_trainer_init_from(other.trainer, path, NULL, NULL) == LKS_ECHECKPOINT);
    MPI_CHECK(
        strstr(lks_last_error(), "/model/fc2.weight has the shape [5, 7] there, [6, 7] here") &&
        strstr(lks_last_error(), "/model/fc2.bias has the shape [5] there, [6] here") &&
        strstr(lks_last_error(), "it has no /model/head.weight"));
    MPI_CHECK(lks_trainer_init_from(other.trainer, path, "fc1.* nrm.*", NULL) == LKS_ECONFIG);
    MPI_CHECK(strstr(lks_last_error(), "params: unknown parameter \"nrm.*\""));

    float head[6 * 5], head_after[6 * 5], mine[7], theirs[7], bias[6], bias_after[6];
    REQUIRE_OK(lks_trainer_get_param(other.trainer, "head.weight", NULL, head));
    REQUIRE_OK(lks_trainer_get_param(other.trainer, "fc2.bias", NULL, bias));
    REQUIRE_OK(lks_trainer_init_from(other.trainer, path, NULL, "fc2.* head.*"));
    REQUIRE_OK(lks_trainer_get_param(other.trainer, "head.weight", NULL, head_after));
    REQUIRE_OK(lks_trainer_get_param(other.trainer, "fc2.bias", NULL, bias_after));
    REQUIRE_OK(lks_trainer_get_param(other.trainer, "fc1.bias", NULL, mine));
    REQUIRE_OK(lks_trainer_get_param(saver.trainer, "fc1.bias", NULL, theirs));
    MPI_CHECK(memcmp(head, head_after, sizeof head) == 0);
    MPI_CHECK(memcmp(bias, bias_after, sizeof bias) == 0);
    MPI_CHECK(memcmp(mine, theirs, sizeof mine) == 0);
    MPI_CHECK(memcmp(lks_graph_buffers(other.trainer->graph),
                     lks_graph_buffers(saver.trainer->graph), 14 * sizeof(float)) == 0);
    REQUIRE_OK(lks_fit(other.trainer)); /* the optimizer is as new */
    case_close(&saver);
    case_close(&other);
    remove_folder(path);
    mpi_verdict();
}

/* A folder that was used before: what was saved last counts, not what was trained longest; a
 * damaged newest one is skipped. */
static void test_auto_takes_what_was_saved_last(void **state) {
    (void)state;
    static train_case run;
    char folder[64], path[128];
    snprintf(folder, sizeof folder, "%s", folder_of("restore-auto"));
    lks_train_config config = resume_config();
    config.output = folder;
    config.checkpoint = "keep_last=0 best=false final=false";
    for (int epochs = 2; epochs >= 1; epochs--) {
        config.epochs = epochs;
        REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_fit(run.trainer));
        case_close(&run);
    }
    bool resumed;
    REQUIRE_OK(resume_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_resume(run.trainer, "auto", &resumed));
    MPI_CHECK(resumed && run.trainer->position.epoch == 1);
    snprintf(path, sizeof path, "%s/checkpoints/epoch-0001.h5", folder);
    if (mpi_check_rank() == 0) MPI_CHECK(truncate(path, 20000) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    REQUIRE_OK(lks_trainer_resume(run.trainer, "auto", &resumed));
    MPI_CHECK(resumed && run.trainer->position.epoch == 2);
    /* none is left that can be read: no fresh start over what may yet be saved by hand */
    snprintf(path, sizeof path, "%s/checkpoints/epoch-0002.h5", folder);
    if (mpi_check_rank() == 0) MPI_CHECK(truncate(path, 20000) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(lks_trainer_resume(run.trainer, "auto", &resumed) == LKS_ECHECKPOINT && !resumed);
    MPI_CHECK(strstr(lks_last_error(), "/checkpoints/epoch-000") != NULL);
    MPI_CHECK(run.trainer->position.epoch == 2);
    remove_folder(folder);
    REQUIRE_OK(lks_trainer_resume(run.trainer, "auto", &resumed));
    MPI_CHECK(!resumed);
    if (mpi_check_rank() == 0) { /* a folder that is none */
        snprintf(path, sizeof path, "%s/checkpoints", folder);
        FILE *file = mkdir(folder, 0777) == 0 ? fopen(path, "w") : NULL;
        MPI_CHECK(file != NULL && fclose(file) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_CHECK(lks_trainer_resume(run.trainer, "auto", &resumed) == LKS_EIO && !resumed);
    MPI_CHECK(strstr(lks_last_error(), "cannot look for checkpoints in") != NULL);
    case_close(&run);
    remove_folder(folder);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_ranks),
        cmocka_unit_test(test_a_checkpoint_of_another_run_is_refused),
        cmocka_unit_test(test_every_one_of_few_samples_counts),
        cmocka_unit_test(test_other_hyper_parameters_are_taken),
        cmocka_unit_test(test_restore_best_may_be_turned_on),
        cmocka_unit_test(test_a_history_of_another_length_is_refused),
        cmocka_unit_test(test_a_damaged_file_changes_nothing),
        cmocka_unit_test(test_weights_of_another_model),
        cmocka_unit_test(test_auto_takes_what_was_saved_last),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
