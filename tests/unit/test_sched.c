/* Schedules: making them, their state, and what is refused. Their numbers are tests/parity's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sched/sched.h"

static lks_schedule *make(const char *type, const char *options, double base_lr) {
    lks_spec spec = {.type = type, .options = options};
    lks_schedule *schedule = NULL;
    if (lks_schedule_create(&spec, base_lr, &schedule)) fail_msg("%s", lks_last_error());
    return schedule;
}

static void advance(lks_schedule *schedule, int times, double metric) {
    for (int i = 0; i < times; i++)
        lks_schedule_advance(schedule, &(lks_schedule_input){.metric = metric});
}

static void constant_is_the_default(void **state) {
    (void)state;
    lks_schedule *schedule = NULL;
    const lks_spec nothing = {0};
    assert_int_equal(lks_schedule_create(NULL, 0.5, &schedule), LKS_OK);
    assert_string_equal(lks_schedule_name(schedule), "constant");
    advance(schedule, 100, NAN);
    assert_true(lks_schedule_lr(schedule) == 0.5);
    assert_false(lks_schedule_per_step(schedule));
    assert_int_equal(lks_schedule_monitor(schedule), -1);
    lks_schedule_destroy(schedule);
    assert_int_equal(lks_schedule_create(&nothing, 0, &schedule), LKS_OK);
    assert_true(lks_schedule_lr(schedule) == 0);
    lks_schedule_destroy(schedule);
    lks_schedule_destroy(NULL);
}

static void the_interval_is_an_option_of_all(void **state) {
    (void)state;
    lks_schedule *schedule = make("step", "step_size=2 interval=step", 1);
    assert_true(lks_schedule_per_step(schedule));
    lks_schedule_destroy(schedule);
    schedule = make("step", "step_size=2 interval=epoch", 1);
    assert_false(lks_schedule_per_step(schedule));
    lks_schedule_destroy(schedule);
    for (int i = 0; lks_schedule_type(i); i++) {
        const lks_option_table *table = lks_schedule_options(lks_schedule_type(i));
        assert_non_null(lks_options_find(table, "interval"));
    }
}

static void the_registry_is_complete(void **state) {
    (void)state;
    int count = 0;
    while (lks_schedule_type(count)) {
        const char *type = lks_schedule_type(count++);
        assert_string_equal(lks_schedule_options(type)->name, type);
    }
    assert_int_equal(count, 12);
    assert_null(lks_schedule_type(-1));
    assert_null(lks_schedule_type(1000));
    assert_null(lks_schedule_options("stair"));
    assert_null(lks_schedule_options(NULL));
}

static void beyond_its_end_a_schedule_stays(void **state) {
    (void)state;
    lks_schedule *schedule = make("one_cycle", "max_lr=1 total_steps=10", 0.1);
    advance(schedule, 9, NAN);
    double last = lks_schedule_lr(schedule);
    assert_true(fabs(last - 1.0 / 25 / 1e4) < 1e-15);
    advance(schedule, 5, NAN);
    assert_true(lks_schedule_lr(schedule) == last);
    lks_schedule_destroy(schedule);
    schedule = make("polynomial", "total_iters=3", 0.1);
    advance(schedule, 50, NAN);
    assert_true(lks_schedule_lr(schedule) == 0);
    lks_schedule_destroy(schedule);
}

/* A phase of one_cycle that has no length: PyTorch divides by zero there. */
static void a_phase_without_length_is_skipped(void **state) {
    (void)state;
    lks_schedule *schedule = make("one_cycle", "max_lr=1 total_steps=10 pct_start=0.1", 0.1);
    assert_true(lks_schedule_lr(schedule) == 1);
    advance(schedule, 1, NAN);
    assert_true(lks_schedule_lr(schedule) < 1);
    lks_schedule_destroy(schedule);
}

