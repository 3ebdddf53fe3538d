#include "app/args.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "app/args_table.h"

/* The command line while it is read. */
typedef struct reader {
    int argc, next;
    char **argv;
    lks_args *args;
    const lks_cli_option *taker; /* the last option whose value was an argument of its own */
} reader;

static lks_status refuse_option(const reader *r, const char *given) {
    const char *names[LKS_CLI_MAX_OPTIONS];
    size_t count = 0;
    for (int i = 0; lks_cli_options[i].name && count < LKS_CLI_MAX_OPTIONS; i++)
        if (lks_cli_options[i].commands & (1u << r->args->command))
            names[count++] = lks_cli_options[i].name;
    const char *name = given + strspn(given, "-");
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "="), name);
    const char *nearest = given[1] == '-' ? lks_nearest_name(plain, names, count) : NULL;
    const char *command_name = lks_cli_commands[r->args->command].name;
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

static lks_status set_count(const lks_cli_option *option, const char *value, int64_t most,
                            int64_t *out) {
    char *end;
    errno = 0;
    long long count = strtoll(value, &end, 10);
    if (errno || end == value || *end || count < 1)
        return lks_fail(LKS_EUSAGE, "--%s %s: expected an integer >= 1", option->name, value);
    if (count > most)
        return lks_fail(LKS_EUSAGE, "--%s %s: expected %" PRId64 " at most", option->name, value,
                        most);
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

static lks_status add_profile(lks_args *args, const char *path) {
    if (args->profile_count == LKS_ARGS_MAX_PROFILES)
        return lks_fail(LKS_EUSAGE, "--profile %s: expected %d profiles at most", path,
                        LKS_ARGS_MAX_PROFILES);
    args->profiles[args->profile_count++] = path;
    return LKS_OK;
}

static lks_status apply(lks_args *args, const lks_cli_option *option, char *value) {
    switch (option->id) {
    case LKS_CLI_SET:
        return add_set(args, value);
    case LKS_CLI_DEVICE:
        args->device = value;
        return add_override(args, "--device", "device", value);
    case LKS_CLI_THREADS:
        return add_override(args, "--threads", "threads", value);
    case LKS_CLI_OUTPUT:
        return add_override(args, "--output", "output", value);
    case LKS_CLI_INIT_FROM:
        return add_override(args, "--init-from", "init_from.path", value);
    case LKS_CLI_INIT_PARAMS:
        return add_override(args, "--init-params", "init_from.params", value);
    case LKS_CLI_EPOCHS:
        return add_override(args, "--epochs", "epochs", value);
    case LKS_CLI_STEPS:
        return set_count(option, value, INT64_MAX, &args->steps_per_epoch);
    case LKS_CLI_PROFILE_FILE:
        return add_profile(args, value);
    case LKS_CLI_RANKS_PER_NODE:
        return set_count(option, value, INT_MAX, &args->ranks_per_node);
    case LKS_CLI_CORES:
        return set_count(option, value, INT_MAX, &args->cores);
    case LKS_CLI_RANKS:
        args->ranks = value;
        break;
    case LKS_CLI_NODE:
        args->node = value;
        break;
    case LKS_CLI_NETWORK:
        args->network = value;
        break;
    case LKS_CLI_MAX_BYTES:
        return set_max_bytes(args, value);
    case LKS_CLI_PROFILE:
        return set_count(option, value, INT64_MAX, &args->profile_steps);
    case LKS_CLI_SPLIT:
        return set_split(args, value);
    case LKS_CLI_RESUME:
        args->resume = value;
        break;
    case LKS_CLI_OUT:
        args->out = value;
        break;
    case LKS_CLI_METRIC:
        args->metric_from = value;
        break;
    case LKS_CLI_PLOT:
        args->plot = value;
        break;
    case LKS_CLI_FORMAT:
        args->format = value;
        break;
    case LKS_CLI_FORCE:
        args->force = true;
        break;
    case LKS_CLI_JSON:
        args->json = true;
        break;
    case LKS_CLI_MARKDOWN:
        args->markdown = true;
        break;
    case LKS_CLI_QUIET:
        args->verbosity = 0;
        break;
    case LKS_CLI_VERBOSE:
        args->verbosity = 2;
        break;
    case LKS_CLI_HELP:
        args->help_for = args->command;
        args->command = LKS_COMMAND_HELP;
        break;
    case LKS_CLI_VERSION:
        args->command = LKS_COMMAND_VERSION;
        break;
    }
    return LKS_OK;
}

/* An option's value: what is attached to it, or the next argument. */
static lks_status take_value(reader *r, const lks_cli_option *option, char *attached, char **out) {
    *out = attached;
    if (option->value && !attached) {
        if (r->next >= r->argc)
            return lks_fail(LKS_EUSAGE, "--%s: its value is missing, %s", option->name,
                            option->value);
        *out = r->argv[r->next++];
        r->taker = option;
    }
    if (!option->value && attached)
        return lks_fail(LKS_EUSAGE, "--%s takes no value, but \"%s\" was given", option->name,
                        attached);
    return LKS_OK;
}

static lks_status read_long(reader *r, char *argument) {
    char *name = argument + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    for (int i = 0; lks_cli_options[i].name; i++) {
        const lks_cli_option *option = &lks_cli_options[i];
        if (!(option->commands & (1u << r->args->command)) || strlen(option->name) != length ||
            strncmp(option->name, name, length) != 0)
            continue;
        char *value;
        lks_status status = take_value(r, option, equals ? equals + 1 : NULL, &value);
        return status ? status : apply(r->args, option, value);
    }
    return refuse_option(r, argument);
}

static const lks_cli_option *find_letter(const reader *r, char letter) {
    for (int i = 0; lks_cli_options[i].name; i++)
        if (lks_cli_options[i].letter == letter &&
            (lks_cli_options[i].commands & (1u << r->args->command)))
            return &lks_cli_options[i];
    return NULL;
}

/* -qv, -o DIR, -oDIR */
static lks_status read_short(reader *r, char *argument) {
    for (char *letter = argument + 1; *letter; letter++) {
        const lks_cli_option *option = find_letter(r, *letter);
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
    const lks_cli_command *c = &lks_cli_commands[r->args->command];
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
        names[i] = lks_cli_commands[i].name;
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

/* The last option may have taken what was meant as an operand: `train --resume run.yaml`. */
static lks_status refuse_lack(const reader *r) {
    const lks_cli_command *c = &lks_cli_commands[r->args->command];
    return r->taker ? lks_fail(LKS_EUSAGE, "%s: expected %s beside the value that --%s takes",
                               c->name, c->operands, r->taker->name)
                    : lks_fail(LKS_EUSAGE, "%s: expected %s", c->name, c->operands);
}

static lks_status check(const reader *r) {
    const lks_args *args = r->args;
    if (args->operand_count < lks_cli_commands[args->command].min_operands) return refuse_lack(r);
    if (args->command == LKS_COMMAND_PREDICT && !args->out)
        return lks_fail(LKS_EUSAGE, "predict: --out FILE.h5 is missing: where to write");
    if (args->command == LKS_COMMAND_PLAN && !args->ranks)
        return lks_fail(LKS_EUSAGE, "plan: --ranks LIST is missing: how many, such as 8,64,1024");
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
    reader r = {argc, 1, argv, out, NULL};
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
    return status ? status : check(&r);
}

void lks_args_free(lks_args *args) {
    free(args->operands);
    free(args->overrides);
    args->operands = NULL;
    args->overrides = NULL;
    args->operand_count = args->override_count = 0;
}
