#include "comm/launcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* mpirun hands its settings to the ranks as variables with this prefix. */
#define MCA "OMPI_MCA_"
#define JOB MCA "ess_base_jobid"

const char *lks_environment_get(char *const *environment, const char *name) {
    size_t length = strlen(name);
    for (; *environment; environment++) {
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    }
    return NULL;
}

/* Mapping ranks by cores, or with so many processing elements each, says what a rank is to use;
 * mapping by slot, node or socket only says where ranks go. */
static bool mapping_means_binding(const char *policy) {
    return strcasestr(policy, "pe=") || strcasestr(policy, "core") ||
           strcasestr(policy, "hwthread");
}

bool lks_launcher_bound_by_default(char *const *environment) {
    static const char *const requests[] = {
        MCA "hwloc_base_binding_policy", /* --bind-to */
        MCA "hwloc_base_bind_to_core",   /* --bind-to-core, deprecated */
        MCA "hwloc_base_bind_to_socket", /* --bind-to-socket, deprecated */
        MCA "hwloc_base_cpu_set",        /* --cpu-set */
        MCA "hwloc_base_cpu_list",       /* --cpu-list */
        MCA "hwloc_base_slot_list",      /* --slot-list */
        MCA "rmaps_base_cpus_per_rank",  /* --cpus-per-proc */
        MCA "orte_rankfile",             /* --rankfile */
        MCA "rmaps_rank_file_path",
    };
    const char *bound = lks_environment_get(environment, MCA "orte_bound_at_launch");
    if (!bound || strcmp(bound, "1") != 0) return false;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (lks_environment_get(environment, requests[i])) return false;
    }
    const char *mapping = lks_environment_get(environment, MCA "rmaps_base_mapping_policy");
    return !mapping || !mapping_means_binding(mapping);
}

static int get_number(char *const *environment, const char *name) {
    const char *text = lks_environment_get(environment, name);
    long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value < 1 << 20 ? (int)value : 0;
}

int lks_launcher_local_size(char *const *environment) {
    return get_number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE");
}

int lks_launcher_local_rank(char *const *environment) {
    return get_number(environment, "OMPI_COMM_WORLD_LOCAL_RANK");
}

int lks_launcher_job_size(char *const *environment, const char **out_variable) {
    /* Open MPI's mpirun comes first: in a Slurm job it may itself have been started by srun. */
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE", /* Open MPI's mpirun */
        "PMI_SIZE",             /* MPICH's and Intel's mpiexec, Cray's */
        "SLURM_STEP_NUM_TASKS", /* srun */
        "FLUX_JOB_SIZE",        /* flux run */
        "JSM_NAMESPACE_SIZE",   /* jsrun */
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int size = get_number(environment, names[i]);
        *out_variable = names[i];
        if (size > 0) return size;
    }
    return 0;
}

static FILE *open_process_file(pid_t process, const char *name) {
    char path[48];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)process, name);
    return fopen(path, "r");
}

static pid_t parent_of(pid_t process) {
    FILE *file = open_process_file(process, "stat");
    if (!file) return 0;
    char line[512] = "";
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = '\0';
    /* "PID (NAME) STATE PARENT ...", and NAME may hold anything, parentheses included. */
    const char *name_end = strrchr(line, ')');
    long parent = 0;
    if (!name_end || sscanf(name_end + 1, " %*c %ld", &parent) != 1) return 0;
    return (pid_t)parent;
}

/* Was the process started with this entry in its environment? */
typedef enum answer { NO, YES, UNKNOWN } answer;

static answer started_with(pid_t process, const char *entry) {
    FILE *file = open_process_file(process, "environ");
    if (!file) return UNKNOWN;
    char *text = NULL;
    size_t capacity = 0;
    answer found = NO;
    while (found == NO && getdelim(&text, &capacity, '\0', file) > 0) {
        if (strcmp(text, entry) == 0) found = YES;
    }
    if (ferror(file)) found = UNKNOWN;
    free(text);
    fclose(file);
    return found;
}

pid_t lks_launcher_process(char *const *environment) {
    const char *job = lks_environment_get(environment, JOB);
    char entry[64];
    if (!job || snprintf(entry, sizeof entry, JOB "=%s", job) >= (int)sizeof entry) return 0;
    for (pid_t process = getppid(); process > 1; process = parent_of(process)) {
        answer in_job = started_with(process, entry);
        if (in_job == UNKNOWN) return 0;
        if (in_job == NO) return process;
    }
    return 0;
}
