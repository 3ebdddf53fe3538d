/* The optimizer's groups and no_decay in a run file: what is understood, what is refused and with
 * which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "app/run_file.h"

/* A run file whose optimizer begins on line 2; the caller frees it. */
static char *with_optimizer(const char *optimizer) {
    char *text = lks_strdup_printf("model: {layers: [relu]}\n%s\n", optimizer);
    assert_non_null(text);
    return text;
}

static lks_run parsed(const char *text, const lks_override *overrides, int count) {
    lks_run run;
    if (lks_run_parse("run.yaml", text, overrides, count, &run)) fail_msg("%s", lks_last_error());
    return run;
}

static const char three_groups[] = "optimizer:\n"
                                   "  type: adamw\n"
                                   "  no_decay: [bias, norm]\n"
                                   "  groups:\n"
                                   "    - {params: \"*.bias\", lr_scale: 0.1}\n"
                                   "    - {params: [conv1.*, conv2.*], frozen: true}\n"
                                   "    - {lr: 1e-2, params: head.*, betas: [0.5, 0.9]}";

static void groups_have_what_is_given(void **state) {
    (void)state;
    char *text = with_optimizer(three_groups);
    lks_run run = parsed(text, NULL, 0);
    const lks_param_group *groups = run.config.groups;
    assert_string_equal(run.config.optimizer.options, "");
    assert_string_equal(run.config.no_decay, "bias norm");
    assert_non_null(groups);
    assert_string_equal(groups[0].params, "*.bias");
    assert_string_equal(groups[0].options, "");
    assert_string_equal(groups[0].where, "run.yaml:6");
    assert_true(groups[0].lr_scale == 0.1 && !groups[0].frozen);
    assert_string_equal(groups[1].params, "conv1.* conv2.*");
    assert_true(groups[1].lr_scale == 0 && groups[1].frozen);
    assert_string_equal(groups[2].params, "head.*");
    assert_string_equal(groups[2].options, "lr=1e-2 betas=[0.5,0.9]");
    assert_true(groups[2].lr_scale == 0 && !groups[2].frozen);
    assert_null(groups[3].params);
    lks_run_free(&run);
    free(text);
}

static void without_groups_there_are_none(void **state) {
    (void)state;
    static const char *const none[] = {"epochs: 2", "optimizer: sgd", "optimizer: {type: sgd}",
                                       "optimizer: {type: sgd, groups: , no_decay: null}"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        char *text = with_optimizer(none[i]);
        lks_run run = parsed(text, NULL, 0);
        assert_null(run.config.groups);
        assert_null(run.config.no_decay);
        lks_run_free(&run);
        free(text);
    }
}

static void the_resolved_text_has_the_groups(void **state) {
    (void)state;
    char *text = with_optimizer(three_groups);
    lks_run first = parsed(text, NULL, 0);
    assert_non_null(strstr(first.config.run_file,
                           ", no_decay: [\"bias\", \"norm\"], groups: [{params: [\"*.bias\"], "
                           "lr_scale: 0.1}, {params: [\"conv1.*\", \"conv2.*\"], frozen: true}, "
                           "{params: [\"head.*\"], lr: 0.01, betas: [0.5, 0.9]}]}\n"));
    lks_run second = parsed(first.config.run_file, NULL, 0);
    assert_string_equal(first.config.run_file, second.config.run_file);
    assert_string_equal(second.config.groups[2].options, "lr=0.01 betas=[0.5,0.9]");
    assert_true(second.config.groups[2].lr_scale == 0);
    lks_run_free(&first);
    lks_run_free(&second);
    free(text);
}

static void overrides_reach_into_groups(void **state) {
    (void)state;
    static const lks_override overrides[] = {
        {.key = "optimizer.groups.0.lr_scale", .value = "2"},
        {.key = "optimizer.groups.1.frozen", .value = "false"},
        {.key = "optimizer.no_decay", .value = "norm"},
    };
    char *text = with_optimizer(three_groups);
    lks_run run = parsed(text, overrides, 3);
    assert_true(run.config.groups[0].lr_scale == 2 && !run.config.groups[1].frozen);
    assert_string_equal(run.config.no_decay, "norm");
    lks_run_free(&run);
    free(text);
}

static const struct mistake {
    const char *text, *message;
} mistakes[] = {
    {"optimizer: {type: sgd, grups: []}",
     "run.yaml:2: optimizer sgd: unknown option \"grups\": did you mean \"groups\"?"},
    {"optimizer: {type: sgd, no_decay: [bias, nrm]}",
     "run.yaml:2: optimizer: no_decay: \"nrm\": did you mean \"norm\"?"},
    {"optimizer: {type: sgd, no_decay: true}",
     "run.yaml:2: optimizer: no_decay: \"true\": expected bias or norm"},
    {"optimizer: {type: sgd, no_decay: {bias: true}}",
     "run.yaml:2: optimizer: no_decay: expected a text or a list of texts"},
    {"optimizer: {type: sgd, no_decay: []}",
     "run.yaml:2: optimizer: no_decay: expected at least one text"},
    {"optimizer: {type: sgd, groups: {params: x}}",
     "run.yaml:2: optimizer: groups: expected a list of maps"},
    {"optimizer: {type: sgd, groups: [fc.*]}",
     "run.yaml:2: optimizer groups[0]: expected a map with the key \"params\""},
    {"optimizer:\n  type: sgd\n  groups:\n    - {params: a}\n    - {lr: 1}",
     "run.yaml:6: optimizer groups[1]: the key \"params\" is missing"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: [a, [b]]",
     "run.yaml:5: optimizer groups[0]: params: expected a text or a list of texts"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: a\n      momentun: 0.5",
     "run.yaml:6: optimizer groups[0]: unknown option \"momentun\": did you mean \"momentum\"?"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: a\n      frosen: true",
     "run.yaml:6: optimizer groups[0]: unknown option \"frosen\": did you mean \"frozen\"?"},
    {"optimizer:\n  type: sgd\n  groups:\n    - parms: a",
     "run.yaml:5: optimizer groups[0]: the key \"params\" is missing"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: a\n      lr_scale: 0",
     "run.yaml:6: optimizer groups[0]: lr_scale: 0 is out of range: expected a number > 0"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: a\n      momentum: -1",
     "run.yaml:6: optimizer groups[0]: momentum: -1 is out of range"},
    {"optimizer:\n  type: sgd\n  groups:\n    - params: a\n      betas: [0, 1]",
     "run.yaml:6: optimizer groups[0]: unknown option \"betas\""},
};

static void mistakes_are_named_with_their_line(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char *text = with_optimizer(mistakes[i].text);
        lks_run run;
        lks_status status = lks_run_parse("run.yaml", text, NULL, 0, &run);
        if (status != LKS_ECONFIG || !strstr(lks_last_error(), mistakes[i].message))
            fail_msg("%s: status %d, \"%s\" is not in \"%s\"", mistakes[i].text, (int)status,
                     mistakes[i].message, lks_last_error());
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_have_what_is_given),
        cmocka_unit_test(without_groups_there_are_none),
        cmocka_unit_test(the_resolved_text_has_the_groups),
        cmocka_unit_test(overrides_reach_into_groups),
        cmocka_unit_test(mistakes_are_named_with_their_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
