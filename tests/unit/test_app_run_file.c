/* Run files: what is understood, what is refused and with which words, the resolved text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/run_file_case.h"

static void everything_is_understood(void **state) {
    (void)state;
    lks_run run = parsed("examples/run.yaml", good);
    assert_int_equal(run.config.seed, 7);
    assert_int_equal(run.config.epochs, 3);
    assert_int_equal(run.config.batch_size, 1024);
    assert_int_equal(run.config.bucket_bytes, 2 << 20);
    assert_int_equal(run.config.first_bucket_bytes, 1 << 20);
    assert_int_equal(run.config.zero_stage, 1);
    assert_string_equal(run.config.output, "my runs/1");
    assert_string_equal(lks_device_names[run.machine.device], "cpu");
    assert_int_equal(run.machine.threads, 2);
    assert_string_equal(run.train.type, "hdf5");
    assert_string_equal(run.train.options, "file=examples/d.h5 inputs=x targets=y");
    assert_string_equal(run.train.where, "examples/run.yaml:9");
    assert_string_equal(run.validation.options, "file=/data/v.h5 inputs=x");
    assert_string_equal(run.config.data, "scale=0.5 mean=[0.1,0.2]");
    assert_true(run.memory_bytes > 0);
    assert_int_equal(run.input.rank, 3);
    assert_int_equal(run.input.dim[2], 8);
    assert_string_equal(run.config.loss.options, "label_smoothing=0.1");
    assert_string_equal(run.config.optimizer.type, "sgd");
    assert_string_equal(run.config.optimizer.options, "lr=1e-2 momentum=0.9");
    assert_string_equal(run.config.optimizer.where, "examples/run.yaml:26");
    assert_string_equal(run.config.schedule.options, "step_size=10 gamma=0.5");
    assert_string_equal(run.config.early_stopping, "patience=5");
    assert_string_equal(run.config.checkpoint, "every.epochs=2");
    lks_run_free(&run);
}

static void layers_become_specs(void **state) {
    (void)state;
    lks_run run = parsed("run.yaml", good);
    const lks_layer_spec *layers = run.layers;
    assert_string_equal(layers[0].type, "conv2d");
    assert_string_equal(layers[0].name, "conv1");
    assert_string_equal(layers[0].options, "out_channels=4 kernel_size=[3,5]");
    assert_string_equal(layers[0].where, "run.yaml:16");
    assert_string_equal(layers[1].type, "relu");
    assert_null(layers[1].name);
    assert_string_equal(layers[1].options, "");
    assert_string_equal(layers[2].type, "residual");
    assert_string_equal(layers[2].block[0].options, "out_channels=4 kernel_size=1");
    assert_string_equal(layers[2].block[1].type, "relu");
    assert_null(layers[2].block[2].type);
    assert_string_equal(layers[2].shortcut[0].type, "conv2d");
    assert_null(layers[2].shortcut[1].type);
    assert_null(layers[0].block);
    assert_string_equal(layers[4].type, "linear");
    assert_null(layers[5].type);
    lks_run_free(&run);
}

static void what_is_not_given_has_defaults(void **state) {
    (void)state;
    lks_run run = parsed("run.yaml", least);
    const lks_train_config standard = LKS_TRAIN_CONFIG_DEFAULT;
    assert_int_equal(run.config.seed, standard.seed);
    assert_int_equal(run.config.epochs, standard.epochs);
    assert_int_equal(run.config.batch_size, standard.batch_size);
    assert_int_equal(run.config.zero_stage, standard.zero_stage);
    assert_int_equal(run.config.bucket_bytes, standard.bucket_bytes);
    assert_int_equal(run.config.first_bucket_bytes, standard.first_bucket_bytes);
    assert_string_equal(run.config.loss.type, "cross_entropy");
    assert_string_equal(run.config.optimizer.type, "adamw");
    assert_null(run.config.schedule.type);
    assert_null(run.config.early_stopping);
    assert_null(run.config.checkpoint);
    assert_null(run.config.gradients);
    assert_non_null(strstr(run.config.run_file, "gradients:\n  clip_norm: 0\n"));
    assert_non_null(strstr(run.config.run_file, "checkpoint:\n  keep_last: 2\n"));
    assert_null(strstr(run.config.run_file, "early_stopping"));
    assert_null(run.config.output);
    assert_null(run.train.type);
    assert_null(run.validation.type);
    assert_int_equal(run.input.rank, 0);
    lks_run_free(&run);
}

/* The resolved text says everything and reads back as itself, from any folder. */
static void the_resolved_text_is_a_run_file(void **state) {
    (void)state;
    lks_run first = parsed("examples/run.yaml", good);
    lks_run second = parsed("elsewhere/config.yaml", first.config.run_file);
    assert_string_equal(first.config.run_file, second.config.run_file);
    assert_non_null(strstr(first.config.run_file, "zero_stage: 1\n"));
    assert_non_null(
        strstr(first.config.run_file, "optimizer: {type: sgd, lr: 0.01, momentum: 0.9"));
    assert_non_null(
        strstr(first.config.run_file, "    - type: residual\n      block:\n        - {"));
    assert_non_null(strstr(first.config.run_file, "/examples/d.h5"));
    assert_non_null(
        strstr(first.config.run_file, "checkpoint:\n  every: {epochs: 2}\n  keep_last"));
    assert_string_equal(second.layers[2].shortcut[0].type, "conv2d");
    assert_int_equal(second.config.batch_size, 1024);
    assert_string_equal(second.config.output, "my runs/1");
    lks_run_free(&first);
    lks_run_free(&second);
}

