/* The command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "app/args.h"

enum { MAX_WORDS = 32 };

/* Splits at blanks into argv, as a shell would. The words, and what *out owns, last until the next
 * call. */
static lks_status parse(const char *line, lks_args *out) {
    static char buffer[512];
    static lks_args owned;
    char *argv[MAX_WORDS + 1] = {"lockstep"};
    int argc = 1;
    snprintf(buffer, sizeof buffer, "%s", line);
    for (char *word = strtok(buffer, " "); word && argc < MAX_WORDS; word = strtok(NULL, " "))
        argv[argc++] = word;
    lks_args_free(&owned);
    lks_status status = lks_args_parse(argc, argv, out);
    owned = *out;
    return status;
}

static lks_args parsed(const char *line) {
    lks_args args;
    if (parse(line, &args)) fail_msg("%s: %s", line, lks_last_error());
    return args;
}

static void refused(const char *line, const char *message) {
    lks_args args;
    assert_int_equal(parse(line, &args), LKS_EUSAGE);
    if (!strstr(lks_last_error(), message))
        fail_msg("%s: \"%s\" is not in \"%s\"", line, message, lks_last_error());
}

static void options_of_every_form(void **state) {
    (void)state;
    lks_args a = parsed("train --set optimizer.lr=1e-3 run.yaml --set=a.b=c=d -r auto --device=cpu "
                        "-t4 -o out -v");
    assert_int_equal(a.command, LKS_COMMAND_TRAIN);
    assert_int_equal(a.operand_count, 1);
    assert_string_equal(a.operands[0], "run.yaml");
    assert_int_equal(a.override_count, 5);
    assert_string_equal(a.overrides[0].key, "optimizer.lr");
    assert_string_equal(a.overrides[0].value, "1e-3");
    assert_false(a.overrides[0].is_text);
    assert_string_equal(a.overrides[1].key, "a.b");
    assert_string_equal(a.overrides[1].value, "c=d");
    assert_string_equal(a.overrides[2].key, "device");
    assert_string_equal(a.overrides[3].key, "threads");
    assert_string_equal(a.overrides[3].value, "4");
    assert_true(a.overrides[3].is_text);
    assert_string_equal(a.overrides[4].source, "--output");
    assert_string_equal(a.resume, "auto");
    assert_int_equal(a.verbosity, 2);
    assert_int_equal(parsed("train run.yaml --profile 20").profile_steps, 20);
}

static void other_commands(void **state) {
    (void)state;
    lks_args a = parsed("eval run.yaml best.h5 --split train -q");
    assert_int_equal(a.command, LKS_COMMAND_EVAL);
    assert_string_equal(a.operands[1], "best.h5");
    assert_string_equal(a.split, "train");
    assert_int_equal(a.verbosity, 0);
    a = parsed("predict run.yaml best.h5 -o p.h5");
    assert_string_equal(a.out, "p.h5");
    assert_string_equal(a.split, "validation");
    assert_int_equal(a.override_count, 0);
    a = parsed("inspect --json best.h5");
    assert_true(a.json);
    a = parsed(
        "schedule run.yaml --epochs 5 --steps-per-epoch=7 --plot a.svg --metric-from m.jsonl "
        "--json");
    assert_int_equal(a.command, LKS_COMMAND_SCHEDULE);
    assert_string_equal(a.overrides[0].key, "epochs");
    assert_string_equal(a.overrides[0].value, "5");
    assert_int_equal(a.steps_per_epoch, 7);
    assert_string_equal(a.plot, "a.svg");
    assert_string_equal(a.metric_from, "m.jsonl");
    assert_true(a.json);
    a = parsed("plot runs/a runs/b runs/c --out c.png");
    assert_int_equal(a.command, LKS_COMMAND_PLOT);
    assert_int_equal(a.operand_count, 3);
    assert_string_equal(a.operands[2], "runs/c");
    assert_string_equal(a.out, "c.png");
    a = parsed("bench comm -d cpu --max-bytes=64KiB --json");
    assert_int_equal(a.command, LKS_COMMAND_BENCH);
    assert_string_equal(a.operands[0], "comm");
    assert_string_equal(a.device, "cpu");
    assert_int_equal(a.max_bytes, 65536);
    assert_int_equal(parsed("bench comm").max_bytes, 1 << 30);
    a = parsed(
        "plan run.yaml --ranks 2,4 --profile a.json --profile b.json --node n.json --cores 2");
    assert_int_equal(a.command, LKS_COMMAND_PLAN);
    assert_string_equal(a.ranks, "2,4");
    assert_int_equal(a.profile_count, 2);
    assert_string_equal(a.profiles[1], "b.json");
    assert_int_equal(a.profile_steps, 0);
    assert_int_equal(a.cores, 2);
    a = parsed("config run.yaml");
    assert_int_equal(a.command, LKS_COMMAND_CONFIG);
}

