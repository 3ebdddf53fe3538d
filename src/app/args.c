#include "app/args.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "app/plot.h"

/* Which commands know an option: bits of lks_command_kind. */
#define BIT(command_) (1u << LKS_COMMAND_##command_)
enum {
    ON_TRAIN = BIT(TRAIN),
    ON_RUN_FILE = BIT(TRAIN) | BIT(EVAL) | BIT(PREDICT) | BIT(DOCTOR) | BIT(CONFIG) | BIT(SCHEDULE),
    ON_DEVICE = BIT(TRAIN) | BIT(EVAL) | BIT(PREDICT),
    ON_SPLIT = BIT(EVAL) | BIT(PREDICT),
    ON_PREDICT = BIT(PREDICT),
    ON_DOCTOR = BIT(DOCTOR),
    ON_JSON = BIT(DOCTOR) | BIT(INSPECT) | BIT(VERIFY) | BIT(SCHEDULE) | BIT(BENCH),
    ON_EXPORT = BIT(EXPORT),
    ON_IMPORT = BIT(IMPORT),
    ON_SCHEDULE = BIT(SCHEDULE),
    ON_PLOT = BIT(PLOT),
    ON_BENCH = BIT(BENCH),
    ON_HELP = BIT(HELP),
    ON_ALL = (1u << LKS_COMMAND_COUNT) - 1
};

typedef struct command {
    const char *name, *operands, *help;
    int min_operands, max_operands;
} command;

static const command commands[LKS_COMMAND_COUNT] = {
    [LKS_COMMAND_TRAIN] = {"train", "RUN.yaml", "train the network that a run file describes", 1,
                           1},
    [LKS_COMMAND_EVAL] = {"eval", "RUN.yaml CHECKPOINT",
                          "print loss and accuracy of a checkpoint over a data set", 2, 2},
    [LKS_COMMAND_PREDICT] = {"predict", "RUN.yaml CHECKPOINT --out FILE.h5",
                             "write the outputs of a checkpoint for a data set", 2, 2},
    [LKS_COMMAND_INSPECT] = {"inspect", "CHECKPOINT", "show what stands in a checkpoint", 1, 1},
    [LKS_COMMAND_VERIFY] = {"verify", "CHECKPOINT...",
                            "read checkpoints whole and compare them with their hashes", 1,
                            INT_MAX},
    [LKS_COMMAND_EXPORT] = {"export", "CHECKPOINT --out FILE",
                            "write the weights of a checkpoint for other programs", 1, 1},
    [LKS_COMMAND_IMPORT] = {"import", "FILE.safetensors",
                            "make a checkpoint of the weights of another program", 1, 1},
    [LKS_COMMAND_DOCTOR] = {"doctor", "[RUN.yaml]",
                            "look for what would keep a run from training, or make it slow", 0, 1},
    [LKS_COMMAND_CONFIG] = {"config", "RUN.yaml",
                            "check a run file and print it with every default filled in", 1, 1},
    [LKS_COMMAND_SCHEDULE] = {"schedule", "RUN.yaml",
                              "print the learning rates that a run would have", 1, 1},
    [LKS_COMMAND_PLOT] = {"plot", "RUN_DIR...",
                          "draw loss, accuracy and learning rate of one or more runs", 1,
                          LKS_PLOT_MAX_RUNS},
    [LKS_COMMAND_BENCH] = {"bench", "comm",
                           "measure how fast the ranks exchange data, and check it", 1, 1},
    [LKS_COMMAND_HELP] = {"help", "[COMMAND | SECTION [TYPE]]",
                          "explain a command, or a section of the run file and its options", 0, 2},
    [LKS_COMMAND_VERSION] = {"version", "", "print the versions of lockstep and its libraries", 0,
                             0},
};

typedef enum option_id {
    OPTION_SET,
    OPTION_RESUME,
    OPTION_INIT_FROM,
    OPTION_INIT_PARAMS,
    OPTION_DEVICE,
    OPTION_THREADS,
    OPTION_OUTPUT,
    OPTION_SPLIT,
    OPTION_OUT,
    OPTION_EPOCHS,
    OPTION_STEPS,
    OPTION_PROFILE,
    OPTION_MAX_BYTES,
    OPTION_METRIC,
    OPTION_PLOT,
    OPTION_FORMAT,
    OPTION_FORCE,
    OPTION_JSON,
    OPTION_MARKDOWN,
    OPTION_QUIET,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_VERSION
} option_id;