static void plateau_watches_what_it_is_told(void **state) {
    (void)state;
    lks_schedule *schedule = make("reduce_on_plateau", "monitor=val_acc patience=1 factor=0.5", 1);
    assert_string_equal(lks_monitor_names[lks_schedule_monitor(schedule)], "val_acc");
    advance(schedule, 1, 0.5);
    advance(schedule, 1, 0.6); /* better, since an accuracy */
    advance(schedule, 1, NAN);
    assert_true(lks_schedule_lr(schedule) == 1);
    advance(schedule, 1, 0.6);
    assert_true(lks_schedule_lr(schedule) == 0.5);
    lks_schedule_destroy(schedule);
}

static void one_cycle_cycles_momentum(void **state) {
    (void)state;
    lks_schedule *schedule =
        make("one_cycle", "max_lr=1 total_steps=11 pct_start=0.5454545454545454", 0.1);
    assert_true(lks_schedule_momentum(schedule) == 0.95);
    advance(schedule, 5, NAN);
    assert_true(fabs(lks_schedule_momentum(schedule) - 0.85) < 1e-12);
    advance(schedule, 50, NAN);
    assert_true(fabs(lks_schedule_momentum(schedule) - 0.95) < 1e-12);
    lks_schedule_destroy(schedule);
    schedule = make("one_cycle", "max_lr=1 total_steps=11 cycle_momentum=false", 0.1);
    assert_true(isnan(lks_schedule_momentum(schedule)));
    lks_schedule_destroy(schedule);
    schedule = make("step", "step_size=3", 0.1);
    assert_true(isnan(lks_schedule_momentum(schedule)));
    lks_schedule_destroy(schedule);
}

/* Only one that runs has a say in momentum, and the last one's end stays. */
static void one_cycles_in_sequence_have_their_own_momentum(void **state) {
    (void)state;
    lks_schedule *schedule =
        make("sequential",
             "schedules=[\"one_cycle max_lr=1 total_steps=10 max_momentum=0.9\",\"one_cycle "
             "max_lr=0.5 total_steps=10 max_momentum=0.7 base_momentum=0.6\",constant] "
             "milestones=[10,20]",
             0.1);
    assert_true(fabs(lks_schedule_momentum(schedule) - 0.9) < 1e-12);
    assert_true(fabs(lks_schedule_lr(schedule) - 1.0 / 25) < 1e-12);
    advance(schedule, 10, NAN);
    assert_true(fabs(lks_schedule_momentum(schedule) - 0.7) < 1e-12);
    assert_true(fabs(lks_schedule_lr(schedule) - 0.5 / 25) < 1e-12);
    advance(schedule, 20, NAN);
    assert_true(fabs(lks_schedule_momentum(schedule) - 0.7) < 1e-12);
    lks_schedule_destroy(schedule);
}

/* PyTorch refuses this combination, so no golden file has it. */
static void a_plateau_may_follow_a_warm_up(void **state) {
    (void)state;
    lks_schedule *schedule = make("sequential",
                                  "schedules=[\"linear start_factor=0.5 total_iters=2\", "
                                  "\"reduce_on_plateau monitor=train_acc patience=1 factor=0.1 "
                                  "verbose=true\"] milestones=[3]",
                                  1);
    assert_string_equal(lks_monitor_names[lks_schedule_monitor(schedule)], "train_acc");
    assert_true(lks_schedule_is_verbose(schedule));
    assert_true(lks_schedule_lr(schedule) == 0.5);
    advance(schedule, 2, 0.9);
    assert_true(lks_schedule_lr(schedule) == 1);
    advance(schedule, 1, 0.9); /* the plateau begins, and knows no metric yet */
    advance(schedule, 2, 0.3); /* its best, and once not better */
    assert_true(lks_schedule_lr(schedule) == 1);
    advance(schedule, 1, 0.3);
    assert_true(fabs(lks_schedule_lr(schedule) - 0.1) < 1e-15);
    lks_schedule_destroy(schedule);
}

static double halve(void *data, int64_t epoch) {
    ++*(int *)data;
    return epoch < 3 ? 1 : 0.5;
}

