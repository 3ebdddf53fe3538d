/* The start-up table: what is about to run, where, and what it costs. */
#include <inttypes.h>
#include <string.h>

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

/* One line for each set of parameters with settings of its own, and what sets it apart; none where
 * all have the same. */
static void log_groups(const lks_trainer *t, const lks_logger *logger) {
    const lks_param_set *set;
    if (lks_param_groups_set(t->groups, 1) == NULL) return;
    for (int i = 0; (set = lks_param_groups_set(t->groups, i)) != NULL; i++) {
        if (set->param_count == 0) continue; /* the base of the others */
        char group[24] = "frozen";
        lks_strbuf settings = {0};
        if (!set->frozen) snprintf(group, sizeof(group), "group %d", set->optimizer_group);
        if (set->optimizer_group > 0)
            lks_optimizer_describe_group(t->optimizer, set->optimizer_group, &settings);
        lks_log(logger, LKS_LOG_INFO, "  %s, %s%s: %d parameter%s with %" PRId64 " numbers%s%s",
                group, set->patterns == NULL ? "all others" : set->patterns,
                set->no_decay ? " (no_decay)" : "", set->param_count, lks_plural(set->param_count),
                set->element_count, settings.length > 0 ? ", " : "",
                settings.length > 0 ? settings.text : "");
        lks_strbuf_free(&settings);
    }
}

static void log_training(const lks_trainer *t, const lks_logger *logger) {
    char shape[LKS_SHAPE_TEXT_BYTES];
    const int64_t count = lks_dataset_count(t->train_data), steps = lks_loader_steps(t->loader);
    lks_log(logger, LKS_LOG_INFO,
            "data: %s, %" PRId64 " sample%s of %s, %" PRId64 " step%s of %" PRId64 " per epoch",
            lks_dataset_describe(t->train_data), count, lks_plural(count),
            lks_shape_text(lks_dataset_input_shape(t->train_data), shape), steps, lks_plural(steps),
            count < t->config.batch_size ? count : t->config.batch_size);
    if (t->validation_data != NULL) {
        const int64_t validated = lks_dataset_count(t->validation_data);
        lks_log(logger, LKS_LOG_INFO, "validation: %s, %" PRId64 " sample%s",
                lks_dataset_describe(t->validation_data), validated, lks_plural(validated));
    }
    lks_strbuf hyper = {0};
    lks_optimizer_describe_group(t->optimizer, 0, &hyper);
    lks_log(logger, LKS_LOG_INFO, "optimizer: %s, %s; schedule: %s",
            lks_optimizer_name(t->optimizer), hyper.failed ? "..." : hyper.text,
            lks_rates_name(t->rates));
    lks_strbuf_free(&hyper);
    log_groups(t, logger);
}

/* ---- memory ---- */

const char *const lks_memory_kind_names[LKS_MEMORY_KINDS] = {
    "parameters", "float32 masters", "gradients", "optimizer state", "activations"};

void lks_trainer_device_bytes(const lks_trainer *t, int64_t bytes[LKS_MEMORY_KINDS]) {
    bytes[LKS_MEMORY_PARAMETERS] = (int64_t)t->params.flat_bytes;
    bytes[LKS_MEMORY_MASTERS] = (int64_t)t->params.master_bytes;
    bytes[LKS_MEMORY_GRADIENTS] = bytes[LKS_MEMORY_STATE] = 0;
    bytes[LKS_MEMORY_ACTIVATIONS] = (int64_t)lks_graph_get_memory(t->graph).planned_bytes;
    if (t->train_data == NULL) return;
    bytes[LKS_MEMORY_GRADIENTS] = (int64_t)lks_exchange_grad_bytes(t->exchange);
    bytes[LKS_MEMORY_STATE] = (int64_t)lks_optimizer_state_bytes(t->optimizer);
}

/* The most and the least that a rank has of each kind. Collective. */
static lks_status measure_memory(const lks_trainer *t, int64_t *most, int64_t *least) {
    int64_t bytes[2 * LKS_MEMORY_KINDS];
    lks_trainer_device_bytes(t, bytes);
    /* The least is the largest of the negatives. */
    for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++)
        bytes[LKS_MEMORY_KINDS + kind] = -bytes[kind];
    lks_status status =
        lks_comm_all_reduce(t->context->comm, bytes, 2 * LKS_MEMORY_KINDS, LKS_I64, LKS_REDUCE_MAX);
    for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++) {
        most[kind] = bytes[kind];
        least[kind] = -bytes[LKS_MEMORY_KINDS + kind];
    }
    return status;
}

/* "1.2 MiB", or "1.2 MiB to 1.3 MiB" where the ranks differ. */
static void print_range(int64_t least, int64_t most, lks_strbuf *out) {
    char low[LKS_BYTES_TEXT_BYTES], high[LKS_BYTES_TEXT_BYTES];
    lks_strbuf_add(out, "%s", lks_bytes_text((size_t)least, low));
    if (least != most) lks_strbuf_add(out, " to %s", lks_bytes_text((size_t)most, high));
}

/* What ZeRO's formulas give, and beside it padding and the window that gradients go through. */
static void log_bytes_per_parameter(const lks_trainer *t, const lks_logger *logger,
                                    const int64_t *most) {
    int64_t count = 0, bytes = 0;
    for (int i = 0; i < lks_graph_param_count(t->graph); i++)
        count += lks_graph_param(t->graph, i)->count;
    for (int kind = 0; kind < LKS_MEMORY_ACTIVATIONS; kind++)
        bytes += most[kind];
    if (count > 0)
        lks_log(logger, LKS_LOG_INFO, "  %.2f bytes for each parameter, without activations",
                (double)bytes / (double)count);
}