typedef struct cli_option {
    option_id id;
    const char *name;
    char letter;           /* 0: no short form */
    const char *value;     /* its name in the usage; NULL: takes none */
    unsigned int commands; /* that know it */
    const char *help;
} cli_option;

static const cli_option cli_options[] = {
    {OPTION_SET, "set", 's', "KEY=VALUE", ON_RUN_FILE,
     "put VALUE (YAML) in the place of what the run file says,\n"
     "such as optimizer.lr=3e-4 or model.layers.0.out_channels=8;\n"
     "may be repeated"},
    {OPTION_RESUME, "resume", 'r', "auto|PATH", ON_TRAIN,
     "continue from a checkpoint; auto: the newest one in the\n"
     "run directory, or the beginning where there is none"},
    {OPTION_INIT_FROM, "init-from", 0, "PATH", ON_TRAIN | ON_DOCTOR,
     "begin with the weights of a checkpoint, or of what import\n"
     "has made, unless the run is resumed"},
    {OPTION_INIT_PARAMS, "init-params", 0, "PATTERNS", ON_TRAIN | ON_DOCTOR,
     "take only these of them, such as 'conv* norm*'"},
    {OPTION_DEVICE, "device", 'd', "auto|cpu|cuda", ON_DEVICE | ON_DOCTOR | ON_BENCH,
     "where to compute, or whose memory to exchange"},
    {OPTION_THREADS, "threads", 't', "N", ON_DEVICE | ON_DOCTOR,
     "CPU threads of each rank; 0: its share of the cores"},
    {OPTION_PROFILE, "profile", 0, "N", ON_TRAIN,
     "print where the time of N steps went, after a few of warm-up,\n"
     "and write it to profile.json in the run directory"},
    {OPTION_MAX_BYTES, "max-bytes", 0, "SIZE", ON_BENCH,
     "the largest exchange, such as 64MiB; 1GiB by default"},
    {OPTION_OUTPUT, "output", 'o', "DIR", ON_TRAIN | ON_DOCTOR, "the run directory"},
    {OPTION_SPLIT, "split", 0, "train|validation", ON_SPLIT,
     "which of the run file's data sets; validation by default"},
    {OPTION_OUT, "out", 'o', "FILE.h5", ON_PREDICT,
     "where to write `outputs` and, for classifiers, `labels`"},
    {OPTION_OUT, "out", 'o', "FILE", ON_PLOT,
     "the picture, .svg or .png; without it, or with -, one in text"},
    {OPTION_OUT, "out", 'o', "FILE", ON_EXPORT, "the file to write, such as best.safetensors"},
    {OPTION_OUT, "out", 'o', "FILE.h5", ON_IMPORT,
     "the checkpoint to write; FILE.h5 beside FILE.safetensors\n"
     "by default"},
    {OPTION_FORMAT, "format", 0, "safetensors|hdf5", ON_EXPORT,
     "what to write; by default as the end of --out says:\n"
     ".safetensors, or .h5 or .hdf5"},
    {OPTION_FORCE, "force", 'f', NULL, ON_EXPORT | ON_IMPORT, "replace a file that exists"},
    {OPTION_EPOCHS, "epochs", 'n', "N", ON_SCHEDULE, "so many epochs, whatever the run file says"},
    {OPTION_STEPS, "steps-per-epoch", 0, "N", ON_SCHEDULE,
     "steps of an epoch, for schedules that move on after every\n"
     "step; without it the training data are asked"},
    {OPTION_METRIC, "metric-from", 0, "FILE", ON_SCHEDULE,
     "the metrics.jsonl of a run, for schedules that depend on one"},
    {OPTION_PLOT, "plot", 'p', "FILE", ON_SCHEDULE,
     "draw a picture instead of a table: .svg or .png, - for text"},
    {OPTION_JSON, "json", 0, NULL, ON_JSON, "print JSON"},
    {OPTION_MARKDOWN, "markdown", 0, NULL, ON_HELP,
     "print the whole reference of the run file (docs/config.md)"},
    {OPTION_QUIET, "quiet", 'q', NULL, ON_DEVICE, "warnings, errors and results only"},
    {OPTION_VERBOSE, "verbose", 'v', NULL, ON_DEVICE, "more messages"},
    {OPTION_HELP, "help", 'h', NULL, ON_ALL, "print this help"},
    {OPTION_VERSION, "version", 'V', NULL, ON_ALL, "print versions"},
};
enum { OPTION_COUNT = sizeof cli_options / sizeof *cli_options };

