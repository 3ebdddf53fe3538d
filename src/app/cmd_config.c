#include "app/commands.h"

lks_status lks_command_config(const lks_args *args) {
    lks_run run;
    lks_status status =
        lks_run_load(args->operands[0], args->overrides, args->override_count, &run);
    if (status) return status;
    fputs(run.config.run_file, stdout);
    lks_run_free(&run);
    return LKS_OK;
}
