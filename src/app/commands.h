/* The commands. Each returns its status with the detail in lks_last_error; main prints it. */
#ifndef LKS_APP_COMMANDS_H
#define LKS_APP_COMMANDS_H

#include "app/args.h"

/* Collective over MPI_COMM_WORLD, with the same arguments on every rank. */
lks_status lks_command_train(const lks_args *args);
lks_status lks_command_eval(const lks_args *args);
lks_status lks_command_predict(const lks_args *args);
lks_status lks_command_bench(const lks_args *args);
lks_status lks_command_plan(const lks_args *args);
lks_status lks_command_import(const lks_args *args);
lks_status lks_command_doctor(const lks_args *args);

/* Without MPI. */
lks_status lks_command_inspect(const lks_args *args);
lks_status lks_command_verify(const lks_args *args);
lks_status lks_command_export(const lks_args *args);
lks_status lks_command_config(const lks_args *args);
lks_status lks_command_schedule(const lks_args *args);
lks_status lks_command_plot(const lks_args *args);
lks_status lks_command_help(const lks_args *args);
lks_status lks_command_version(const lks_args *args);

#endif
