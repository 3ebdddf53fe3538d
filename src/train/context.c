#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "train/trainer.h"

static const lks_context_config default_config = LKS_CONTEXT_CONFIG_DEFAULT;

/* OpenMP's threads spin while they wait for each other, unless its own variable says otherwise; a
 * run time counts a process's cores when it is loaded, and knows of no other processes on them. */
static bool threads_spin(void) {
    const char *policy = getenv("OMP_WAIT_POLICY");
    return policy == NULL || strcasecmp(policy, "passive") != 0;
}

static void warn_of_threads(const lks_context *context, int threads, int share) {
    if (threads <= share || !threads_spin()) return;
    lks_log(&context->logger, LKS_LOG_WARNING,
            "threads: %d, where a rank's share of the cores is %d: threads that wait for others "
            "take the cores from them, and a step can take tens of times as long; leave `threads` "
            "out, or set OMP_WAIT_POLICY=passive",
            threads, share);
}

static lks_status open_device(lks_context *context, const lks_context_config *config) {
    lks_comm *comm = context->comm;
    lks_cpu_share share;
    /* also for a given number: it moves this rank's threads to its share of the cores */
    lks_status status = lks_comm_threads(comm, &share);
    if (status != LKS_OK) return status;
    context->host_cores = share.host_cores;
    int threads = config->threads == 0 ? share.threads : config->threads;
    warn_of_threads(context, threads, share.threads);
    lks_device_config device_config = {
        .kind = config->device == NULL ? "auto" : config->device,
        .threads = threads,
        .local_rank = lks_comm_local_rank(comm),
        .local_size = lks_comm_local_size(comm),
        .logger = &context->logger,
    };
    status = lks_precision_by_name(config->precision, &device_config.precision);
    if (threads < 0)
        status = lks_fail(LKS_EINVAL, "threads: %d is out of range: expected 0 or more", threads);
    if (status == LKS_OK) status = lks_device_create(&device_config, &context->device);
    return lks_comm_agree(comm, status);
}

/* Programs of two versions may agree on nothing that comes later. Collective. */
static lks_status check_version(lks_comm *comm) {
    char zeros[32] = LKS_VERSION;
    lks_status status = lks_comm_broadcast(comm, zeros, sizeof(zeros), 0);
    if (status != LKS_OK) return status;
    zeros[sizeof(zeros) - 1] = '\0';
    bool same = strcmp(zeros, LKS_VERSION) == 0;
    return lks_comm_agree(comm, same ? LKS_OK
                                     : lks_fail(LKS_EDIFFER,
                                                "this rank runs Lockstep %s, rank 0 Lockstep %s",
                                                LKS_VERSION, zeros));
}

lks_status lks_context_create(MPI_Comm mpi_comm, const lks_context_config *config,
                              lks_context **out) {
    if (out == NULL) return lks_fail(LKS_EINVAL, "lks_context_create: out is NULL");
    if (config == NULL) config = &default_config;
    double created = lks_clock_seconds();

    static const lks_log_level levels[] = {LKS_LOG_ERROR, LKS_LOG_WARNING, LKS_LOG_INFO,
                                           LKS_LOG_DEBUG};
    int verbosity = config->verbosity < -1 ? -1 : config->verbosity > 2 ? 2 : config->verbosity;
    lks_logger logger = {.level = levels[verbosity + 1], .stream = stderr};
    /* First, so that a rank without memory can tell the others. */
    lks_comm *comm;
    lks_status status = lks_comm_create(mpi_comm, NULL, &logger, &comm);
    if (status != LKS_OK) return status;
    lks_context *context = calloc(1, sizeof(*context));
    status = lks_comm_agree(
        comm, context == NULL ? lks_fail(LKS_ENOMEM, "the context: out of host memory") : LKS_OK);
    if (status != LKS_OK) {
        lks_comm_destroy(comm);
        free(context);
        return status;
    }
    logger.rank = lks_comm_rank(comm);
    *context = (lks_context){.comm = comm, .logger = logger, .created = created};
    lks_comm_set_logger(comm, &context->logger);
    status = check_version(comm);
    if (status == LKS_OK)
        status = lks_guard_create(comm, &config->guard, &context->logger, &context->guard);
    if (status == LKS_OK) status = open_device(context, config);
    if (status == LKS_OK) status = lks_comm_set_device(comm, context->device);
    if (status == LKS_OK && config->guard.timeout > 0)
        lks_comm_set_deadline(comm, config->guard.timeout);
    if (status != LKS_OK) {
        lks_context_destroy(context);
        return status;
    }
    *out = context;
    return LKS_OK;
}

void lks_context_destroy(lks_context *context) {
    if (context == NULL) return;
    lks_guard_destroy(context->guard);
    lks_comm_destroy(context->comm);
    lks_device_destroy(context->device);
    free(context);
}

int lks_context_rank(const lks_context *context) {
    return lks_comm_rank(context->comm);
}

int lks_context_size(const lks_context *context) {
    return lks_comm_size(context->comm);
}

bool lks_strands_others(lks_status status) {
    return status == LKS_ECOMM || status == LKS_EDEVICE || status == LKS_EINTERNAL;
}

lks_guard *lks_context_guard(const lks_context *context) {
    return context->guard;
}

lks_comm *lks_context_comm(const lks_context *context) {
    return context->comm;
}

lks_device *lks_context_device(const lks_context *context) {
    return context->device;
}

lks_logger *lks_context_logger(lks_context *context) {
    return &context->logger;
}
