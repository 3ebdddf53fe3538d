#include "train/profile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

struct lks_profile {
    lks_trace *trace;
    int64_t steps_wanted;
    int64_t steps_done;    /* warm-up included */
    double samples;        /* of all ranks, after the warm-up */
    double loader_seconds; /* of the loader's thread, when the warm-up ended */
    int layer_count;
    /* [sum_count] of this rank, then of all: every kind of transfer, every layer's forward and
     * backward, and the loader's thread. */
    double *sums;
    int sum_count;
    lks_profile_rank *ranks; /* [size] */
    int64_t *counts;         /* [size] bytes of each rank in `ranks` */
};

enum { TRANSFER_VALUES = 3 * LKS_COLLECTIVE_COUNT };

/* ---- life ---- */

static lks_status create(lks_trainer *t, int64_t steps, lks_profile **out) {
    lks_profile *profile = calloc(1, sizeof(*profile));
    if (profile == NULL) return lks_fail(LKS_ENOMEM, "the profile: out of host memory");
    const size_t size = (size_t)lks_comm_size(t->context->comm);
    profile->steps_wanted = steps;
    profile->layer_count = lks_graph_layer_count(t->graph);
    profile->sum_count = TRANSFER_VALUES + 2 * profile->layer_count + 1;
    profile->sums = calloc((size_t)profile->sum_count, sizeof(double));
    profile->ranks = calloc(size, sizeof(*profile->ranks));
    profile->counts = calloc(size, sizeof(*profile->counts));
    lks_status status =
        profile->sums != NULL && profile->ranks != NULL && profile->counts != NULL
            ? lks_trace_create(t->context->device, profile->layer_count, &profile->trace)
            : lks_fail(LKS_ENOMEM, "the profile: out of host memory");
    for (size_t r = 0; r < size && status == LKS_OK; r++)
        profile->counts[r] = (int64_t)sizeof(*profile->ranks);
    if (status != LKS_OK)
        lks_profile_destroy(profile);
    else
        *out = profile;
    return status;
}

void lks_profile_destroy(lks_profile *profile) {
    if (profile == NULL) return;
    lks_trace_destroy(profile->trace);
    free(profile->sums);
    free(profile->ranks);
    free(profile->counts);
    free(profile);
}

lks_status lks_trainer_profile(lks_trainer *t, int64_t steps) {
    if (steps < 1 || t->train_data == NULL || t->profile != NULL)
        return lks_fail(LKS_EINVAL,
                        "a profile of %" PRId64 " steps: expected 1 or more, of a trainer with "
                        "training data that has no profile yet",
                        steps);
    lks_status status = lks_comm_agree(t->context->comm, create(t, steps, &t->profile));
    if (status == LKS_OK) {
        lks_device_set_trace(t->context->device, t->profile->trace);
    } else {
        lks_profile_destroy(t->profile);
        t->profile = NULL;
    }
    return status;
}

/* ---- bringing the ranks together ---- */

static void fill(lks_trainer *t, const lks_trace_result *trace, lks_profile_rank *mine) {
    lks_profile *profile = t->profile;
    mine->step = trace->step;
    memcpy(mine->phases, trace->phases, sizeof(mine->phases));
    memcpy(mine->processor, trace->processor, sizeof(mine->processor));
    for (int kind = 0; kind < LKS_COLLECTIVE_COUNT; kind++) {
        double *sums = profile->sums + 3 * kind;
        sums[LKS_PROFILE_CALLS] = (double)trace->transfers[kind].count;
        sums[LKS_PROFILE_BYTES] = (double)trace->transfers[kind].bytes;
        sums[LKS_PROFILE_SECONDS] = trace->transfers[kind].seconds;
    }
    double *forward = profile->sums + TRANSFER_VALUES, *backward = forward + profile->layer_count;
    for (int i = 0; i < profile->layer_count; i++) {
        forward[i] = lks_trace_layer_seconds(profile->trace, LKS_PHASE_FORWARD, i);
        backward[i] = lks_trace_layer_seconds(profile->trace, LKS_PHASE_BACKWARD, i);
    }
    profile->sums[profile->sum_count - 1] =
        lks_loader_thread_seconds(t->loader) - profile->loader_seconds;
}

/* In a step all ranks wait for each other, so it takes as long on all of them: what sets them apart
 * is how much of it they did not spend waiting. */
static double busy_seconds(const lks_profile_rank *rank) {
    return rank->step - rank->phases[LKS_PHASE_COMM];
}