static void log_sums(const lks_trainer *t, const lks_logger *logger) {
    char size[LKS_BYTES_TEXT_BYTES];
    const size_t bytes = lks_exchange_sum_bytes(t->exchange);
    if (bytes > 0)
        lks_log(logger, LKS_LOG_INFO,
                "  up to %s of host memory beside, while gradients are summed over the ranks",
                lks_bytes_text(bytes, size));
}

static void log_memory(const lks_trainer *t, const lks_logger *logger, const int64_t *least,
                       const int64_t *most) {
    const lks_shard_plan *plan = t->plan;
    char unshared[LKS_BYTES_TEXT_BYTES];
    lks_log(logger, LKS_LOG_INFO, "device memory of each rank:");
    for (int kind = 0; kind < LKS_MEMORY_KINDS; kind++) {
        lks_strbuf text = {0};
        if (t->train_data == NULL && (kind == LKS_MEMORY_GRADIENTS || kind == LKS_MEMORY_STATE))
            continue;
        if (kind == LKS_MEMORY_MASTERS && !lks_param_store_has_masters(&t->params)) continue;
        print_range(least[kind], most[kind], &text);
        if (kind == LKS_MEMORY_GRADIENTS)
            lks_strbuf_add(&text, " (zero_stage %d, %d bucket%s%s%s)", plan->zero_stage,
                           plan->bucket_count, lks_plural(plan->bucket_count),
                           plan->size > 1 ? ", summed in " : "",
                           plan->size > 1 ? lks_dtype_name(lks_trainer_sum_type(t)) : "");
        if (kind == LKS_MEMORY_ACTIVATIONS)
            lks_strbuf_add(&text, " for %" PRId64 " samples (%s if none were shared)", t->max_rows,
                           lks_bytes_text(lks_graph_get_memory(t->graph).unshared_bytes, unshared));
        lks_log(logger, LKS_LOG_INFO, "  %-16s %s", lks_memory_kind_names[kind],
                text.failed ? "..." : text.text);
        lks_strbuf_free(&text);
    }
    if (t->train_data == NULL) return;
    log_bytes_per_parameter(t, logger, most);
    log_sums(t, logger);
}

/* ---- devices ---- */

/* One line for each rank may be too many: rank 0's device stands for all, unless another rank's is
 * of another kind. Collective. */
static lks_status warn_of_mixed_devices(const lks_trainer *t) {
    const lks_context *context = t->context;
    lks_comm *comm = context->comm;
    char first[16], last[16]; /* the kind of rank 0, and of the last rank that differs from it */
    snprintf(first, sizeof first, "%s", lks_device_kind(context->device));
    memcpy(last, first, sizeof last);
    lks_status status = lks_comm_broadcast(comm, first, sizeof first, 0);
    int64_t other = strcmp(first, last) == 0 ? 0 : lks_comm_rank(comm);
    if (status == LKS_OK) status = lks_comm_all_reduce(comm, &other, 1, LKS_I64, LKS_REDUCE_MAX);
    if (status != LKS_OK || other == 0) return status;
    status = lks_comm_broadcast(comm, last, sizeof last, (int)other);
    lks_log(&context->logger, LKS_LOG_WARNING,
            "not all ranks compute alike: rank 0 on the device %s, rank %" PRId64
            " on %s; every step waits for the slowest (device: cuda refuses a rank without a GPU)",
            first, other, last);
    return status;
}

/* "bucket_bytes: auto took 4.0 MiB; a step takes 12.3 ms with 25.0 MiB, 11.9 ms with 4.0 MiB" */
static void tell_trial(const lks_trainer *t, const lks_bucket_trial *trial) {
    char size[LKS_BYTES_TEXT_BYTES];
    lks_strbuf text = {0};
    if (trial->count == 0) return;
    lks_strbuf_add(&text, "bucket_bytes: auto took %s; a step takes",
                   lks_bytes_text((size_t)trial->bucket_bytes, size));
    for (int i = 0; i < trial->count; i++)
        lks_strbuf_add(&text, "%s %.2f ms with %s", i > 0 ? "," : "", 1e3 * trial->seconds[i],
                       lks_bytes_text((size_t)trial->bytes[i], size));
    lks_log(&t->context->logger, LKS_LOG_INFO, "%s", text.failed ? "..." : text.text);
    lks_strbuf_free(&text);
    if (t->run_dir != NULL) lks_run_dir_bucket_trial(t->run_dir, trial);
}

lks_status lks_trainer_log_startup(const lks_trainer *t, const lks_bucket_trial *trial) {
    const lks_context *context = t->context;
    const lks_logger *logger = &context->logger;
    const lks_comm *comm = context->comm;
    int64_t bytes[2][LKS_MEMORY_KINDS]; /* of the rank with the most, and with the least */
    lks_status status = measure_memory(t, bytes[0], bytes[1]);
    if (status == LKS_OK) status = warn_of_mixed_devices(t);
    if (status != LKS_OK) return status;

    int size = lks_comm_size(comm), hosts = lks_comm_host_count(comm);
    lks_log(logger, LKS_LOG_INFO, "lockstep %s: %d rank%s on %d host%s, each: %s", LKS_VERSION,
            size, lks_plural(size), hosts, lks_plural(hosts),
            lks_device_description(context->device));
    if (size > 1 && !lks_device_is_host(context->device))
        lks_log(logger, LKS_LOG_INFO, "the ranks exchange device memory by %s",
                lks_comm_device_path(comm));
    log_layers(t, logger);
    if (t->train_data != NULL) log_training(t, logger);
    log_memory(t, logger, bytes[1], bytes[0]);
    tell_trial(t, trial);
    return LKS_OK;
}
