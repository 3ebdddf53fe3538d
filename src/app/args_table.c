/* What the command line may say, and the usage that says so. */
#include "app/args_table.h"

#include <limits.h>
#include <string.h>

#include "app/plot.h"

/* Which commands know an option: bits of lks_command_kind. */
#define BIT(command_) (1u << LKS_COMMAND_##command_)
enum {
    ON_TRAIN = BIT(TRAIN),
    ON_RUN_FILE = BIT(TRAIN) | BIT(EVAL) | BIT(PREDICT) | BIT(DOCTOR) | BIT(CONFIG) |
                  BIT(SCHEDULE) | BIT(PLAN),
    ON_DEVICE = BIT(TRAIN) | BIT(EVAL) | BIT(PREDICT),
    ON_SPLIT = BIT(EVAL) | BIT(PREDICT),
    ON_PREDICT = BIT(PREDICT),
    ON_DOCTOR = BIT(DOCTOR),
    ON_JSON = BIT(DOCTOR) | BIT(INSPECT) | BIT(VERIFY) | BIT(SCHEDULE) | BIT(BENCH) | BIT(PLAN),
    ON_EXPORT = BIT(EXPORT),
    ON_IMPORT = BIT(IMPORT),
    ON_SCHEDULE = BIT(SCHEDULE),
    ON_PLOT = BIT(PLOT),
    ON_BENCH = BIT(BENCH),
    ON_PLAN = BIT(PLAN),
    ON_HELP = BIT(HELP),
    ON_ALL = (1u << LKS_COMMAND_COUNT) - 1
};

const lks_cli_command lks_cli_commands[LKS_COMMAND_COUNT] = {
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
    [LKS_COMMAND_PLAN] = {"plan", "RUN.yaml --ranks LIST",
                          "predict memory and speed of a run on other numbers of ranks", 1, 1},
    [LKS_COMMAND_HELP] = {"help", "[COMMAND | SECTION [TYPE]]",
                          "explain a command, or a section of the run file and its options", 0, 2},
    [LKS_COMMAND_VERSION] = {"version", "", "print the versions of lockstep and its libraries", 0,
                             0},
};

