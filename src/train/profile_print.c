/* What a profile found, as the table in the log and as profile.json. */
#include <inttypes.h>

#include "train/profile.h"
#include "train/trainer.h"

static double total_seconds(const lks_profile_result *result) {
    double total = 0;
    for (int kind = 0; kind < LKS_COLLECTIVE_COUNT; kind++)
        total += result->transfers[kind][LKS_PROFILE_SECONDS];
    return total;
}

/* Transfers were under way while the rank computed. */
static double hidden_seconds(const lks_profile_result *result) {
    const double hidden = total_seconds(result) - result->mean.phases[LKS_PHASE_COMM];
    return hidden > 0 ? hidden : 0;
}

static double per_second(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

/* ---- the table ---- */

static void log_phases(const lks_logger *logger, const lks_profile_result *result, int size) {
    const double ms = 1e3 / (double)result->steps;
    char extremes[64] = "";
    if (size > 1)
        snprintf(extremes, sizeof(extremes), "   busiest: rank %-6d idlest: rank %d",
                 result->slowest_rank, result->fastest_rank);
    lks_log(logger, LKS_LOG_INFO, "  %-20s %10s %7s%s", "phase", "ms", "share", extremes);
    for (int phase = LKS_PHASE_INPUT; phase <= LKS_PHASE_COUNT; phase++) {
        const int p = phase % LKS_PHASE_COUNT; /* `other` stands last */
        if (size > 1)
            snprintf(extremes, sizeof(extremes), "   %13.3f %19.3f", ms * result->slowest.phases[p],
                     ms * result->fastest.phases[p]);
        lks_log(logger, LKS_LOG_INFO, "  %-20s %10.3f %6.1f%%%s", lks_phase_names[p],
                ms * result->mean.phases[p],
                100 * per_second(result->mean.phases[p], result->mean.step), extremes);
    }
    lks_log(logger, LKS_LOG_INFO, "beside them, the loader's thread: %.3f ms of processor time",
            ms * result->loader);
}

static void log_communication(const lks_logger *logger, const lks_profile_result *result,
                              int size) {
    const double steps = (double)result->steps, ms = 1e3 / steps;
    const double total = total_seconds(result), hidden = hidden_seconds(result);
    if (total <= 0) return;
    lks_log(logger, LKS_LOG_INFO,
            "communication: %.3f ms a step under way, %.3f ms (%.0f %%) of it hidden behind "
            "computing; %.3f ms exposed",
            ms * total, ms * hidden, 100 * hidden / total,
            ms * result->mean.phases[LKS_PHASE_COMM]);
    lks_log(logger, LKS_LOG_INFO, "  %-20s %10s %12s %10s %12s %12s", "collective", "calls", "MB",
            "ms", "algbw GB/s", "busbw GB/s");
    for (int kind = 0; kind < LKS_COLLECTIVE_COUNT; kind++) {
        const double *sums = result->transfers[kind];
        const double rate = per_second(sums[LKS_PROFILE_BYTES], sums[LKS_PROFILE_SECONDS]) * 1e-9;
        if (sums[LKS_PROFILE_CALLS] == 0) continue;
        lks_log(logger, LKS_LOG_INFO, "  %-20s %10.1f %12.4f %10.3f %12.3f %12.3f",
                lks_collective_name((lks_collective)kind), sums[LKS_PROFILE_CALLS] / steps,
                sums[LKS_PROFILE_BYTES] / steps * 1e-6, ms * sums[LKS_PROFILE_SECONDS], rate,
                rate * lks_collective_bus_factor((lks_collective)kind, size));
    }
}

/* Layers that are fused into others have no time of their own. */
static void log_layers(const lks_trainer *t, const lks_profile_result *result) {
    const lks_logger *logger = &t->context->logger;
    const double ms = 1e3 / (double)result->steps;
    const double samples = result->samples / lks_comm_size(t->context->comm);
    lks_log(logger, LKS_LOG_INFO, "  %-20s %-16s %12s %12s %7s %14s", "layer", "type", "forward ms",
            "backward ms", "share", "GFLOP/s");
    for (int i = 0; i < lks_graph_layer_count(t->graph); i++) {
        const lks_layer_info layer = lks_graph_layer(t->graph, i);
        const double both = result->forward[i] + result->backward[i];
        const double flops = 2 * (double)layer.multiply_adds * samples;
        char rate[32] = "";
        if (both <= 0) continue;
        if (flops > 0)
            snprintf(rate, sizeof(rate), "%.1f", per_second(flops, result->forward[i]) * 1e-9);
        lks_log(logger, LKS_LOG_INFO, "  %-20s %-16s %12.3f %12.3f %6.1f%% %14s", layer.name,
                layer.type, ms * result->forward[i], ms * result->backward[i],
                100 * per_second(both, result->mean.step), rate);
    }
}

void lks_profile_log(const lks_trainer *t, const lks_profile_result *result) {
    const lks_logger *logger = &t->context->logger;
    const int size = lks_comm_size(t->context->comm);
    lks_log(logger, LKS_LOG_INFO,
            "profile of %" PRId64 " steps after %d of warm-up: %.3f ms a step, %.1f samples/s%s",
            result->steps, LKS_PROFILE_WARM_UP_STEPS,
            1e3 * result->mean.step / (double)result->steps,
            per_second(result->samples, result->mean.step),
            size > 1 ? "; mean of all ranks, and those with the most and the least to do" : "");
    log_phases(logger, result, size);
    log_communication(logger, result, size);
    log_layers(t, result);
}

/* ---- profile.json ----
 *
 * Its format's number changes where a member is no longer what it was; readers ignore members that
 * they do not know, so new ones need no new number. */

/* What a host's cores had to do with the phases; a GPU's time is not theirs. */
static void add_processor(const lks_trainer *t, lks_strbuf *out, const lks_profile_rank *rank,
                          double steps) {
    const char *separator = "";
    if (!lks_device_is_host(t->context->device)) return;
    lks_strbuf_add(out, ",\n \"cores\": %d, \"processor\": {", t->context->host_cores);
    for (int phase = 0; phase < LKS_PHASE_COUNT; phase++) {
        lks_strbuf_add(out, "%s\"%s\": ", separator, lks_phase_names[phase]);
        lks_strbuf_add_json_number(out, rank->processor[phase] / steps);
        separator = ", ";
    }
    lks_strbuf_add(out, "}");
}

static void add_phases(lks_strbuf *out, const char *key, const lks_profile_rank *rank,
                       double steps) {
    lks_strbuf_add(out, ",\n \"%s\": {\"step\": ", key);
    lks_strbuf_add_json_number(out, rank->step / steps);
    for (int phase = 0; phase < LKS_PHASE_COUNT; phase++)
        lks_strbuf_add_number_member(out, lks_phase_names[phase], rank->phases[phase] / steps);
    lks_strbuf_add(out, "}");
}

static void add_collectives(lks_strbuf *out, const lks_profile_result *result, int size) {
    const double steps = (double)result->steps;
    const char *separator = "";
    lks_strbuf_add(out, ",\n \"collectives\": [");
    for (int kind = 0; kind < LKS_COLLECTIVE_COUNT; kind++) {
        const double *sums = result->transfers[kind];
        const double rate = per_second(sums[LKS_PROFILE_BYTES], sums[LKS_PROFILE_SECONDS]);
        if (sums[LKS_PROFILE_CALLS] == 0) continue;
        lks_strbuf_add(out, "%s\n  {\"kind\": \"%s\"", separator,
                       lks_collective_name((lks_collective)kind));
        lks_strbuf_add_number_member(out, "calls", sums[LKS_PROFILE_CALLS] / steps);
        lks_strbuf_add_number_member(out, "bytes", sums[LKS_PROFILE_BYTES] / steps);
        lks_strbuf_add_number_member(out, "seconds", sums[LKS_PROFILE_SECONDS] / steps);
        lks_strbuf_add_number_member(out, "algbw", rate);
        lks_strbuf_add_number_member(out, "busbw",
                                     rate * lks_collective_bus_factor((lks_collective)kind, size));
        lks_strbuf_add(out, "}");
        separator = ",";
    }
    lks_strbuf_add(out, "]");
}

static void add_layers(const lks_trainer *t, lks_strbuf *out, const lks_profile_result *result) {
    const double steps = (double)result->steps;
    lks_strbuf_add(out, ",\n \"layers\": [");
    for (int i = 0; i < lks_graph_layer_count(t->graph); i++) {
        const lks_layer_info layer = lks_graph_layer(t->graph, i);
        lks_strbuf_add(out, "%s\n  {\"name\": ", i == 0 ? "" : ",");
        lks_strbuf_add_json(out, layer.name);
        lks_strbuf_add_text_member(out, "type", layer.type);
        lks_strbuf_add_number_member(out, "parameters", (double)layer.param_count);
        lks_strbuf_add_number_member(out, "forward_flops", 2 * (double)layer.multiply_adds);
        lks_strbuf_add_number_member(out, "forward", result->forward[i] / steps);
        lks_strbuf_add_number_member(out, "backward", result->backward[i] / steps);
        lks_strbuf_add(out, "}");
    }
    lks_strbuf_add(out, "]");
}

/* Do the ranks exchange device memory directly? Of one rank on a GPU: as more of them would. */
static bool is_on_device(const lks_trainer *t) {
    const lks_comm *comm = t->context->comm;
    return lks_comm_size(comm) > 1 ? lks_comm_is_on_device(comm)
                                   : !lks_device_is_host(t->context->device);
}

void lks_profile_print_json(const lks_trainer *t, const lks_profile_result *result,
                            lks_strbuf *out) {
    const lks_comm *comm = t->context->comm;
    const double steps = (double)result->steps;
    lks_strbuf_add(out, "{\"format\": \"lockstep profile 1\"");
    lks_strbuf_add_text_member(out, "device", lks_device_kind(t->context->device));
    lks_strbuf_add_text_member(out, "description", lks_device_description(t->context->device));
    lks_strbuf_add_text_member(out, "backend", lks_comm_device_path(comm));
    lks_strbuf_add(out, ", \"on_device\": %s", is_on_device(t) ? "true" : "false");
    lks_strbuf_add_number_member(out, "ranks", lks_comm_size(comm));
    lks_strbuf_add_number_member(out, "hosts", lks_comm_host_count(comm));
    lks_strbuf_add_number_member(out, "threads", lks_device_threads(t->context->device));
    lks_strbuf_add_number_member(out, "zero_stage", (double)t->config.zero_stage);
    lks_strbuf_add_number_member(out, "steps", steps);
    lks_strbuf_add_number_member(out, "samples", result->samples / steps);
    lks_strbuf_add_number_member(out, "updated_parameters", (double)t->plan->state_count);
    lks_strbuf_add_number_member(out, "loader", result->loader / steps);
    add_phases(out, "mean", &result->mean, steps);
    add_processor(t, out, &result->mean, steps);
    add_phases(out, "slowest", &result->slowest, steps);
    lks_strbuf_add_number_member(out, "slowest_rank", result->slowest_rank);
    add_phases(out, "fastest", &result->fastest, steps);
    lks_strbuf_add_number_member(out, "fastest_rank", result->fastest_rank);
    lks_strbuf_add(out, ",\n \"communication\": {\"total\": ");
    lks_strbuf_add_json_number(out, total_seconds(result) / steps);
    lks_strbuf_add_number_member(out, "hidden", hidden_seconds(result) / steps);
    lks_strbuf_add_number_member(out, "exposed", result->mean.phases[LKS_PHASE_COMM] / steps);
    lks_strbuf_add(out, "}");
    add_collectives(out, result, lks_comm_size(comm));
    add_layers(t, out, result);
    lks_strbuf_add(out, "}\n");
}
