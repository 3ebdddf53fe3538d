/* Parameter groups through the public API: rates, decay and freezing, by name, at any number of
 * ranks and every zero_stage; and what is refused. */
#include <unistd.h>

#include "mpi/train_case.h"

/* ---- the same model, all in one group, step by step ---- */

enum { MAX_VALUES = 4096 };

static lks_status read_param(lks_trainer *trainer, const char *name, float *out,
                             int64_t *out_count) {
    lks_shape shape;
    lks_status status = lks_trainer_get_param(trainer, name, &shape, NULL);
    if (status == LKS_OK) status = lks_shape_count(&shape, out_count);
    if (status == LKS_OK && *out_count > MAX_VALUES) status = LKS_EINVAL;
    return status == LKS_OK ? lks_trainer_get_param(trainer, name, NULL, out) : status;
}

/* How a parameter of `groups` is expected to change in the first step, from what it does with plain
 * sgd of lr 1, whose update is the gradient. */
typedef struct rule {
    const char *name;
    double lr, weight_decay;
} rule;

/* One step of plain sgd shows every gradient; one step with groups must be
 * p - lr (gradient + weight_decay p). The gradients are the same numbers summed in the same order;
 * differencing two float32 parameters of size 1 leaves 2^-23 of them. */
static void check_first_step(const lks_train_config *config, const rule *rules) {
    static train_case plain, grouped;
    static float before[MAX_VALUES], moved[MAX_VALUES], after[MAX_VALUES];
    lks_train_config one = *config;
    one.optimizer = (lks_spec){.type = "sgd", .options = "lr=1"};
    one.groups = NULL;
    one.no_decay = NULL;
    train_case *const runs[] = {&plain, &grouped};
    static float initial[16][MAX_VALUES];
    bool done;
    REQUIRE_OK(case_open(&plain, MPI_COMM_WORLD, &one));
    REQUIRE_OK(case_open(&grouped, MPI_COMM_WORLD, config));
    int64_t count;
    for (int i = 0; rules[i].name != NULL; i++)
        REQUIRE_OK(read_param(plain.trainer, rules[i].name, initial[i], &count));
    for (int r = 0; r < 2; r++)
        REQUIRE_OK(lks_step(runs[r]->trainer, &done));
    for (int i = 0; rules[i].name != NULL; i++) {
        REQUIRE_OK(read_param(plain.trainer, rules[i].name, moved, &count));
        REQUIRE_OK(read_param(grouped.trainer, rules[i].name, after, &count));
        memcpy(before, initial[i], sizeof before);
        bool right = true;
        for (int64_t e = 0; e < count; e++) {
            double p = (double)before[e], gradient = p - (double)moved[e];
            double want = p - rules[i].lr * (gradient + rules[i].weight_decay * p);
            right = right && fabs((double)after[e] - want) < 4e-7 * (1 + rules[i].lr);
        }
        char text[96];
        snprintf(text, sizeof text, "%s with zero_stage %d", rules[i].name,
                 (int)config->zero_stage);
        mpi_check(right, __FILE__, __LINE__, text);
    }
    mpi_verdict();
    case_close(&plain);
    case_close(&grouped);
}

static void test_settings_by_name(void **state) {
    (void)state;
    static const lks_param_group groups[] = {
        {.params = "conv1.weight  nothing[12]?weight conv1.w*", .options = "lr=0.5"},
        {.params = "*.weight", .lr_scale = 0.25},
        {0},
    };
    static const lks_param_group used[] = {
        {.params = "conv1.weight  conv1.w*", .options = "lr=0.5"},
        {.params = "fc.* norm1.weight", .lr_scale = 0.25},
        {0},
    };
    static const rule rules[] = {
        {"conv1.weight", 0.5, 0.1},
        {"conv1.bias", 2, 0.1},
        {"norm1.weight", 0.5, 0.1},
        {"norm1.bias", 2, 0.1},
        {"fc.weight", 0.5, 0.1},
        {"fc.bias", 0.5, 0.1},
        {.name = NULL},
    };
    static train_case refused;
    lks_train_config config = case_config();
    config.optimizer = (lks_spec){.type = "sgd", .options = "lr=2 weight_decay=0.1"};
    config.schedule = (lks_spec){0};
    config.groups = used;
    for (config.zero_stage = 0; config.zero_stage <= 2; config.zero_stage++)
        check_first_step(&config, rules);
    config.zero_stage = 1;
    config.groups = groups;
    MPI_CHECK(case_open(&refused, MPI_COMM_WORLD, &config) == LKS_ECONFIG);
    case_close(&refused);
    mpi_verdict();
}

