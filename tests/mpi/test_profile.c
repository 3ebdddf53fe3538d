/* A profile watches: the run beside it is the same, and what it is not asked for it refuses. */
#include "mpi/train_case.h"

#include "device/backend.h"
#include "train/trainer.h"

static lks_status run(train_case *c, int64_t profile_steps) {
    lks_train_config config = case_config();
    lks_status status = case_open(c, MPI_COMM_WORLD, &config);
    if (!status && profile_steps > 0) status = lks_trainer_profile(c->trainer, profile_steps);
    return status ? status : lks_fit(c->trainer);
}

/* Shorter than the run, and longer: it ends with the run. */
static void test_same_bits(void **state) {
    (void)state;
    static const int64_t lengths[] = {4, 1000};
    static train_case plain, profiled;
    REQUIRE_OK(run(&plain, 0));
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        REQUIRE_OK(run(&profiled, lengths[i]));
        MPI_CHECK(case_same_params(plain.trainer, profiled.trainer));
        MPI_CHECK(profiled.trainer->profile == NULL);
        MPI_CHECK(!lks_device_is_traced(profiled.context->device));
        case_close(&profiled);
    }
    case_close(&plain);
    mpi_verdict();
}

/* ---- a clock that stops ---- */

static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
} stopped;

static lks_status no_seconds(lks_event *from, lks_event *to, double *out) {
    (void)from;
    (void)to;
    (void)out;
    return lks_fail(LKS_EDEVICE, "the clock has stopped");
}

/* On one rank, in the warm-up or behind it: the run goes on without a profile. */
static void test_fails_alone(void **state) {
    (void)state;
    static train_case plain, profiled;
    REQUIRE_OK(run(&plain, 0));
    for (int good_steps = 0; good_steps <= LKS_PROFILE_WARM_UP_STEPS;
         good_steps += LKS_PROFILE_WARM_UP_STEPS) {
        lks_train_config config = case_config();
        REQUIRE_OK(case_open(&profiled, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_trainer_profile(profiled.trainer, 4));
        bool epoch_done;
        for (int step = 0; step < good_steps; step++)
            REQUIRE_OK(lks_step(profiled.trainer, &epoch_done));
        lks_device *device = profiled.context->device;
        const lks_device_backend *good = device->backend;
        stopped.backend = *good;
        stopped.streams = *good->streams;
        stopped.streams.event_seconds = no_seconds;
        stopped.backend.streams = &stopped.streams;
        if (mpi_check_rank() == mpi_check_size() - 1) device->backend = &stopped.backend;
        REQUIRE_OK(lks_fit(profiled.trainer));
        device->backend = good;
        MPI_CHECK(profiled.trainer->profile == NULL && !lks_device_is_traced(device));
        MPI_CHECK(case_same_params(plain.trainer, profiled.trainer));
        case_close(&profiled);
    }
    case_close(&plain);
    mpi_verdict();
}

/* A run that is given up in the middle of a profile. */
static void test_left_unfinished(void **state) {
    (void)state;
    static train_case c;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open(&c, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_profile(c.trainer, 100));
    bool epoch_done;
    REQUIRE_OK(lks_step(c.trainer, &epoch_done));
    MPI_CHECK(lks_device_is_traced(c.context->device));
    case_close(&c);
    mpi_verdict();
}

static void test_refused(void **state) {
    (void)state;
    static train_case c;
    lks_train_config config = case_config();
    REQUIRE_OK(case_open(&c, MPI_COMM_WORLD, &config));
    MPI_CHECK(lks_trainer_profile(c.trainer, 0) == LKS_EINVAL);
    MPI_CHECK(lks_trainer_profile(c.trainer, 3) == LKS_OK);
    MPI_CHECK(lks_trainer_profile(c.trainer, 3) == LKS_EINVAL);
    case_close(&c);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_fails_alone),
        cmocka_unit_test(test_left_unfinished),
        cmocka_unit_test(test_refused),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