static void compare_ranks(const lks_profile *profile, int size, lks_profile_result *result) {
    const lks_profile_rank *ranks = profile->ranks;
    for (int r = 0; r < size; r++) {
        if (busy_seconds(&ranks[r]) > busy_seconds(&ranks[result->slowest_rank]))
            result->slowest_rank = r;
        if (busy_seconds(&ranks[r]) < busy_seconds(&ranks[result->fastest_rank]))
            result->fastest_rank = r;
        result->mean.step += ranks[r].step / size;
        for (int phase = 0; phase < LKS_PHASE_COUNT; phase++) {
            result->mean.phases[phase] += ranks[r].phases[phase] / size;
            result->mean.processor[phase] += ranks[r].processor[phase] / size;
        }
    }
    result->slowest = ranks[result->slowest_rank];
    result->fastest = ranks[result->fastest_rank];
}

/* Collective. */
static lks_status gather(lks_trainer *t, lks_profile_result *result) {
    lks_profile *profile = t->profile;
    lks_comm *comm = t->context->comm;
    const int size = lks_comm_size(comm);
    lks_trace_result trace;
    lks_status status = lks_comm_agree(comm, lks_trace_read(profile->trace, &trace));
    if (status != LKS_OK) return status;
    fill(t, &trace, &profile->ranks[lks_comm_rank(comm)]);
    status = lks_comm_all_gather(comm, profile->ranks, profile->counts, LKS_U8);
    if (status == LKS_OK)
        status =
            lks_comm_all_reduce(comm, profile->sums, profile->sum_count, LKS_F64, LKS_REDUCE_SUM);
    if (status != LKS_OK) return status;
    for (int i = 0; i < profile->sum_count; i++)
        profile->sums[i] /= size;
    *result = (lks_profile_result){
        .steps = trace.steps,
        .samples = profile->samples,
        .forward = profile->sums + TRANSFER_VALUES,
        .backward = profile->sums + TRANSFER_VALUES + profile->layer_count,
        .loader = profile->sums[profile->sum_count - 1],
    };
    memcpy(result->transfers, profile->sums, sizeof(result->transfers));
    compare_ranks(profile, size, result);
    return LKS_OK;
}

/* ---- the end ---- */

static void write_file(const lks_trainer *t, const lks_profile_result *result) {
    lks_strbuf json = {0};
    lks_profile_print_json(t, result, &json);
    if (json.failed || lks_run_dir_write(t->run_dir, "profile.json", json.text) != LKS_OK)
        lks_log(&t->context->logger, LKS_LOG_WARNING, "profile.json could not be written: %s",
                json.failed ? "out of host memory" : lks_last_error());
    lks_strbuf_free(&json);
}

/* Collective. */
static lks_status tell(lks_trainer *t) {
    lks_profile_result result;
    if (t->profile->steps_done <= LKS_PROFILE_WARM_UP_STEPS)
        return lks_fail(LKS_ESTOPPED, "the run ended before its %d steps of warm-up",
                        LKS_PROFILE_WARM_UP_STEPS);
    lks_status status = gather(t, &result);
    if (status != LKS_OK) return status;
    lks_profile_log(t, &result);
    if (t->run_dir != NULL) write_file(t, &result);
    return LKS_OK;
}

/* status: the same on every rank. Without peers alone the run cannot go on. */
static lks_status end(lks_trainer *t, lks_status status) {
    lks_profile_destroy(t->profile);
    t->profile = NULL;
    if (status == LKS_OK || status == LKS_ECOMM) return status;
    lks_log(&t->context->logger, LKS_LOG_WARNING, "no profile: %s", lks_last_error());
    return LKS_OK;
}

lks_status lks_profile_finish(lks_trainer *t) {
    if (t->profile == NULL) return LKS_OK;
    lks_device_set_trace(t->context->device, NULL);
    return end(t, tell(t));
}

/* A transfer belongs to the step that began it: at either end of the profile none is under way. */
lks_status lks_profile_step(lks_trainer *t) {
    lks_profile *profile = t->profile;
    const int64_t last = LKS_PROFILE_WARM_UP_STEPS + profile->steps_wanted;
    lks_status status = LKS_OK;
    profile->steps_done++;
    if (profile->steps_done == LKS_PROFILE_WARM_UP_STEPS || profile->steps_done == last)
        status = lks_trainer_settle_params(t, LKS_OK);
    if (status != LKS_OK) return status;
    if (profile->steps_done == LKS_PROFILE_WARM_UP_STEPS) {
        status = lks_comm_agree(t->context->comm, lks_trace_reset(profile->trace));
        profile->loader_seconds = lks_loader_thread_seconds(t->loader);
        return status == LKS_OK ? LKS_OK : end(t, status);
    }
    if (profile->steps_done < LKS_PROFILE_WARM_UP_STEPS) return LKS_OK;
    int64_t first, behind; /* samples of the step that is done */
    lks_sampler_batch(lks_dataset_count(t->train_data), t->config.batch_size, t->position.step - 1,
                      &first, &behind);
    profile->samples += (double)(behind - first);
    return profile->steps_done < last ? LKS_OK : lks_profile_finish(t);
}
