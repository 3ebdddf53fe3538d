/* The commands and their options, as tables; included by args*.c alone. */
#ifndef LKS_APP_ARGS_TABLE_H
#define LKS_APP_ARGS_TABLE_H

#include "app/args.h"

typedef struct lks_cli_command {
    const char *name, *operands, *help;
    int min_operands, max_operands;
} lks_cli_command;

extern const lks_cli_command lks_cli_commands[LKS_COMMAND_COUNT];

typedef enum lks_cli_option_id {
    LKS_CLI_SET,
    LKS_CLI_RESUME,
    LKS_CLI_INIT_FROM,
    LKS_CLI_INIT_PARAMS,
    LKS_CLI_DEVICE,
    LKS_CLI_THREADS,
    LKS_CLI_OUTPUT,
    LKS_CLI_SPLIT,
    LKS_CLI_OUT,
    LKS_CLI_EPOCHS,
    LKS_CLI_STEPS,
    LKS_CLI_PROFILE,
    LKS_CLI_MAX_BYTES,
    LKS_CLI_RANKS,
    LKS_CLI_PROFILE_FILE,
    LKS_CLI_NODE,
    LKS_CLI_NETWORK,
    LKS_CLI_RANKS_PER_NODE,
    LKS_CLI_CORES,
    LKS_CLI_METRIC,
    LKS_CLI_PLOT,
    LKS_CLI_FORMAT,
    LKS_CLI_FORCE,
    LKS_CLI_JSON,
    LKS_CLI_MARKDOWN,
    LKS_CLI_QUIET,
    LKS_CLI_VERBOSE,
    LKS_CLI_HELP,
    LKS_CLI_VERSION
} lks_cli_option_id;

enum { LKS_CLI_MAX_OPTIONS = 64 };

typedef struct lks_cli_option {
    lks_cli_option_id id;
    const char *name;
    char letter;           /* 0: no short form */
    const char *value;     /* its name in the usage; NULL: takes none */
    unsigned int commands; /* that know it */
    const char *help;
} lks_cli_option;

/* Ended by an all-zero element. A name may stand there more than once, for other commands. */
extern const lks_cli_option lks_cli_options[];

#endif