static void lambda_asks_its_caller(void **state) {
    (void)state;
    int calls = 0;
    lks_schedule_lambda lambda = {halve, &calls};
    lks_spec spec = {.type = "lambda", .options = "interval=step"};
    lks_schedule *schedule = NULL;
    assert_int_equal(lks_schedule_create_lambda(&spec, 0.5, &lambda, &schedule), LKS_OK);
    assert_true(lks_schedule_per_step(schedule));
    assert_true(lks_schedule_lr(schedule) == 0.5);
    advance(schedule, 3, NAN);
    assert_true(lks_schedule_lr(schedule) == 0.25);
    assert_int_equal(calls, 4);
    lks_schedule_destroy(schedule);
    assert_int_equal(lks_schedule_create(&spec, 0.5, &schedule), LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "lr_lambda"));
}

static void bad_state_is_refused(void **state) {
    (void)state;
    lks_schedule *schedule = make("cosine_annealing_warm_restarts", "T_0=3", 1);
    double numbers[LKS_SCHEDULE_STATE_MAX];
    advance(schedule, 4, NAN);
    int count = lks_schedule_get_state(schedule, numbers);
    double lr = lks_schedule_lr(schedule);
    assert_true(count <= LKS_SCHEDULE_STATE_MAX);
    assert_int_equal(lks_schedule_set_state(schedule, numbers, count - 1), LKS_ECHECKPOINT);
    static const double bad[] = {-1, 1.5, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        numbers[0] = bad[i];
        assert_int_equal(lks_schedule_set_state(schedule, numbers, count), LKS_ECHECKPOINT);
    }
    numbers[0] = 4;
    numbers[2] = NAN;
    assert_int_equal(lks_schedule_set_state(schedule, numbers, count), LKS_ECHECKPOINT);
    assert_true(lks_schedule_lr(schedule) == lr); /* nothing was taken over */
    lks_schedule_destroy(schedule);
}

static void refuse(const char *type, const char *options, const char *words) {
    lks_spec spec = {.type = type, .options = options, .where = "run.yaml:7"};
    lks_schedule *schedule = NULL;
    lks_status status = lks_schedule_create(&spec, 0.1, &schedule);
    if (status != LKS_ECONFIG) fail_msg("%s %s: %s", type, options, lks_status_text(status));
    if (!strstr(lks_last_error(), words) || strncmp(lks_last_error(), "run.yaml:7: ", 12) != 0)
        fail_msg("\"%s\" does not say \"%s\"", lks_last_error(), words);
    assert_null(schedule);
}