/* The command line while it is read. */
typedef struct reader {
    int argc, next;
    char **argv;
    lks_args *args;
} reader;

const char *lks_command_name(lks_command_kind kind) {
    return commands[kind].name;
}

/* ---- usage ---- */

static void print_option(const cli_option *option, lks_strbuf *out) {
    enum { COLUMN = 32 };
    size_t start = out->length;
    lks_strbuf_add(out, option->letter ? "  -%c, " : "      ", option->letter);
    lks_strbuf_add(out, "--%s%s%s", option->name, option->value ? "=" : "",
                   option->value ? option->value : "");
    const char *line = option->help;
    while (line) {
        int used = (int)(out->length - start);
        lks_strbuf_add(out, "%*s", used < COLUMN - 1 ? COLUMN - used : 1, "");
        const char *end = strchr(line, '\n');
        lks_strbuf_add_bytes(out, line, end ? (size_t)(end - line) : strlen(line));
        lks_strbuf_add(out, "\n");
        start = out->length;
        line = end ? end + 1 : NULL;
    }
}

static void print_program_usage(lks_strbuf *out) {
    lks_strbuf_add(out, "Usage: [mpirun -np N] lockstep COMMAND [OPTION]... [OPERAND]...\n"
                        "Train neural networks on clusters.\n\nCommands:\n");
    for (int i = 0; i < LKS_COMMAND_COUNT; i++) {
        char head[64];
        snprintf(head, sizeof head, "%s %s", commands[i].name, commands[i].operands);
        lks_strbuf_add(out, "  %-42s %s\n", head, commands[i].help);
    }
    lks_strbuf_add(out, "\n`lockstep COMMAND --help` lists the options of a command.\n"
                        "`lockstep help SECTION [TYPE]` explains what a run file may say.\n"
                        "\nExit codes:\n");
    for (int status = 0; status < LKS_STATUS_COUNT; status++)
        lks_strbuf_add(out, "  %2d  %s\n", lks_status_exit_code((lks_status)status),
                       lks_status_text((lks_status)status));
}

void lks_args_print_usage(lks_command_kind kind, lks_strbuf *out) {
    if (kind == LKS_COMMAND_HELP) {
        print_program_usage(out);
        return;
    }
    const command *c = &commands[kind];
    lks_strbuf_add(out, "Usage: lockstep %s [OPTION]... %s\n", c->name, c->operands);
    lks_strbuf_add(out, "%c%s.\n\nOptions:\n", c->help[0] - 'a' + 'A', c->help + 1);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (cli_options[i].commands & (1u << kind)) print_option(&cli_options[i], out);
}

/* ---- reading ---- */

static lks_status refuse_option(const reader *r, const char *given) {
    const char *names[OPTION_COUNT];
    size_t count = 0;
    for (int i = 0; i < OPTION_COUNT; i++)
        if (cli_options[i].commands & (1u << r->args->command))
            names[count++] = cli_options[i].name;
    const char *name = given + strspn(given, "-");
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "="), name);
    const char *nearest = given[1] == '-' ? lks_nearest_name(plain, names, count) : NULL;
    const char *command_name = commands[r->args->command].name;
    if (!nearest && r->args->command == LKS_COMMAND_HELP)
        return lks_fail(LKS_EUSAGE, "unknown option %s: `lockstep --help` lists what there is",
                        given);
    if (nearest)
        return lks_fail(LKS_EUSAGE, "%s: unknown option %s: did you mean --%s?", command_name,
                        given, nearest);
    return lks_fail(LKS_EUSAGE, "%s: unknown option %s: `lockstep %s --help` lists them",
                    command_name, given, command_name);
}

static lks_status add_override(lks_args *args, const char *source, const char *key,
                               const char *value) {
    lks_override *grown =
        realloc(args->overrides, (size_t)(args->override_count + 1) * sizeof *grown);
    if (!grown) return lks_fail(LKS_ENOMEM, "out of memory");
    args->overrides = grown;
    grown[args->override_count++] = (lks_override){source, key, value, source != NULL};
    return LKS_OK;
}

