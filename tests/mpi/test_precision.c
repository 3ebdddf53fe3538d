/* Training in bfloat16: sharded in every way with the same bits, resumed with the same bits, in the
 * memory that its formula gives, and close to float32. */
#include <stdio.h>
#include <unistd.h>

#include "mpi/train_case.h"
#include "train/trainer.h"

static lks_train_config adam_config(int stage) {
    lks_train_config config = case_config();
    config.zero_stage = stage;
    config.optimizer = (lks_spec){.type = "adam", .options = "lr=0.01"};
    return config;
}

static lks_status open_run(train_case *run, const char *precision, const lks_train_config *config) {
    const lks_context_config context = {.device = "cpu", .threads = 1, .precision = precision};
    lks_status status = case_open_in(run, MPI_COMM_WORLD, &context);
    return status ? status
                  : lks_trainer_create(run->context, case_layers, &case_input, run->train,
                                       run->validation, config, &run->trainer);
}

/* The parameters that are computed with, and this rank's masters. */
static bool same_state(const lks_trainer *a, const lks_trainer *b) {
    return memcmp(a->params.flat, b->params.flat, a->params.flat_bytes) == 0 &&
           (a->plan->zero_stage != b->plan->zero_stage ||
            memcmp(a->params.masters, b->params.masters, a->params.master_bytes) == 0);
}

static void stages_give_the_same_bits(void **state) {
    (void)state;
    static train_case runs[CASE_STAGES];
    for (int stage = 0; stage < CASE_STAGES; stage++) {
        const lks_train_config config = adam_config(stage);
        REQUIRE_OK(open_run(&runs[stage], "bf16", &config));
        REQUIRE_OK(lks_fit(runs[stage].trainer));
        MPI_CHECK(same_state(runs[stage].trainer, runs[0].trainer));
    }
    for (int stage = 0; stage < CASE_STAGES; stage++)
        case_close(&runs[stage]);
    mpi_verdict();
}

/* With P parameters, padding included, and N ranks: 2 P for those computed with, 2 P for gradients,
 * and 12 P / N for masters and Adam's two states; 12 P where every rank updates all. */
static void memory_is_that_of_the_formula(void **state) {
    (void)state;
    for (int stage = 0; stage < 2; stage++) {
        static train_case run;
        const lks_train_config config = adam_config(stage);
        REQUIRE_OK(open_run(&run, "bf16", &config));
        const lks_trainer *t = run.trainer;
        const size_t count = (size_t)t->plan->padded_count;
        const size_t part = stage == 0 ? count : count / (size_t)mpi_check_size();
        MPI_CHECK(t->params.flat_bytes == 2 * count);
        MPI_CHECK(lks_exchange_grad_bytes(t->exchange) == 2 * count);
        MPI_CHECK(t->params.master_bytes + lks_optimizer_state_bytes(t->optimizer) == 12 * part);
        case_close(&run);
    }
    mpi_verdict();
}

/* A run that is saved after two of four epochs, restored into another trainer and gone on with. */
static void resumes_with_the_same_bits(void **state) {
    (void)state;
    static train_case whole, first, second;
    char path[64];
    int parent = (int)getppid(); /* the ranks of a host have one */
    MPI_Bcast(&parent, 1, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(path, sizeof path, "/tmp/lockstep-precision-%d.h5", parent);
    const lks_train_config config = adam_config(1);
    REQUIRE_OK(open_run(&whole, "bf16", &config));
    REQUIRE_OK(lks_fit(whole.trainer));
    REQUIRE_OK(open_run(&first, "bf16", &config));
    for (int epoch = 0; epoch < 2; epoch++)
        REQUIRE_OK(lks_epoch(first.trainer, NULL));
    REQUIRE_OK(lks_trainer_save(first.trainer, path));
    REQUIRE_OK(open_run(&second, "bf16", &config));
    REQUIRE_OK(lks_trainer_restore(second.trainer, path));
    MPI_CHECK(same_state(first.trainer, second.trainer));
    REQUIRE_OK(lks_fit(second.trainer));
    MPI_CHECK(same_state(whole.trainer, second.trainer));
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) unlink(path);
    case_close(&whole);
    case_close(&first);
    case_close(&second);
    mpi_verdict();
}

/* A rounding to bfloat16 is wrong by 2^-9 of a number on average at most. It happens a handful of
 * times on the way of a sample through two layers and back, and independently for each, so that a
 * mean over all samples differs by some units of 2^-9 at most: 0.02, with losses near 1. */
static void losses_are_close_to_float32(void **state) {
    (void)state;
    static train_case runs[2];
    lks_epoch_result results[2];
    for (int r = 0; r < 2; r++) {
        const lks_train_config config = adam_config(1);
        REQUIRE_OK(open_run(&runs[r], r == 0 ? "fp32" : "bf16", &config));
        REQUIRE_OK(lks_epoch(runs[r].trainer, &results[r]));
    }
    MPI_CHECK(fabs(results[0].train_loss - results[1].train_loss) < 0.02);
    MPI_CHECK(results[0].train_loss != results[1].train_loss);
    case_close(&runs[0]);
    case_close(&runs[1]);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_give_the_same_bits),
        cmocka_unit_test(memory_is_that_of_the_formula),
        cmocka_unit_test(resumes_with_the_same_bits),
        cmocka_unit_test(losses_are_close_to_float32),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
