/* The start-up table: what is about to run, where, and what it costs. */
#include <inttypes.h>

#include "train/trainer.h"

static void log_layers(const lks_trainer *t, const lks_logger *logger) {
    char shape[LKS_SHAPE_TEXT_BYTES];
    int64_t total = 0;
    lks_log(logger, LKS_LOG_INFO, "  %-20s %-20s %-18s %12s", "layer", "type", "output",
            "parameters");
    for (int i = 0; i < lks_graph_layer_count(t->graph); i++) {
        lks_layer_info layer = lks_graph_layer(t->graph, i);
        total += layer.param_count;
        lks_log(logger, LKS_LOG_INFO, "  %-20s %-20s %-18s %12" PRId64, layer.name, layer.type,
                lks_shape_text(&layer.output, shape), layer.param_count);
    }
    lks_log(logger, LKS_LOG_INFO, "  %-60s %12" PRId64, "total", total);
}

/* One line for each set of parameters with settings of its own, by the numbers that the
 * hyper-parameters have; none where all have the same. */
static void log_groups(const lks_trainer *t, const lks_logger *logger) {
    const lks_param_set *set;
    if (lks_param_groups_set(t->groups, 1) == NULL) return;
    for (int i = 0; (set = lks_param_groups_set(t->groups, i)) != NULL; i++) {
        if (set->param_count == 0) continue; /* the base of the others */
        char group[24] = "frozen", settings[64] = "";
        if (!set->frozen) {
            snprintf(group, sizeof(group), "group %d", set->optimizer_group);
            snprintf(settings, sizeof(settings), ", lr %g, weight_decay %g",
                     lks_optimizer_base_lr(t->optimizer, set->optimizer_group), set->weight_decay);
        }
        lks_log(logger, LKS_LOG_INFO, "  %s, %s%s: %d parameter%s with %" PRId64 " numbers%s",
                group, set->patterns == NULL ? "all others" : set->patterns,
                set->no_decay ? " (no_decay)" : "", set->param_count,
                set->param_count == 1 ? "" : "s", set->element_count, settings);
    }
}

static void log_training(const lks_trainer *t, const lks_logger *logger) {
    char state[LKS_BYTES_TEXT_BYTES], shape[LKS_SHAPE_TEXT_BYTES];
    const lks_shard_plan *plan = t->plan;
    lks_log(logger, LKS_LOG_INFO,
            "data: %s, %" PRId64 " samples of %s, %" PRId64 " steps of %" PRId64 " per epoch",
            lks_dataset_describe(t->train_data), lks_dataset_count(t->train_data),
            lks_shape_text(lks_dataset_input_shape(t->train_data), shape),
            lks_loader_steps(t->loader), t->config.batch_size);
    if (t->validation_data != NULL)
        lks_log(logger, LKS_LOG_INFO, "validation: %s, %" PRId64 " samples",
                lks_dataset_describe(t->validation_data), lks_dataset_count(t->validation_data));
    lks_log(logger, LKS_LOG_INFO, "optimizer: %s, %s; schedule: %s",
            lks_optimizer_name(t->optimizer), lks_optimizer_hyper(t->optimizer),
            lks_rates_name(t->rates));
    log_groups(t, logger);
    lks_log(logger, LKS_LOG_INFO,
            "optimizer state: %s per rank (zero_stage %d); gradients in %d bucket%s",
            lks_bytes_text(lks_optimizer_state_bytes(t->optimizer), state), plan->zero_stage,
            plan->bucket_count, plan->bucket_count == 1 ? "" : "s");
}

void lks_trainer_log_startup(const lks_trainer *t) {
    const lks_context *context = t->context;
    const lks_logger *logger = &context->logger;
    const lks_comm *comm = context->comm;
    char planned[LKS_BYTES_TEXT_BYTES], unshared[LKS_BYTES_TEXT_BYTES];
    int size = lks_comm_size(comm), hosts = lks_comm_host_count(comm);
    lks_log(logger, LKS_LOG_INFO, "lockstep %s: %d rank%s on %d host%s, each: %s", LKS_VERSION,
            size, size == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s",
            lks_device_description(context->device));
    log_layers(t, logger);
    lks_graph_memory memory = lks_graph_get_memory(t->graph);
    lks_log(logger, LKS_LOG_INFO,
            "activations: %s per rank for %" PRId64 " samples (%s if none were shared)",
            lks_bytes_text(memory.planned_bytes, planned), t->max_rows,
            lks_bytes_text(memory.unshared_bytes, unshared));
    if (t->train_data != NULL) log_training(t, logger);
}