static void a_list_of_schedules_becomes_texts(void **state) {
    (void)state;
    static const char text[] = "model: {layers: [relu]}\n"
                               "schedule:\n"
                               "  type: sequential\n"
                               "  schedules:\n"
                               "    - {type: linear, start_factor: 0.1}\n"
                               "    - {type: multi_step, milestones: [3, 4]}\n"
                               "    - constant\n"
                               "  milestones: [5, 9]\n"
                               "  interval: step\n";
    lks_run first = parsed("run.yaml", text);
    assert_string_equal(first.config.schedule.options,
                        "schedules=[\"linear start_factor=0.1\",\"multi_step milestones=[3,4]\","
                        "constant] milestones=[5,9] interval=step");
    assert_non_null(strstr(first.config.run_file,
                           "schedule: {type: sequential, schedules: [{type: linear, start_factor: "
                           "0.1, end_factor: 1, total_iters: 5}, {type: multi_step, milestones: "
                           "[3, 4], gamma: 0.1}, {type: constant}], milestones: [5, 9], interval: "
                           "step}\n"));
    lks_run second = parsed("config.yaml", first.config.run_file);
    assert_string_equal(first.config.run_file, second.config.run_file);
    lks_run_free(&first);
    lks_run_free(&second);
}

/* The good file with one line replaced (or one more at the end: line 31). */
static char *with_line(int line, const char *text) {
    lks_strbuf s = {0};
    int at = 1;
    for (const char *begin = good; *begin; at++) {
        size_t length = strcspn(begin, "\n") + 1;
        if (at == line)
            lks_strbuf_add(&s, "%s\n", text);
        else
            lks_strbuf_add_bytes(&s, begin, length);
        begin += length;
    }
    if (at == line) lks_strbuf_add(&s, "%s\n", text);
    assert_false(s.failed);
    return s.text;
}

typedef struct mistake {
    int line;
    const char *text, *message;
} mistake;