static void test_no_decay(void **state) {
    (void)state;
    static const lks_param_group groups[] = {
        {.params = "fc.*", .lr_scale = 0.5},
        {.params = "conv1.bias", .options = "weight_decay=0.2"},
        {0},
    };
    static const rule both[] = {
        {"conv1.weight", 1, 0.1}, {"conv1.bias", 1, 0.2},  {"norm1.weight", 1, 0},
        {"norm1.bias", 1, 0},     {"fc.weight", 0.5, 0.1}, {"fc.bias", 0.5, 0},
        {.name = NULL},
    };
    static const rule bias[] = {
        {"conv1.weight", 1, 0.1}, {"conv1.bias", 1, 0},  {"norm1.weight", 1, 0.1},
        {"norm1.bias", 1, 0},     {"fc.weight", 1, 0.1}, {"fc.bias", 1, 0},
        {.name = NULL},
    };
    static const rule norm[] = {
        {"conv1.weight", 1, 0.1}, {"conv1.bias", 1, 0.1}, {"norm1.weight", 1, 0},
        {"norm1.bias", 1, 0},     {"fc.weight", 1, 0.1},  {"fc.bias", 1, 0.1},
        {.name = NULL},
    };
    lks_train_config config = case_config();
    config.optimizer = (lks_spec){.type = "sgd", .options = "lr=1 weight_decay=0.1"};
    config.schedule = (lks_spec){0};
    config.no_decay = "bias";
    check_first_step(&config, bias);
    config.no_decay = " norm";
    check_first_step(&config, norm);
    config.groups = groups;
    config.no_decay = "bias norm";
    check_first_step(&config, both);
}

/* ---- freezing ---- */

static const lks_param_group frozen_groups[] = {
    {.params = "conv1.* norm1.bias", .frozen = true},
    {.params = "*.bias", .options = "lr=0.01 weight_decay=0"},
    {0},
};

static lks_train_config frozen_config(void) {
    lks_train_config config = case_config();
    config.optimizer = (lks_spec){.type = "adamw", .options = "lr=0.02"};
    config.groups = frozen_groups;
    config.no_decay = "norm";
    config.epochs = 2;
    return config;
}

static bool same_param(lks_trainer *a, lks_trainer *b, const char *name) {
    static float of_a[MAX_VALUES], of_b[MAX_VALUES];
    int64_t count_a = 0, count_b = 1;
    return read_param(a, name, of_a, &count_a) == LKS_OK &&
           read_param(b, name, of_b, &count_b) == LKS_OK && count_a == count_b &&
           memcmp(of_a, of_b, (size_t)count_a * sizeof(float)) == 0;
}

static void test_frozen_parameters_stay(void **state) {
    (void)state;
    static const char *const names[] = {"conv1.weight", "conv1.bias", "norm1.weight",
                                        "norm1.bias",   "fc.weight",  "fc.bias"};
    static train_case untrained, run;
    lks_train_config config = frozen_config(), plain = case_config();
    REQUIRE_OK(case_open(&untrained, MPI_COMM_WORLD, &plain));
    for (config.zero_stage = 0; config.zero_stage <= 2; config.zero_stage++) {
        REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
        for (int i = 0; i < 6; i++) /* freezing changes no initial value */
            MPI_CHECK(same_param(untrained.trainer, run.trainer, names[i]));
        REQUIRE_OK(lks_fit(run.trainer));
        for (int i = 0; i < 6; i++) {
            bool frozen = i < 2 || i == 3;
            MPI_CHECK(same_param(untrained.trainer, run.trainer, names[i]) == frozen);
        }
        int64_t count;
        const lks_epoch_result *history = lks_trainer_history(run.trainer, &count);
        MPI_REQUIRE(count == 2);
        MPI_CHECK(history[1].train_loss < history[0].train_loss);
        case_close(&run);
    }
    case_close(&untrained);
    mpi_verdict();
}

/* ---- any number of ranks ---- */

static double largest_difference(lks_trainer *a, lks_trainer *b) {
    int64_t count_a = 0, count_b = 0;
    float *of_a = case_params(a, &count_a), *of_b = case_params(b, &count_b);
    double largest = of_a == NULL || of_b == NULL || count_a != count_b ? INFINITY : 0;
    for (int64_t i = 0; i < count_a && largest < INFINITY; i++)
        largest = fmax(largest, fabs((double)of_a[i] - (double)of_b[i]));
    free(of_a);
    free(of_b);
    return largest;
}

/* sgd, whose updates are linear in the gradients: the order of the sums over the ranks is all that
 * differs, about 1e-7 a step of parameters near 1. */
static void test_any_number_of_ranks_trains_the_same(void **state) {
    (void)state;
    static train_case alone, all;
    lks_train_config config = frozen_config();
    config.optimizer =
        (lks_spec){.type = "sgd", .options = "lr=0.05 momentum=0.9 weight_decay=0.01"};
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    REQUIRE_OK(lks_fit(alone.trainer));
    for (config.zero_stage = 0; config.zero_stage <= 2; config.zero_stage++) {
        REQUIRE_OK(case_open(&all, MPI_COMM_WORLD, &config));
        REQUIRE_OK(lks_fit(all.trainer));
        MPI_CHECK(largest_difference(alone.trainer, all.trainer) < 1e-5);
        case_close(&all);
    }
    case_close(&alone);
    mpi_verdict();
}

/* Saved by all ranks; each rank alone, and all together with another sharding, have the same bits
 * and go on the same. Values of frozen parameters come from the file, not from the seed. */
