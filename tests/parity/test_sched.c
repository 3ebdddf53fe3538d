/* Every schedule against torch.optim.lr_scheduler over 200 epochs. */
#include "sched/sched.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parity/golden.h"

enum { EPOCHS = 200 };

/* Relative: both sides compute in float64, in the same order. */
static const double TOLERANCE = 1e-12;

#define assert_ok(call)                                                                        \
    do {                                                                                       \
        lks_status status_ = (call);                                                           \
        if (status_ != LKS_OK) fail_msg("%s: %s", lks_status_text(status_), lks_last_error()); \
    } while (0)

static void read_doubles(lks_h5_file *file, const char *path, double *out) {
    lks_h5_array *array;
    assert_ok(lks_h5_open_array(file, path, &array));
    assert_ok(lks_h5_read(array, 0, EPOCHS, LKS_F64, out));
    lks_h5_close_array(array);
}

/* tools/golden/sched.py has the same. */
static double decay(void *data, int64_t epoch) {
    (void)data;
    return pow(0.95, (double)epoch);
}
static double inverse(void *data, int64_t epoch) {
    return 1 / (1 + *(const double *)data * (double)epoch);
}

static lks_schedule *create(const lks_spec *spec, const char *function, double base_lr) {
    static double slope = 0.1;
    lks_schedule_lambda lambda = {0};
    if (strcmp(function, "decay") == 0) lambda = (lks_schedule_lambda){decay, NULL};
    if (strcmp(function, "inverse") == 0) lambda = (lks_schedule_lambda){inverse, &slope};
    lks_schedule *schedule;
    assert_ok(lks_schedule_create_lambda(spec, base_lr, &lambda, &schedule));
    return schedule;
}

/* Moves on by an epoch, by way of a saved state every seventh time. */
static void advance(lks_schedule **schedule, const lks_spec *spec, const char *function, int epoch,
                    double metric) {
    lks_schedule_advance(*schedule, &(lks_schedule_input){.metric = metric});
    if (epoch % 7 != 3) return;
    double state[LKS_SCHEDULE_STATE_MAX];
    int count = lks_schedule_get_state(*schedule, state);
    lks_schedule_destroy(*schedule);
    *schedule = create(spec, function, 1e9); /* the base rate is part of the state */
    assert_ok(lks_schedule_set_state(*schedule, state, count));
}

static bool is_near(double got, double want) {
    return fabs(got - want) <= TOLERANCE * fabs(want);
}

static void run_case(lks_h5_file *file, int index, const double *metrics) {
    char name[32];
    double rates[EPOCHS], momenta[EPOCHS];
    snprintf(name, sizeof name, "case%d", index);
    char *type = golden_text(file, name, "type");
    char *options = golden_text(file, name, "options");
    char *function = golden_text(file, name, "lambda");
    double base_lr = golden_number(file, name, "base_lr");
    read_doubles(file, golden_path(name, "lr"), rates);
    bool cycles = golden_int(file, name, "cycles_momentum");
    if (cycles) read_doubles(file, golden_path(name, "momentum"), momenta);

    lks_spec spec = {.type = type, .options = options};
    lks_schedule *schedule = create(&spec, function, base_lr);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        double lr = lks_schedule_lr(schedule), momentum = lks_schedule_momentum(schedule);
        if (!is_near(lr, rates[epoch]))
            fail_msg("%s %s, epoch %d: %.17g, expected %.17g", type, options, epoch, lr,
                     rates[epoch]);
        if (cycles ? !is_near(momentum, momenta[epoch]) : !isnan(momentum))
            fail_msg("%s %s, epoch %d: momentum %.17g, expected %.17g", type, options, epoch,
                     momentum, cycles ? momenta[epoch] : NAN);
        advance(&schedule, &spec, function, epoch, metrics[epoch]);
    }
    lks_schedule_destroy(schedule);
    free(function);
    free(options);
    free(type);
}

static void every_case_is_pytorchs(void **state) {
    (void)state;
    lks_h5_file *file = golden_open("sched.h5");
    double metrics[EPOCHS];
    read_doubles(file, "metrics", metrics);
    int cases = (int)golden_int(file, "/", "cases");
    assert_true(cases > 45);
    for (int i = 0; i < cases; i++)
        run_case(file, i, metrics);
    assert_ok(lks_h5_close(file));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_is_pytorchs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