static const mistake mistakes[] = {
    {2, "epoch: 3", "run.yaml:2: unknown option \"epoch\": did you mean \"epochs\"?"},
    {2, "devise: cpu", "run.yaml:2: unknown option \"devise\": did you mean \"device\"?"},
    {2, "optimiser: sgd", "run.yaml:2: unknown option \"optimiser\": did you mean \"optimizer\"?"},
    {2, "zzzzzzz: 3", "run.yaml:2: unknown option \"zzzzzzz\": expected one of seed, epochs"},
    {2, "epochs: many", "run.yaml:2: epochs: \"many\" is not valid: expected an integer from 1"},
    {2, "epochs: 0", "run.yaml:2: epochs: 0 is out of range"},
    {2, "epochs: [3]", "run.yaml:2: epochs: [3] does not fit"},
    {2, "epochs: {a: 3}", "run.yaml:2: epochs: a map stands here: expected an integer"},
    {2, "epochs:", "run.yaml:2: epochs: nothing stands here: expected an integer"},
    {4, "device: gpu", "run.yaml:4: device: \"gpu\" is not a choice: expected one of: auto, cpu"},
    {9, "  train: hdf5", "run.yaml:9: train hdf5: missing required options: file, inputs"},
    {9, "  train: {file: d.h5}", "run.yaml:9: dataset: the key \"type\" is missing"},
    {9, "  train: {type: hdf4}",
     "run.yaml:9: unknown dataset type \"hdf4\": did you mean \"hdf5\"?"},
    {9, "  train: {type: hdf5, fil: x}",
     "run.yaml:9: train hdf5: unknown option \"fil\": did you mean \"file\"?"},
    {9, "  train: [a]", "run.yaml:9: dataset: expected a type's name or a map"},
    {9, "  trian: {type: hdf5}",
     "run.yaml:9: data: unknown option \"trian\": did you mean \"train\"?"},
    {7, "output: \"\"", "run.yaml:7: output is empty: expected a folder's name"},
    {11, "  scale: big", "run.yaml:11: data: scale: \"big\" is not valid: expected a number"},
    {12, "  mean: [0.1, [2]]", "run.yaml:12: data: mean: a list of lists or maps stands here"},
    {13, "modell:", "run.yaml:13: unknown option \"modell\": did you mean \"model\"?"},
    {14, "  input: [1, -8]", "run.yaml:14: model: input: -8 is out of range"},
    {14, "  input: [1, 1, 1, 1, 1, 1, 1]", "model: input: 7 dimensions: expected 6 at most"},
    {14, "  inputs: [1, 8]",
     "run.yaml:14: model: unknown option \"inputs\": did you mean \"input\"?"},
    {16, "    - {type: conv2d, name: conv1, kernal_size: 3}",
     "run.yaml:16: layer conv1: unknown option \"kernal_size\": did you mean \"kernel_size\"?"},
    {16, "    - {type: conv2d, out_channels: 4}",
     "run.yaml:16: layer 0 (conv2d): missing required option: kernel_size"},
    {16, "    - {type: conv2d, nmae: x, out_channels: 4}",
     "run.yaml:16: layer 0 (conv2d): unknown option \"nmae\": did you mean \"name\"?"},
    {16, "    - {type: conv2d, out_channels: 4, kernel_size: [1, 2, 3]}",
     "run.yaml:16: layer 0 (conv2d): kernel_size: [1, 2, 3] does not fit"},
    {16, "    - {type: conv2d, name: [a]}", "run.yaml:16: layer: expected a text as its name"},
    {16, "    - {name: conv1}", "run.yaml:16: layer: the key \"type\" is missing"},
    {17, "    - rellu", "run.yaml:17: unknown layer type \"rellu\": did you mean \"relu\"?"},
    {17, "    - {type: relu, inplace: true}",
     "run.yaml:17: layer 1 (relu): unknown option \"inplace\": expected one of type, name"},
    {17, "    - {type: relu, block: [relu]}",
     "run.yaml:17: layer 1 (relu): unknown option \"block\""},
    {20, "        - {type: conv2d, out_channels: 4, kernel_size: 0}",
     "run.yaml:20: layer 2.block.0 (conv2d): kernel_size: 0 is out of range"},
    {22, "      shortcut: relu", "run.yaml:22: shortcut: expected a list of layers"},
    {22, "      shortcut: []", "run.yaml:22: shortcut: expected a list of layers"},
    {23, "    - residual", "run.yaml:23: layer 3: the key \"block\" is missing"},
    {23, "    - {type: residual, block: }", "run.yaml:23: layer 3: the key \"block\" is missing"},
    {25, "loss: cross_entropi",
     "run.yaml:25: unknown loss type \"cross_entropi\": did you mean \"cross_entropy\"?"},
    {26, "optimizer: {type: adamw, lr: -1}",
     "run.yaml:26: optimizer adamw: lr: -1 is out of range"},
    {26, "optimizer: {type: sgd, momentun: 0.9}",
     "run.yaml:26: optimizer sgd: unknown option \"momentun\": did you mean \"momentum\"?"},
    {26, "optimizer: {lr: 1}", "run.yaml:26: optimizer: the key \"type\" is missing"},
    {26, "optimizer: {type: sgd, lr: 0.1, lr: 0.2}", "run.yaml:26: \"lr\" is given twice"},
    {27, "schedule: step", "run.yaml:27: schedule step: missing required option: step_size"},
    {27, "schedule: {type: multi_step, milestones: [5, 3]}",
     "run.yaml:27: schedule (multi_step): milestones: 3 stands after 5"},
    {27, "schedule: lambda", "run.yaml:27: schedule (lambda): there is no function"},
    {27, "schedule: {type: sequential, schedules: linear, milestones: []}",
     "run.yaml:27: schedule sequential: schedules: one value stands here: expected a list of"},
    {27,
     "schedule:\n  type: sequential\n  schedules:\n    - linear\n"
     "    - {type: cosine_annealing, T_max: 0}\n  milestones: [5]",
     "run.yaml:31: schedules[1] cosine_annealing: T_max: 0 is out of range"},
    {27,
     "schedule:\n  type: sequential\n  schedules:\n    - linear\n"
     "    - {type: cosine_anealing}\n  milestones: [5]",
     "run.yaml:31: unknown schedule type \"cosine_anealing\": did you mean \"cosine_annealing\"?"},
    {27, "schedule: {type: sequential, schedules: [linear, [step]], milestones: [5]}",
     "run.yaml:27: schedule: expected a type's name or a map"},
    {28, "early_stopping: yes", "run.yaml:28: early_stopping: expected a map of keys and values"},
    {28, "early_stopping: {monitor: loss}",
     "run.yaml:28: early_stopping: monitor: \"loss\" is not"},
    {30, "  evry: 2", "run.yaml:30: checkpoint: unknown option \"evry\": did you mean \"every\"?"},
    {30, "  every: 2", "run.yaml:30: checkpoint: every: expected a map of keys and values"},
    {30, "  every.epochs: 2",
     "run.yaml:30: checkpoint: unknown option \"every.epochs\": expected one of"},
    {30, "  every:\n    epochs: 1\n    step: 5",
     "run.yaml:32: checkpoint: every: unknown option \"step\": did you mean \"steps\"?"},
    {30, "  every: {hours: 2}",
     "run.yaml:30: checkpoint: every: unknown option \"hours\": expected one of epochs, steps, "
     "minutes"},
    {30, "  every: {steps: -1}", "run.yaml:30: checkpoint: every.steps: -1 is out of range"},
    {31, "seed: 8", "run.yaml:31: \"seed\" is given twice, first on line 1"},
};