static void test_checkpoints_hold_frozen_parameters(void **state) {
    (void)state;
    static train_case whole, saver, alone, again;
    static float values[MAX_VALUES];
    char path[64];
    snprintf(path, sizeof path, "groups-%d.h5", mpi_check_size());
    lks_train_config config = frozen_config(), first = config;
    config.early_stopping = first.early_stopping = "monitor=val_loss patience=10 restore_best=true";
    first.epochs = 1;
    int64_t count;
    train_case *const runs[] = {&whole, &saver};
    const lks_train_config *const configs[] = {&config, &first};
    for (int r = 0; r < 2; r++) {
        REQUIRE_OK(case_open(runs[r], MPI_COMM_WORLD, configs[r]));
        REQUIRE_OK(read_param(runs[r]->trainer, "conv1.weight", values, &count));
        for (int64_t i = 0; i < count; i++)
            values[i] *= 1.5f;
        REQUIRE_OK(lks_trainer_set_param(runs[r]->trainer, "conv1.weight", values));
        REQUIRE_OK(lks_fit(runs[r]->trainer));
    }
    REQUIRE_OK(lks_trainer_save(saver.trainer, path));

    REQUIRE_OK(case_open(&again, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_trainer_restore(again.trainer, path));
    MPI_CHECK(case_same_params(saver.trainer, again.trainer));
    REQUIRE_OK(lks_fit(again.trainer));
    MPI_CHECK(case_same_params(whole.trainer, again.trainer));

    config.zero_stage = 0;
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    REQUIRE_OK(lks_trainer_restore(alone.trainer, path));
    MPI_CHECK(case_same_params(saver.trainer, alone.trainer));
    REQUIRE_OK(lks_fit(alone.trainer));
    MPI_CHECK(largest_difference(alone.trainer, whole.trainer) < 1e-3); /* AdamW near zero */
    MPI_CHECK(same_param(alone.trainer, whole.trainer, "conv1.weight"));
    case_close(&alone);

    /* Without freezing, the state of what was frozen is missed; the weights alone are there. */
    config.groups = NULL;
    REQUIRE_OK(case_open(&alone, MPI_COMM_SELF, &config));
    MPI_CHECK(lks_trainer_restore(alone.trainer, path) == LKS_ECHECKPOINT);
    MPI_CHECK(strstr(lks_last_error(), "/optimizer/exp_avg/conv1.weight") != NULL);
    REQUIRE_OK(lks_trainer_load_weights(alone.trainer, path));
    MPI_CHECK(case_same_params(saver.trainer, alone.trainer));
    case_close(&whole);
    case_close(&saver);
    case_close(&again);
    case_close(&alone);
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) unlink(path);
    mpi_verdict();
}

/* ---- what is refused ---- */

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *no_decay;
        lks_param_group groups[3];
        const char *message;
    } cases[] = {
        {NULL,
         {{.params = "fc.weigth", .where = "run.yaml:7"}},
         "run.yaml:7: optimizer group \"fc.weigth\": unknown parameter \"fc.weigth\": did you "
         "mean \"fc.weight\"?"},
        {NULL,
         {{.params = "fc.* cnv1.*"}},
         "unknown parameter \"cnv1.*\": did you mean "
         "\"conv1.*\"?"},
        {NULL,
         {{.params = "*.embedding"}},
         "unknown parameter \"*.embedding\": expected one of "
         "conv1.weight, conv1.bias, "},
        {NULL, {{.params = "  ", .frozen = true}}, "no pattern is given"},
        {NULL, {{.frozen = true}}, "no pattern is given"},
        {NULL, {{.params = "*.bias"}, {.params = "fc.bias"}}, "belongs to an earlier group"},
        {NULL, {{.params = "*", .frozen = true}}, "every parameter is frozen"},
        {NULL, {{.params = "*.bias", .lr_scale = -1}}, "lr_scale: -1 is out of range"},
        {NULL, {{.params = "*.bias", .lr_scale = INFINITY}}, "lr_scale: inf is out of range"},
        {NULL,
         {{.params = "*.bias", .lr_scale = 2, .options = "lr=1"}},
         "lr and lr_scale are both given"},
        {NULL, {{.params = "*.bias", .options = "lr=-1"}}, "lr: -1 is out of range"},
        {NULL, {{.params = "*.bias", .options = "momentun=0"}}, "did you mean \"momentum\"?"},
        {"bias norms", {{0}}, "no_decay: \"norms\" is unknown: expected bias or norm"},
    };
    static train_case run;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lks_train_config config = case_config();
        config.groups = cases[i].groups;
        config.no_decay = cases[i].no_decay;
        MPI_CHECK(case_open(&run, MPI_COMM_WORLD, &config) == LKS_ECONFIG);
        mpi_check(strstr(lks_last_error(), cases[i].message) != NULL, __FILE__, __LINE__,
                  lks_last_error());
        case_close(&run);
    }
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_by_name),
        cmocka_unit_test(test_no_decay),
        cmocka_unit_test(test_frozen_parameters_stay),
        cmocka_unit_test(test_any_number_of_ranks_trains_the_same),
        cmocka_unit_test(test_checkpoints_hold_frozen_parameters),
        cmocka_unit_test(test_refusals),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
