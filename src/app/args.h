/* The command line: `lockstep COMMAND [options] operands`, GNU style (--name=value, --name value,
 * short options in groups, options anywhere, -- ends them). */
#ifndef LKS_APP_ARGS_H
#define LKS_APP_ARGS_H

#include <stdio.h>

#include "app/run_file.h"

typedef enum lks_command_kind {
    LKS_COMMAND_TRAIN,
    LKS_COMMAND_EVAL,
    LKS_COMMAND_PREDICT,
    LKS_COMMAND_INSPECT,
    LKS_COMMAND_VERIFY,
    LKS_COMMAND_EXPORT,
    LKS_COMMAND_IMPORT,
    LKS_COMMAND_DOCTOR,
    LKS_COMMAND_CONFIG,
    LKS_COMMAND_SCHEDULE,
    LKS_COMMAND_PLOT,
    LKS_COMMAND_BENCH,
    LKS_COMMAND_PLAN,
    LKS_COMMAND_HELP,
    LKS_COMMAND_VERSION,
    LKS_COMMAND_COUNT
} lks_command_kind;

enum { LKS_ARGS_MAX_PROFILES = 8 };

/* What the command line says. Texts are argv's. */
typedef struct lks_args {
    lks_command_kind command;
    lks_command_kind help_for; /* `help`: the command that is asked about, LKS_COMMAND_HELP: none */
    const char **operands;     /* RUN.yaml, CHECKPOINT, run directories; NULL behind the last */
    int operand_count;
    lks_override *overrides; /* --set, and the options that stand for one: --output, --device ... */
    int override_count;
    const char *resume, *out, *split;
    const char *plot, *metric_from, *format;
    const char *device; /* also among the overrides */
    const char *ranks, *node, *network;
    const char *profiles[LKS_ARGS_MAX_PROFILES];
    int profile_count;
    int64_t ranks_per_node, cores; /* 0: not given; INT_MAX at most */
    int64_t steps_per_epoch;       /* 0: not given */
    int64_t profile_steps;         /* 0: no profile */
    int64_t max_bytes;             /* of a collective */
    int verbosity;                 /* 0 quiet, 1, 2 verbose */
    bool json, markdown, force;
} lks_args;

/* LKS_EUSAGE names what is wrong and what is known. *out is freed by lks_args_free, also after a
 * failure. */
lks_status lks_args_parse(int argc, char **argv, lks_args *out);
void lks_args_free(lks_args *args);

/* The usage of the program, or of one command with its options. */
void lks_args_print_usage(lks_command_kind command, lks_strbuf *out);

/* "train" ... */
const char *lks_command_name(lks_command_kind command);

#endif