const lks_cli_option lks_cli_options[] = {
    {LKS_CLI_SET, "set", 's', "KEY=VALUE", ON_RUN_FILE,
     "put VALUE (YAML) in the place of what the run file says,\n"
     "such as optimizer.lr=3e-4 or model.layers.0.out_channels=8;\n"
     "may be repeated"},
    {LKS_CLI_RESUME, "resume", 'r', "auto|PATH", ON_TRAIN,
     "continue from a checkpoint; auto: the newest one in the\n"
     "run directory, or the beginning where there is none"},
    {LKS_CLI_INIT_FROM, "init-from", 0, "PATH", ON_TRAIN | ON_DOCTOR,
     "begin with the weights of a checkpoint, or of what import\n"
     "has made, unless the run is resumed"},
    {LKS_CLI_INIT_PARAMS, "init-params", 0, "PATTERNS", ON_TRAIN | ON_DOCTOR,
     "take only these of them, such as 'conv* norm*'"},
    {LKS_CLI_DEVICE, "device", 'd', "auto|cpu|cuda", ON_DEVICE | ON_DOCTOR, "where to compute"},
    {LKS_CLI_DEVICE, "device", 'd', "auto|cpu|cuda", ON_BENCH, "whose memory to exchange"},
    {LKS_CLI_DEVICE, "device", 'd', "auto|cpu|cuda", ON_PLAN, "whose memory a run would take"},
    {LKS_CLI_THREADS, "threads", 't', "N", ON_DEVICE | ON_DOCTOR | ON_PLAN,
     "CPU threads of each rank; 0: its share of the cores"},
    {LKS_CLI_PROFILE, "profile", 0, "N", ON_TRAIN,
     "print where the time of N steps went, after a few of warm-up,\n"
     "and write it to profile.json in the run directory"},
    {LKS_CLI_MAX_BYTES, "max-bytes", 0, "SIZE", ON_BENCH,
     "the largest exchange, such as 64MiB; 1GiB by default"},
    {LKS_CLI_RANKS, "ranks", 'n', "LIST", ON_PLAN, "how many ranks, such as 8,64,1024"},
    {LKS_CLI_PROFILE_FILE, "profile", 0, "FILE", ON_PLAN,
     "a profile.json of the same model, of as many ranks on a host as a\n"
     "node will have; may be repeated, best with other numbers of\n"
     "samples; without one memory alone is told"},
    {LKS_CLI_NODE, "node", 0, "FILE|LINK", ON_PLAN,
     "how fast the ranks of a node exchange data: what bench comm\n"
     "--json wrote, or 'latency=2e-6 bandwidth=25e9' (s, bytes/s)"},
    {LKS_CLI_NETWORK, "network", 0, "FILE|LINK", ON_PLAN,
     "the same between nodes, for each rank; a FILE of one rank on\n"
     "each host"},
    {LKS_CLI_RANKS_PER_NODE, "ranks-per-node", 0, "N", ON_PLAN,
     "by default as many as a profile had, or all without --network"},
    {LKS_CLI_CORES, "cores", 0, "N", ON_PLAN,
     "cores of a node that the threads of its ranks share; by default\n"
     "as many as the profile's host had"},
    {LKS_CLI_OUTPUT, "output", 'o', "DIR", ON_TRAIN | ON_DOCTOR, "the run directory"},
    {LKS_CLI_SPLIT, "split", 0, "train|validation", ON_SPLIT,
     "which of the run file's data sets; validation by default"},
    {LKS_CLI_OUT, "out", 'o', "FILE.h5", ON_PREDICT,
     "where to write `outputs` and, for classifiers, `labels`"},
    {LKS_CLI_OUT, "out", 'o', "FILE", ON_PLOT,
     "the picture, .svg or .png; without it, or with -, one in text"},
    {LKS_CLI_OUT, "out", 'o', "FILE", ON_EXPORT, "the file to write, such as best.safetensors"},
    {LKS_CLI_OUT, "out", 'o', "FILE.h5", ON_IMPORT,
     "the checkpoint to write; FILE.h5 beside FILE.safetensors\n"
     "by default"},
    {LKS_CLI_FORMAT, "format", 0, "safetensors|hdf5", ON_EXPORT,
     "what to write; by default as the end of --out says:\n"
     ".safetensors, or .h5 or .hdf5"},
    {LKS_CLI_FORCE, "force", 'f', NULL, ON_EXPORT | ON_IMPORT | ON_PREDICT,
     "replace a file that exists"},
    {LKS_CLI_EPOCHS, "epochs", 'n', "N", ON_SCHEDULE, "so many epochs, whatever the run file says"},
    {LKS_CLI_STEPS, "steps-per-epoch", 0, "N", ON_SCHEDULE,
     "steps of an epoch, for schedules that move on after every\n"
     "step; without it the training data are asked"},
    {LKS_CLI_METRIC, "metric-from", 0, "FILE", ON_SCHEDULE,
     "the metrics.jsonl of a run, for schedules that depend on one"},
    {LKS_CLI_PLOT, "plot", 'p', "FILE", ON_SCHEDULE,
     "draw a picture instead of a table: .svg or .png, - for text"},
    {LKS_CLI_JSON, "json", 0, NULL, ON_JSON, "print JSON"},
    {LKS_CLI_MARKDOWN, "markdown", 0, NULL, ON_HELP,
     "print the whole reference of the run file (docs/config.md)"},
    {LKS_CLI_QUIET, "quiet", 'q', NULL, ON_DEVICE, "warnings, errors and results only"},
    {LKS_CLI_VERBOSE, "verbose", 'v', NULL, ON_DEVICE, "more messages"},
    {LKS_CLI_HELP, "help", 'h', NULL, ON_ALL, "print this help"},
    {LKS_CLI_VERSION, "version", 'V', NULL, ON_ALL, "print versions"},
    {0},
};

const char *lks_command_name(lks_command_kind kind) {
    return lks_cli_commands[kind].name;
}

/* ---- usage ---- */

static void print_option(const lks_cli_option *option, lks_strbuf *out) {
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
        snprintf(head, sizeof head, "%s %s", lks_cli_commands[i].name,
                 lks_cli_commands[i].operands);
        lks_strbuf_add(out, "  %-42s %s\n", head, lks_cli_commands[i].help);
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
    const lks_cli_command *c = &lks_cli_commands[kind];
    lks_strbuf_add(out, "Usage: lockstep %s [OPTION]... %s\n", c->name, c->operands);
    lks_strbuf_add(out, "%c%s.\n\nOptions:\n", c->help[0] - 'a' + 'A', c->help + 1);
    for (int i = 0; lks_cli_options[i].name; i++)
        if (lks_cli_options[i].commands & (1u << kind)) print_option(&lks_cli_options[i], out);
}
