#include "train/bucket_trial.h"

#include "train/trainer.h"

enum { WARM_UP_STEPS = 2, ROUNDS = 2, MOST_STEPS = 4 };

/* A round has as many steps as about fit, at least one. */
static const double round_seconds = 0.5;

/* The default first: where sizes cut a model alike, the first of them stands for all. */
static const int64_t sizes[LKS_BUCKET_TRIAL_SIZES] = {LKS_BUCKET_BYTES_DEFAULT, 1 << 20, 4 << 20,
                                                      10 << 20, 50 << 20};

/* A run under trial: the model, its data, and how many steps a round has. */
typedef struct trial {
    lks_context *context;
    const lks_layer_spec *layers;
    const lks_shape *input;
    lks_dataset *train;
    const lks_train_config *config;
    int64_t steps; /* 0: not known yet */
    bool halted;
} trial;

/* Nothing but the training itself: no file, no word. */
static lks_status open_trainer(const trial *trial, int64_t bucket_bytes, lks_trainer **out) {
    lks_train_config config = *trial->config;
    config.bucket_bytes = bucket_bytes;
    config.callbacks.on_step = NULL;
    config.callbacks.on_epoch = NULL;
    config.early_stopping = config.checkpoint = config.output = config.run_file = NULL;
    config.check_sync = 0;
    config.cuda_graph = false;
    return lks_trainer_build(trial->context, trial->layers, trial->input, trial->train, NULL,
                             &config, out);
}

/* ---- which sizes ---- */

/* Are the buckets of both sizes the same? */
static lks_status cut_alike(const lks_trainer *t, int64_t size, int64_t other, bool *out) {
    lks_shard_plan *a = NULL, *b = NULL;
    lks_status status = lks_trainer_plan_shards(t, size, &a);
    if (status == LKS_OK) status = lks_trainer_plan_shards(t, other, &b);
    *out = status == LKS_OK && a->bucket_count == b->bucket_count &&
           (a->bucket_count < 2 || a->buckets[1].count == b->buckets[1].count);
    lks_shard_plan_destroy(a);
    lks_shard_plan_destroy(b);
    return status;
}

/* The same on every rank, and so is a failure, but for a lack of memory. */
static lks_status choose_sizes(const lks_trainer *t, lks_bucket_trial *out) {
    lks_status status = LKS_OK;
    for (int s = 0; s < LKS_BUCKET_TRIAL_SIZES; s++) {
        bool alike = false;
        for (int i = 0; i < out->count && !alike && status == LKS_OK; i++)
            status = cut_alike(t, sizes[s], out->bytes[i], &alike);
        if (!alike) out->bytes[out->count++] = sizes[s];
    }
    return lks_comm_agree(t->context->comm, status);
}

/* ---- how fast ---- */

/* All ranks have agreed that the run stops. They stop trying, and the run's first step learns of it
 * anew. */
static bool is_halted(const lks_trainer *t) {
    return t->halt != LKS_END_EPOCHS;
}

/* An epoch that is over begins again. The same status on every rank. */
static lks_status run_steps(lks_trainer *t, int64_t steps, double *out_seconds) {
    const double began = lks_clock_seconds();
    lks_status status = LKS_OK;
    for (int64_t i = 0; i < steps && status == LKS_OK && !is_halted(t); i++) {
        bool epoch_done = false;
        status = lks_trainer_step(t, &epoch_done);
        if (!epoch_done) continue;
        t->position.step = 0;
        t->epoch_began = 0;
    }
    status = lks_trainer_settle_params(t, status);
    if (status == LKS_OK) {
        lks_stream *compute = lks_device_stream(t->context->device, LKS_STREAM_COMPUTE);
        lks_failure_note(&t->failure, lks_stream_synchronize(compute));
        status = lks_comm_agree(t->context->comm, lks_failure_tell(&t->failure));
    }
    *out_seconds = (lks_clock_seconds() - began) / (double)steps;
    return status;
}

