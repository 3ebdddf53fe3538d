/* Overrides of the command line: what they replace and add, and which have no place. */
#include <string.h>

#include "unit/run_file_case.h"

static lks_run overridden(const lks_override *overrides, int count) {
    lks_run run;
    if (lks_run_parse("examples/run.yaml", good, overrides, count, &run))
        fail_msg("%s", lks_last_error());
    return run;
}

static void overrides_replace_and_add(void **state) {
    (void)state;
    const lks_override overrides[] = {
        {NULL, "epochs", "5", false},
        {NULL, "optimizer.lr", "3e-4", false},
        {NULL, "optimizer.nesterov", "true", false},
        {NULL, "model.layers.0.out_channels", "8", false},
        {NULL, "model.layers.conv1.padding", "1", false},
        {NULL, "model.layers.3.start_dim", "1", false},
        {NULL, "model.layers.2.block.1", "gelu", false},
        {NULL, "data.train.file", "here.h5", false},
        {NULL, "data.std", "[1, 2]", false},
        {NULL, "schedule", "{type: step, step_size: 3}", false},
        {NULL, "early_stopping", "null", false},
        {NULL, "checkpoint.best", "false", false},
        {NULL, "checkpoint.every.minutes", "7.5", false},
        {"--output", "output", "a: [strange} name", true},
    };
    lks_run run = overridden(overrides, sizeof overrides / sizeof *overrides);
    assert_int_equal(run.config.epochs, 5);
    assert_string_equal(run.config.optimizer.options, "lr=3e-4 momentum=0.9 nesterov=true");
    assert_string_equal(run.layers[0].options, "out_channels=8 kernel_size=[3,5] padding=1");
    assert_string_equal(run.layers[3].type, "flatten");
    assert_string_equal(run.layers[3].options, "start_dim=1");
    assert_string_equal(run.layers[2].block[1].type, "gelu");
    assert_null(run.layers[2].block[2].type);
    /* a path on the command line is relative to the user's folder */
    assert_string_equal(run.train.options, "file=here.h5 inputs=x targets=y");
    assert_string_equal(run.config.data, "scale=0.5 mean=[0.1,0.2] std=[1,2]");
    assert_string_equal(run.config.schedule.options, "step_size=3");
    assert_string_equal(run.config.schedule.where, "--set schedule");
    assert_null(run.config.early_stopping);
    assert_string_equal(run.config.checkpoint, "every.epochs=2 every.minutes=7.5 best=false");
    assert_string_equal(run.config.output, "a: [strange} name");
    lks_run_free(&run);
}

/* Beside the run file; on the command line in the user's folder. */
static void weights_to_begin_with(void **state) {
    (void)state;
    static const char text[] = "model: {layers: [relu]}\n"
                               "init_from:\n"
                               "  path: old.h5\n"
                               "  params: [\"conv*\", norm.*]\n"
                               "  exclude: conv9.*\n";
    lks_run first = parsed("/runs/run.yaml", text);
    assert_string_equal(first.init_from, "/runs/old.h5");
    assert_string_equal(first.init_params, "conv* norm.*");
    assert_string_equal(first.init_exclude, "conv9.*");
    lks_run second = parsed("config.yaml", first.config.run_file);
    assert_string_equal(first.config.run_file, second.config.run_file);
    lks_run_free(&first);
    lks_run_free(&second);

    const lks_override overrides[] = {{"--init-from", "init_from.path", "/here.h5", true},
                                      {"--init-params", "init_from.params", "a* b*", true}};
    lks_run run;
    assert_int_equal(lks_run_parse("run.yaml", "model: {layers: [relu]}\n", overrides, 2, &run),
                     LKS_OK);
    assert_string_equal(run.init_from, "/here.h5");
    assert_string_equal(run.init_params, "a* b*");
    assert_null(run.init_exclude);
    lks_run_free(&run);
    assert_int_equal(lks_run_parse("run.yaml", "model: {layers: [relu]}\n", overrides + 1, 1, &run),
                     LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "missing required option: path"));
}

static void overrides_make_sections(void **state) {
    (void)state;
    const lks_override overrides[] = {
        {NULL, "optimizer.type", "sgd", false},
        {NULL, "optimizer.lr", "1", false},
        {NULL, "early_stopping.patience", "4", false},
        {NULL, "loss", "mse", false},
    };
    lks_run run;
    assert_int_equal(lks_run_parse("run.yaml", least, overrides, 4, &run), LKS_OK);
    assert_string_equal(run.config.optimizer.type, "sgd");
    assert_string_equal(run.config.optimizer.options, "lr=1");
    assert_string_equal(run.config.early_stopping, "patience=4");
    assert_string_equal(run.config.loss.type, "mse");
    lks_run_free(&run);
}

static const struct {
    lks_override override;
    lks_status status;
    const char *message;
} bad_overrides[] = {
    {{NULL, "optimizer.momentun", "0.9", false},
     LKS_ECONFIG,
     "--set optimizer.momentun: optimizer sgd: unknown option \"momentun\": did you mean"},
    {{NULL, "optimizer.lr", "-1", false},
     LKS_ECONFIG,
     "--set optimizer.lr: optimizer sgd: lr: -1 is out of range"},
    {{NULL, "epochs", "many", false}, LKS_ECONFIG, "--set epochs: epochs: \"many\" is not valid"},
    {{"--threads", "threads", "x", true}, LKS_ECONFIG, "--threads: threads: \"x\" is not valid"},
    {{NULL, "optimizer.lr", "[1", false}, LKS_ECONFIG, "--set optimizer.lr"},
    {{NULL, "model.layers.9.name", "x", false},
     LKS_EUSAGE,
     "--set model.layers.9.name: \"9\" is neither the place (0 to 4) nor the name"},
    {{NULL, "model.layers.conv9.name", "x", false}, LKS_EUSAGE, "\"conv9\" is neither the place"},
    {{NULL, "optimizer..lr", "x", false}, LKS_EUSAGE, "a part of the key is empty"},
    {{NULL, "optimizer.", "x", false}, LKS_EUSAGE, "a part of the key is empty"},
    {{NULL, "no_such_key", "1", false}, LKS_ECONFIG, "--set no_such_key: unknown option"},
};

static void overrides_that_have_no_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_overrides / sizeof *bad_overrides; i++) {
        lks_run run;
        assert_int_equal(lks_run_parse("run.yaml", good, &bad_overrides[i].override, 1, &run),
                         bad_overrides[i].status);
        if (!strstr(lks_last_error(), bad_overrides[i].message))
            fail_msg("\"%s\" is not in \"%s\"", bad_overrides[i].message, lks_last_error());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrides_replace_and_add),
        cmocka_unit_test(weights_to_begin_with),
        cmocka_unit_test(overrides_make_sections),
        cmocka_unit_test(overrides_that_have_no_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