static void two_dashes_end_the_options(void **state) {
    (void)state;
    lks_args a = parsed("inspect -- --json");
    assert_false(a.json);
    assert_string_equal(a.operands[0], "--json");
    a = parsed("inspect -");
    assert_string_equal(a.operands[0], "-");
}

static void help_and_version_end_the_reading(void **state) {
    (void)state;
    lks_args a = parsed("--help");
    assert_int_equal(a.command, LKS_COMMAND_HELP);
    assert_int_equal(a.help_for, LKS_COMMAND_HELP);
    a = parsed("train -h --nonsense");
    assert_int_equal(a.command, LKS_COMMAND_HELP);
    assert_int_equal(a.help_for, LKS_COMMAND_TRAIN);
    a = parsed("train --help");
    assert_int_equal(a.help_for, LKS_COMMAND_TRAIN);
    a = parsed("--version");
    assert_int_equal(a.command, LKS_COMMAND_VERSION);
    a = parsed("train --version x y z");
    assert_int_equal(a.command, LKS_COMMAND_VERSION);
    a = parsed("help layer conv2d");
    assert_string_equal(a.operands[1], "conv2d");
    a = parsed("help --markdown");
    assert_true(a.markdown);
}

static void mistakes(void **state) {
    (void)state;
    refused("", "a command is missing");
    refused("tarin run.yaml", "unknown command \"tarin\": did you mean \"train\"?");
    refused("xyzzy", "unknown command \"xyzzy\": `lockstep --help` lists them");
    refused("--hepl", "unknown option --hepl: did you mean --help?");
    refused("-x", "unknown option -x");
    refused("train", "train: expected RUN.yaml");
    refused("train --resume run.yaml",
            "train: expected RUN.yaml beside the value that --resume takes");
    refused("eval run.yaml", "eval: expected RUN.yaml CHECKPOINT");
    refused("train run.yaml more.yaml", "train: \"more.yaml\" is one too many");
    refused("version 3", "version: \"3\" is one too many: expected nothing");
    refused("train run.yaml --resum auto", "unknown option --resum: did you mean --resume?");
    refused("train run.yaml --out x", "unknown option --out: did you mean --output?");
    refused("train run.yaml --resume", "--resume: its value is missing, auto|PATH");
    refused("train run.yaml --quiet=yes", "--quiet takes no value, but \"yes\" was given");
    refused("train run.yaml --set lr", "--set lr: expected KEY=VALUE");
    refused("train run.yaml --set =3", "--set =3: expected KEY=VALUE");
    refused("train run.yaml --profile 0", "--profile 0: expected an integer >= 1");
    refused("train run.yaml -qx", "unknown option -qx");
    refused("eval run.yaml c.h5 --split test", "--split test: expected train or validation");
    refused("predict run.yaml c.h5", "predict: --out FILE.h5 is missing");
    refused("schedule", "schedule: expected RUN.yaml");
    refused("schedule run.yaml --steps-per-epoch=0", "--steps-per-epoch 0: expected an integer");
    refused("schedule run.yaml --steps-per-epoch=3x", "--steps-per-epoch 3x: expected");
    refused("schedule run.yaml --out a.svg", "schedule: unknown option --out");
    refused("bench", "bench: expected comm");
    refused("bench comm --max-bytes 1KiB", "--max-bytes: ");
    refused("bench comm --max-bytes lots", "--max-bytes: ");
    refused("plan run.yaml", "plan: --ranks LIST is missing");
    refused("plan run.yaml --ranks 2 --cores none", "--cores none: expected an integer >= 1");
    refused("plan run.yaml --ranks 2 --cores 2147483648", "--cores 2147483648: expected 21");
    refused("plan run.yaml --ranks 2 --ranks-per-node 4294967296",
            "--ranks-per-node 4294967296: expected 2147483647 at most");
    refused("plan run.yaml --profile 1 --profile 2 --profile 3 --profile 4 --profile 5 --profile 6 "
            "--profile 7 --profile 8 --profile 9",
            "expected 8 profiles at most");
    refused("plot", "plot: expected RUN_DIR...");
    refused("plot 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "plot: \"17\" is one too many");
    refused("inspect c.h5 --set a=b", "inspect: unknown option --set");
}

static void every_command_has_its_usage(void **state) {
    (void)state;
    for (int i = 0; i < LKS_COMMAND_COUNT; i++) {
        lks_strbuf out = {0};
        lks_args_print_usage((lks_command_kind)i, &out);
        assert_false(out.failed);
        assert_memory_equal(out.text, "Usage: ", 7);
        assert_non_null(strstr(out.text, lks_command_name((lks_command_kind)i)));
        for (const char *line = out.text; *line; line += strcspn(line, "\n") + 1)
            assert_in_range(strcspn(line, "\n"), 0, 110);
        lks_strbuf_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_every_form),
        cmocka_unit_test(other_commands),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(help_and_version_end_the_reading),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(every_command_has_its_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