static void mistakes_are_named_with_their_line(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char *text = with_line(mistakes[i].line, mistakes[i].text);
        lks_run run;
        lks_status status = lks_run_parse("run.yaml", text, NULL, 0, &run);
        if (status != LKS_ECONFIG || !strstr(lks_last_error(), mistakes[i].message))
            fail_msg("%s: status %d, \"%s\" is not in \"%s\"", mistakes[i].text, (int)status,
                     mistakes[i].message, lks_last_error());
        free(text);
    }
}

static void a_file_that_is_no_map(void **state) {
    (void)state;
    lks_run run;
    assert_int_equal(lks_run_parse("run.yaml", "", NULL, 0, &run), LKS_ECONFIG);
    assert_int_equal(lks_run_parse("run.yaml", "- a\n", NULL, 0, &run), LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "run.yaml:1: expected a map"));
    assert_int_equal(lks_run_parse("run.yaml", "data: 3\n", NULL, 0, &run), LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "run.yaml:1: data: expected a map of keys"));
    assert_int_equal(lks_run_parse("run.yaml", "epochs: 3\n", NULL, 0, &run), LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "model: the key \"layers\" is missing"));
}

static void null_takes_sections_away(void **state) {
    (void)state;
    lks_run run = parsed("run.yaml", "model: {input: null, layers: [relu]}\n"
                                     "schedule: null\nearly_stopping: ~\nloss:\noutput: null\n"
                                     "data: {train: null}\n");
    assert_null(run.config.schedule.type);
    assert_null(run.config.early_stopping);
    assert_string_equal(run.config.loss.type, "cross_entropy");
    assert_null(run.config.output);
    lks_run_free(&run);
}

/* ---- files ---- */

static void files_that_cannot_be_read(void **state) {
    (void)state;
    char *text, path[] = "/tmp/lockstep-test-XXXXXX";
    assert_int_equal(lks_run_read_text("/no/such/file.yaml", &text), LKS_EIO);
    assert_non_null(strstr(lks_last_error(), "/no/such/file.yaml: No such file"));
    assert_int_equal(lks_run_read_text("/", &text), LKS_EIO);
    assert_non_null(strstr(lks_last_error(), "Is a directory"));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a: 1\n\0b", 7), 7);
    assert_int_equal(lks_run_read_text(path, &text), LKS_ECONFIG);
    assert_non_null(strstr(lks_last_error(), "zero bytes"));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(lks_run_read_text(path, &text), LKS_OK);
    assert_string_equal(text, "");
    free(text);
    close(fd);
    unlink(path);
}

static void the_examples_are_valid(void **state) {
    (void)state;
    char *text;
    const char *path = LKS_SOURCE_DIR "/examples/digits/digits.yaml";
    assert_int_equal(lks_run_read_text(path, &text), LKS_OK);
    lks_run run = parsed(path, text);
    assert_int_equal(run.config.epochs, 20);
    lks_run_free(&run);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_understood),
        cmocka_unit_test(layers_become_specs),
        cmocka_unit_test(what_is_not_given_has_defaults),
        cmocka_unit_test(the_resolved_text_is_a_run_file),
        cmocka_unit_test(a_list_of_schedules_becomes_texts),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(a_file_that_is_no_map),
        cmocka_unit_test(null_takes_sections_away),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(the_examples_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