static void bad_configurations_are_refused(void **state) {
    (void)state;
    refuse("steps", "", "unknown schedule \"steps\": did you mean \"step\"?");
    refuse("qqqqqqqq", "", "expected one of constant, step");
    refuse("step", "", "step_size");
    refuse("step", "step_size=0", "step_size: 0");
    refuse("step", "step_size=3 gamma=0", "gamma: 0");
    refuse("step", "step_size=3 gamma=-1", "> 0");
    refuse("step", "step_size=3 intervall=step", "interval");
    refuse("multi_step", "milestones=[5,3]", "3 stands after 5");
    refuse("multi_step", "milestones=[0]", "milestones");
    refuse("exponential", "gamma=0", "gamma");
    refuse("cosine_annealing", "T_max=0", "T_max: 0");
    refuse("cosine_annealing", "T_max=5 eta_min=-1", "eta_min");
    refuse("cosine_annealing_warm_restarts", "T_0=0", "T_0");
    refuse("cosine_annealing_warm_restarts", "T_0=1 T_mult=0", "T_mult");
    refuse("one_cycle", "max_lr=1", "total_steps");
    refuse("one_cycle", "max_lr=1 total_steps=9 pct_start=1.1", "pct_start");
    refuse("one_cycle", "max_lr=1 total_steps=9 anneal_strategy=sin", "anneal_strategy");
    refuse("one_cycle", "max_lr=1 total_steps=9 base_momentum=1", "base_momentum: 1");
    refuse("one_cycle", "max_lr=1 total_steps=9 max_momentum=-0.1", "max_momentum: -0.1");
    refuse("one_cycle", "max_lr=1 total_steps=9 div_factor=0", "div_factor: 0");
    refuse("one_cycle", "max_lr=1 total_steps=9 final_div_factor=0", "final_div_factor: 0");
    refuse("one_cycle", "max_lr=-1 total_steps=9", "max_lr: -1");
    refuse("linear", "start_factor=0", "start_factor");
    refuse("linear", "end_factor=1.5", "end_factor: 1.5");
    refuse("linear", "total_iters=0", "total_iters");
    refuse("polynomial", "power=0", "power");
    refuse("polynomial", "total_iters=0", "total_iters: 0");
    refuse("constant", "factor=2", "factor");
    refuse("lambda", "", "lr_lambda");
    refuse("reduce_on_plateau", "factor=1", "factor");
    refuse("reduce_on_plateau", "patience=-1", "patience");
    refuse("reduce_on_plateau", "mode=best", "mode");
    refuse("reduce_on_plateau", "monitor=loss", "val_loss, val_acc");
    refuse("reduce_on_plateau", "threshold=-1", "threshold: -1");
    refuse("reduce_on_plateau", "threshold_mode=both", "threshold_mode");
    refuse("reduce_on_plateau", "cooldown=-1", "cooldown: -1");
    refuse("reduce_on_plateau", "min_lr=-1", "min_lr: -1");
    refuse("reduce_on_plateau", "eps=-1", "eps: -1");
    refuse("reduce_on_plateau", "verbose=2", "verbose");
    refuse("reduce_on_plateau", "interval=step", "interval: \"step\"");

    refuse("sequential", "milestones=[1]", "schedules");
    refuse("sequential", "schedules=[] milestones=[]", "the list is empty");
    refuse("sequential", "schedules=[constant] milestones=[1]", "1 for 1 schedules: expected 0");
    refuse("sequential", "schedules=[constant,linear] milestones=[]", "expected 1");
    refuse("sequential", "schedules=[constant,linear] milestones=[0]", "milestones: 0");
    refuse("sequential", "schedules=[constant,linear,linear] milestones=[4,4]", "4 stands after 4");
    refuse("sequential", "schedules=[constant,linaer] milestones=[4]", "schedules[1]: unknown");
    refuse("sequential", "schedules=[constant,\"step gamma=1\"] milestones=[4]",
           "schedules[1]: schedule (step): missing required option: step_size");
    refuse("sequential", "schedules=[\"linear interval=step\"] milestones=[]", "interval");
    refuse("sequential",
           "schedules=[\"sequential schedules=[constant] milestones=[]\"] milestones=[]",
           "cannot stand in a sequence");
    refuse("sequential", "schedules=[reduce_on_plateau] milestones=[] interval=step",
           "needs the interval epoch");
    refuse("sequential",
           "schedules=[reduce_on_plateau,\"reduce_on_plateau monitor=val_acc\"] milestones=[4]",
           "schedules[1]: monitor: val_acc: expected val_loss");
    refuse("sequential",
           "schedules=[reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,"
           "reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,"
           "reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,reduce_on_plateau,"
           "reduce_on_plateau] milestones=[1,2,3,4,5,6,7,8,9,10,11,12]",
           "13 are too many");

    lks_schedule *schedule = NULL;
    static const double bad[] = {-0.1, NAN, INFINITY};
    for (int i = 0; i < 3; i++)
        assert_int_equal(lks_schedule_create(NULL, bad[i], &schedule), LKS_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_is_the_default),
        cmocka_unit_test(the_interval_is_an_option_of_all),
        cmocka_unit_test(the_registry_is_complete),
        cmocka_unit_test(beyond_its_end_a_schedule_stays),
        cmocka_unit_test(a_phase_without_length_is_skipped),
        cmocka_unit_test(plateau_watches_what_it_is_told),
        cmocka_unit_test(one_cycle_cycles_momentum),
        cmocka_unit_test(one_cycles_in_sequence_have_their_own_momentum),
        cmocka_unit_test(a_plateau_may_follow_a_warm_up),
        cmocka_unit_test(lambda_asks_its_caller),
        cmocka_unit_test(bad_state_is_refused),
        cmocka_unit_test(bad_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