/* KEY=VALUE is cut in place: argv's texts are ours to change. */
static lks_status add_set(lks_args *args, char *text) {
    char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return lks_fail(LKS_EUSAGE, "--set %s: expected KEY=VALUE, such as optimizer.lr=3e-4",
                        text);
    *equals = '\0';
    return add_override(args, NULL, text, equals + 1);
}

static lks_status set_split(lks_args *args, const char *value) {
    if (strcmp(value, "train") != 0 && strcmp(value, "validation") != 0)
        return lks_fail(LKS_EUSAGE, "--split %s: expected train or validation", value);
    args->split = value;
    return LKS_OK;
}

static lks_status set_count(const cli_option *option, const char *value, int64_t *out) {
    char *end;
    errno = 0;
    long long count = strtoll(value, &end, 10);
    if (errno || end == value || *end || count < 1)
        return lks_fail(LKS_EUSAGE, "--%s %s: expected an integer >= 1", option->name, value);
    *out = count;
    return LKS_OK;
}

static lks_status set_max_bytes(lks_args *args, const char *value) {
    static const lks_option option = {.key = "--max-bytes",
                                      .type = LKS_OPTION_BYTES,
                                      .offset = offsetof(lks_args, max_bytes),
                                      .low = 4096,
                                      .high = 0x1p50};
    lks_status status = lks_option_assign(&option, args, &value, 1, false);
    return status == LKS_ECONFIG ? LKS_EUSAGE : status;
}

static lks_status apply(lks_args *args, const cli_option *option, char *value) {
    switch (option->id) {
    case OPTION_SET:
        return add_set(args, value);
    case OPTION_DEVICE:
        args->device = value;
        return add_override(args, "--device", "device", value);
    case OPTION_THREADS:
        return add_override(args, "--threads", "threads", value);
    case OPTION_OUTPUT:
        return add_override(args, "--output", "output", value);
    case OPTION_INIT_FROM:
        return add_override(args, "--init-from", "init_from.path", value);
    case OPTION_INIT_PARAMS:
        return add_override(args, "--init-params", "init_from.params", value);
    case OPTION_EPOCHS:
        return add_override(args, "--epochs", "epochs", value);
    case OPTION_STEPS:
        return set_count(option, value, &args->steps_per_epoch);
    case OPTION_MAX_BYTES:
        return set_max_bytes(args, value);
    case OPTION_PROFILE:
        return set_count(option, value, &args->profile_steps);
    case OPTION_SPLIT:
        return set_split(args, value);
    case OPTION_RESUME:
        args->resume = value;
        break;
    case OPTION_OUT:
        args->out = value;
        break;
    case OPTION_METRIC:
        args->metric_from = value;
        break;
    case OPTION_PLOT:
        args->plot = value;
        break;
    case OPTION_FORMAT:
        args->format = value;
        break;
    case OPTION_FORCE:
        args->force = true;
        break;
    case OPTION_JSON:
        args->json = true;
        break;
    case OPTION_MARKDOWN:
        args->markdown = true;
        break;
    case OPTION_QUIET:
        args->verbosity = 0;
        break;
    case OPTION_VERBOSE:
        args->verbosity = 2;
        break;
    case OPTION_HELP:
        args->help_for = args->command;
        args->command = LKS_COMMAND_HELP;
        break;
    case OPTION_VERSION:
        args->command = LKS_COMMAND_VERSION;
        break;
    }
    return LKS_OK;
}

/* An option's value: what is attached to it, or the next argument. */
static lks_status take_value(reader *r, const cli_option *option, char *attached, char **out) {
    *out = attached;
    if (option->value && !attached) {
        if (r->next >= r->argc)
            return lks_fail(LKS_EUSAGE, "--%s: its value is missing, %s", option->name,
                            option->value);
        *out = r->argv[r->next++];
    }
    if (!option->value && attached)
        return lks_fail(LKS_EUSAGE, "--%s takes no value, but \"%s\" was given", option->name,
                        attached);
    return LKS_OK;
}

static lks_status read_long(reader *r, char *argument) {
    char *name = argument + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const cli_option *option = &cli_options[i];
        if (!(option->commands & (1u << r->args->command)) || strlen(option->name) != length ||
            strncmp(option->name, name, length) != 0)
            continue;
        char *value;
        lks_status status = take_value(r, option, equals ? equals + 1 : NULL, &value);
        return status ? status : apply(r->args, option, value);
    }
    return refuse_option(r, argument);
}