/* From the last step of the warm-up; rank 0's clock counts. Collective. */
static lks_status choose_steps(trial *trial, double step_seconds) {
    const double fit = round_seconds / step_seconds;
    trial->steps = fit >= MOST_STEPS ? MOST_STEPS : fit > 1 ? (int64_t)fit : 1;
    return lks_comm_broadcast(lks_context_comm(trial->context), &trial->steps, sizeof trial->steps,
                              0);
}

/* Undefined in a trial that is halted. */
static lks_status time_step(trial *trial, lks_trainer *t, double *out_seconds) {
    double seconds;
    lks_status status = LKS_OK;
    for (int i = 0; i < WARM_UP_STEPS && status == LKS_OK; i++)
        status = run_steps(t, 1, &seconds);
    if (status == LKS_OK && trial->steps == 0) status = choose_steps(trial, seconds);
    for (int round = 0; round < ROUNDS && status == LKS_OK; round++) {
        status = run_steps(t, trial->steps, &seconds);
        if (round == 0 || seconds < *out_seconds) *out_seconds = seconds;
    }
    return status;
}

/* ---- all of them ---- */

static lks_status try_size(trial *trial, int index, lks_bucket_trial *out) {
    lks_trainer *t = NULL;
    lks_status status = open_trainer(trial, out->bytes[index], &t);
    if (status == LKS_OK) status = time_step(trial, t, &out->seconds[index]);
    if (status == LKS_OK) trial->halted = is_halted(t);
    lks_trainer_destroy(t);
    return status;
}

/* Fills out->bytes: of a model that is built once to see how it would be cut. */
static lks_status find_sizes(const trial *trial, lks_bucket_trial *out) {
    lks_trainer *t = NULL;
    lks_status status = open_trainer(trial, LKS_BUCKET_BYTES_DEFAULT, &t);
    if (status == LKS_OK) status = choose_sizes(t, out);
    lks_trainer_destroy(t);
    return status;
}

/* Ranks of which only some try sizes would not meet where the rest of a run is compared.
 * Collective. */
static lks_status check_all_say_auto(lks_comm *comm, bool mine) {
    int64_t first = mine;
    lks_status status = lks_comm_broadcast(comm, &first, sizeof first, 0);
    if (status != LKS_OK) return status;
    if (mine != (first != 0))
        status = lks_fail(LKS_EDIFFER,
                          "this rank %s \"bucket_bytes: auto\", rank 0 %s: all ranks must run the "
                          "same",
                          mine ? "has" : "does not have", mine ? "does not" : "does");
    return lks_comm_agree(comm, status);
}

lks_status lks_bucket_trial_run(lks_context *context, const lks_layer_spec *layers,
                                const lks_shape *input, lks_dataset *train,
                                const lks_train_config *config, lks_bucket_trial *out) {
    lks_comm *comm = lks_context_comm(context);
    trial trial = {context, layers, input, train, config, 0, false};
    const bool is_auto = config->bucket_bytes == LKS_BUCKET_BYTES_AUTO;
    *out = (lks_bucket_trial){.bucket_bytes =
                                  is_auto ? LKS_BUCKET_BYTES_DEFAULT : config->bucket_bytes};
    lks_status status = check_all_say_auto(comm, is_auto);
    if (status != LKS_OK || !is_auto || train == NULL || lks_comm_size(comm) == 1 ||
        lks_device_is_measuring(lks_context_device(context)))
        return status;
    status = find_sizes(&trial, out);
    if (status == LKS_OK && out->count == 1) out->count = 0;
    for (int i = 0; i < out->count && status == LKS_OK && !trial.halted; i++)
        status = try_size(&trial, i, out);
    if (trial.halted) out->count = 0;
    if (status != LKS_OK) return lks_fail_in(status, "bucket_bytes: auto");
    for (int i = 0, best = 0; i < out->count; i++) {
        if (out->seconds[i] < out->seconds[best]) best = i;
        out->bucket_bytes = out->bytes[best];
    }
    return lks_comm_broadcast(comm, out, sizeof *out, 0);
}
