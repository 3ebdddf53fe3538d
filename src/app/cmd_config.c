#include <stdlib.h>

#include "app/commands.h"

lks_status lks_command_config(const lks_args *args) {
    char *text;
    lks_run run;
    lks_status status = lks_run_read_text(args->operands[0], &text);
    if (status) return status;
    status = lks_run_parse(args->operands[0], text, args->overrides, args->override_count, &run);
    free(text);
    if (status) return status;
    fputs(run.config.run_file, stdout);
    lks_run_free(&run);
    return LKS_OK;
}