static const cli_option *find_letter(const reader *r, char letter) {
    for (int i = 0; i < OPTION_COUNT; i++)
        if (cli_options[i].letter == letter && (cli_options[i].commands & (1u << r->args->command)))
            return &cli_options[i];
    return NULL;
}

/* -qv, -o DIR, -oDIR */
static lks_status read_short(reader *r, char *argument) {
    for (char *letter = argument + 1; *letter; letter++) {
        const cli_option *option = find_letter(r, *letter);
        if (!option) return refuse_option(r, argument);
        char *value, *attached = option->value && letter[1] ? letter + 1 : NULL;
        lks_status status = take_value(r, option, attached, &value);
        if (!status) status = apply(r->args, option, value);
        if (status || option->value) return status;
        if (r->args->command == LKS_COMMAND_HELP || r->args->command == LKS_COMMAND_VERSION)
            return LKS_OK;
    }
    return LKS_OK;
}

static lks_status read_operand(reader *r, const char *argument) {
    const command *c = &commands[r->args->command];
    if (r->args->operand_count >= c->max_operands)
        return lks_fail(LKS_EUSAGE, "%s: \"%s\" is one too many: expected %s", c->name, argument,
                        *c->operands ? c->operands : "nothing");
    r->args->operands[r->args->operand_count++] = argument;
    return LKS_OK;
}

static lks_status read_command(reader *r) {
    const char *names[LKS_COMMAND_COUNT];
    const char *given = r->argv[r->next++];
    for (int i = 0; i < LKS_COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
        if (strcmp(given, names[i]) == 0) {
            r->args->command = (lks_command_kind)i;
            return LKS_OK;
        }
    }
    const char *nearest = lks_nearest_name(given, names, LKS_COMMAND_COUNT);
    return nearest ? lks_fail(LKS_EUSAGE, "unknown command \"%s\": did you mean \"%s\"?", given,
                              nearest)
                   : lks_fail(LKS_EUSAGE, "unknown command \"%s\": `lockstep --help` lists them",
                              given);
}

static lks_status check(const lks_args *args) {
    const command *c = &commands[args->command];
    if (args->operand_count < c->min_operands)
        return lks_fail(LKS_EUSAGE, "%s: expected %s", c->name, c->operands);
    if (args->command == LKS_COMMAND_PREDICT && !args->out)
        return lks_fail(LKS_EUSAGE, "predict: --out FILE.h5 is missing: where to write");
    if (args->command == LKS_COMMAND_EXPORT && !args->out)
        return lks_fail(LKS_EUSAGE,
                        "export: --out FILE is missing: where to write, such as best.safetensors");
    if (args->command == LKS_COMMAND_DOCTOR && args->operand_count == 0 && args->override_count > 0)
        return lks_fail(LKS_EUSAGE, "doctor: RUN.yaml is missing, which the options would change");
    return LKS_OK;
}

lks_status lks_args_parse(int argc, char **argv, lks_args *out) {
    *out = (lks_args){.command = LKS_COMMAND_HELP,
                      .help_for = LKS_COMMAND_HELP,
                      .split = "validation",
                      .max_bytes = INT64_C(1) << 30,
                      .verbosity = 1};
    reader r = {argc, 1, argv, out};
    bool ended = false;
    lks_status status = LKS_OK;
    out->operands = calloc((size_t)argc + 1, sizeof *out->operands);
    if (!out->operands) return lks_fail(LKS_ENOMEM, "out of memory");
    if (argc < 2) return lks_fail(LKS_EUSAGE, "a command is missing: `lockstep --help` lists them");
    if (argv[1][0] != '-') status = read_command(&r);
    while (!status && r.next < argc) {
        char *argument = argv[r.next++];
        if (ended || argument[0] != '-' || !argument[1])
            status = read_operand(&r, argument);
        else if (strcmp(argument, "--") == 0)
            ended = true;
        else
            status = argument[1] == '-' ? read_long(&r, argument) : read_short(&r, argument);
        if (!status && (out->help_for != LKS_COMMAND_HELP || out->command == LKS_COMMAND_VERSION))
            return LKS_OK; /* --help and --version: the rest does not matter */
    }
    return status ? status : check(out);
}

void lks_args_free(lks_args *args) {
    free(args->operands);
    free(args->overrides);
    args->operands = NULL;
    args->overrides = NULL;
    args->operand_count = args->override_count = 0;
}
