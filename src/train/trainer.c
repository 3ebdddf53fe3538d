#include <math.h>
#include <stdlib.h>

#include "train/compare.h"
#include "train/record.h"
#include "train/same.h"
#include "train/saver.h"
#include "train/trainer.h"

/* ---- the trainer's own copy of the configuration ---- */

static lks_status copy_spec(lks_spec *spec) {
    const lks_spec from = *spec;
    *spec = (lks_spec){lks_strdup(from.type), lks_strdup(from.options), lks_strdup(from.where)};
    bool copied = (from.type == NULL || spec->type != NULL) &&
                  (from.options == NULL || spec->options != NULL) &&
                  (from.where == NULL || spec->where != NULL);
    return copied ? LKS_OK : lks_fail(LKS_ENOMEM, "the configuration: out of host memory");
}

static void free_spec(lks_spec *spec) {
    free((char *)spec->type);
    free((char *)spec->options);
    free((char *)spec->where);
}

static lks_status copy_text(const char **text) {
    const char *from = *text;
    *text = lks_strdup(from);
    return from == NULL || *text != NULL
               ? LKS_OK
               : lks_fail(LKS_ENOMEM, "the configuration: out of host memory");
}

/* Copies every part even after a failure, so that free_config never sees the caller's strings. */
static lks_status copy_config(lks_train_config *out, const lks_train_config *config) {
    *out = *config;
    lks_status results[] = {
        copy_spec(&out->loss),
        copy_spec(&out->optimizer),
        copy_spec(&out->schedule),
        copy_text(&out->early_stopping),
        copy_text(&out->data),
        copy_text(&out->checkpoint),
        copy_text(&out->gradients),
        copy_text(&out->output),
        copy_text(&out->run_file),
        copy_text(&out->no_decay),
        lks_param_groups_copy_list(config->groups, &out->groups),
    };
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        if (results[i] != LKS_OK) return results[i];
    return LKS_OK;
}

static void free_config(lks_train_config *config) {
    free_spec(&config->loss);
    free_spec(&config->optimizer);
    free_spec(&config->schedule);
    free((char *)config->early_stopping);
    free((char *)config->data);
    free((char *)config->checkpoint);
    free((char *)config->gradients);
    free((char *)config->output);
    free((char *)config->run_file);
    free((char *)config->no_decay);
    lks_param_groups_free_list(config->groups);
}

static lks_status parse_settings(lks_trainer *t) {
    const lks_train_config *c = &t->config;
    lks_status status =
        lks_options_parse(&lks_data_settings_options, &t->data_settings, c->data, "data");
    if (status == LKS_OK)
        status = lks_checkpoint_settings_parse(c->checkpoint, &t->checkpoint_settings);
    if (status == LKS_OK)
        status = lks_options_parse(&lks_gradient_settings_options, &t->gradient_settings,
                                   c->gradients, "gradients");
    if (status == LKS_OK)
        status = lks_options_parse(&lks_early_stopping_options, &t->stopping_config,
                                   c->early_stopping, "early_stopping");
    t->stopping_config.enabled = c->early_stopping != NULL;
    t->stopping = lks_early_stopping_start(&t->stopping_config);
    return status;
}

/* ---- what must hold before anything is built ---- */

static lks_status check_scalars(const lks_trainer *t) {
    const lks_train_config *c = &t->config;
    int size = lks_comm_size(t->context->comm);
    if (c->batch_size < size)
        return lks_fail(LKS_ECONFIG,
                        "batch_size: %lld is smaller than the number of ranks, %d: every rank "
                        "needs at least one "
                        "sample of each batch; raise batch_size or start fewer ranks",
                        (long long)c->batch_size, size);
    if (c->epochs < 1)
        return lks_fail(LKS_ECONFIG, "epochs: %lld is out of range: expected 1 or more",
                        (long long)c->epochs);
    if (c->micro_batch_size < 0)
        return lks_fail(LKS_ECONFIG, "micro_batch_size: %lld is out of range: expected 0 or more",
                        (long long)c->micro_batch_size);
    if (c->zero_stage < 0 || c->zero_stage > 2)
        return lks_fail(LKS_ECONFIG, "zero_stage: %lld is out of range: expected 0, 1 or 2",
                        (long long)c->zero_stage);
    if (c->grad_reduce_dtype < 0 || c->grad_reduce_dtype > LKS_GRAD_REDUCE_BF16)
        return lks_fail(LKS_ECONFIG,
                        "grad_reduce_dtype: %d is unknown: expected an lks_grad_reduce",
                        c->grad_reduce_dtype);
    return LKS_OK;
}

lks_dtype lks_trainer_sum_type(const lks_trainer *t) {
    switch ((lks_grad_reduce)t->config.grad_reduce_dtype) {
    case LKS_GRAD_REDUCE_FP32:
        return LKS_F32;
    case LKS_GRAD_REDUCE_BF16:
        return LKS_BF16;
    case LKS_GRAD_REDUCE_AUTO:
        break;
    }
    return lks_device_dtype(t->context->device);
}

lks_status lks_trainer_check_dataset(lks_trainer *t, lks_dataset *dataset) {
    char have[LKS_SHAPE_TEXT_BYTES], want[LKS_SHAPE_TEXT_BYTES];
    const lks_shape *input = lks_graph_input_shape(t->graph),
                    *output = lks_graph_output_shape(t->graph);
    if (!lks_shape_equal(lks_dataset_input_shape(dataset), input))
        return lks_fail(LKS_ESHAPE, "%s: its samples have the shape %s, the model takes %s",
                        lks_dataset_describe(dataset),
                        lks_shape_text(lks_dataset_input_shape(dataset), have),
                        lks_shape_text(input, want));

    lks_target_kind kind = lks_dataset_target_kind(dataset);
    if (kind == LKS_TARGET_NONE)
        return lks_fail(LKS_EDATA, "%s: it has no targets, which training and validation need",
                        lks_dataset_describe(dataset));
    if (lks_graph_targets_are_classes(t->graph)) {
        if (kind != LKS_TARGET_CLASSES)
            return lks_fail(LKS_EDATA,
                            "%s: the loss %s takes integer class labels [n], but the targets are "
                            "values of the shape %s each",
                            lks_dataset_describe(dataset), t->config.loss.type,
                            lks_shape_text(lks_dataset_target_shape(dataset), have));
        return lks_dataset_check_labels(dataset, output->dim[0], lks_graph_ignore_index(t->graph));
    }
    if (kind != LKS_TARGET_VALUES)
        return lks_fail(LKS_EDATA,
                        "%s: the loss %s takes float targets, but the targets are integer labels",
                        lks_dataset_describe(dataset), t->config.loss.type);
    int64_t target_count;
    lks_status status = lks_shape_count(lks_dataset_target_shape(dataset), &target_count);
    if (status == LKS_OK && target_count != t->output_count)
        status = lks_fail(
            LKS_ESHAPE, "%s: its targets have the shape %s, the model's output has %s",
            lks_dataset_describe(dataset), lks_shape_text(lks_dataset_target_shape(dataset), have),
            lks_shape_text(output, want));
    return status;
}

/* ---- building: local work alone, so that one agreement at the end suffices ---- */

static lks_status alloc_device(lks_trainer *t, size_t count, size_t element_bytes, void **out) {
    lks_device *device = t->context->device;
    size_t bytes;
    if (!lks_size_mul(count, element_bytes, &bytes))
        return lks_fail(LKS_ENOMEM,
                        "%zu elements of %zu bytes are more than this machine can address", count,
                        element_bytes);
    lks_status status = lks_device_alloc(device, bytes, out);
    if (status == LKS_OK)
        status =
            lks_device_zero(device, lks_device_stream(device, LKS_STREAM_COMPUTE), *out, bytes);
    return status;
}

/* Batch norm over the global batch: sums over all ranks, called by the engine in the middle of
 * forward and backward. */
static lks_status all_reduce_statistics(void *data, double *values, int64_t count,
                                        lks_stream *stream) {
    lks_trainer *t = data;
    (void)stream; /* the communicator works for the compute stream, too */
    lks_comm_set_label(t->context->comm, "statistics of a batch norm", -1);
    return lks_comm_all_reduce(t->context->comm, values, count, LKS_F64, LKS_REDUCE_SUM);
}

static lks_status build_graph(lks_trainer *t, const lks_layer_spec *layers,
                              const lks_shape *input) {
    lks_comm *comm = t->context->comm;
    int64_t begin, end;
    lks_split(t->config.batch_size, 0, lks_comm_size(comm), &begin,
              &end); /* part 0 is a largest one */
    int64_t micro = t->config.micro_batch_size;
    t->max_rows = micro > 0 && micro < end - begin ? micro : end - begin;
    lks_graph_config config = {
        .seed = t->config.seed,
        .max_batch = t->max_rows,
        .inference_only = t->train_data == NULL,
        .all_reduce = lks_comm_size(comm) > 1 ? all_reduce_statistics : NULL,
        .all_reduce_data = t,
        .is_frozen = lks_param_groups_is_frozen,
        .float32_grads = lks_trainer_sum_type(t) == LKS_F32,
        .trainable_multiple = (int64_t)lks_comm_size(comm) * LKS_SHARD_ALIGN,
    };
    const lks_spec *loss = t->config.loss.type == NULL ? NULL : &t->config.loss;
    lks_status status = lks_param_groups_create(&t->config, &t->groups);
    config.is_frozen_data = t->groups;
    if (status == LKS_OK)
        status = lks_graph_create(t->context->device, layers, input, loss, &config, &t->graph);
    if (status == LKS_OK) status = lks_param_groups_assign(t->groups, t->graph);
    if (status == LKS_OK)
        status = lks_shape_count(lks_graph_input_shape(t->graph), &t->input_count);
    if (status == LKS_OK)
        status = lks_shape_count(lks_graph_output_shape(t->graph), &t->output_count);
    return status;
}

lks_status lks_trainer_open_loader(lks_trainer *t, lks_dataset *dataset, bool training,
                                   lks_loader **out) {
    lks_loader_config config = {
        .seed = t->config.seed,
        .batch_size = t->config.batch_size,
        .rank = lks_comm_rank(t->context->comm),
        .size = lks_comm_size(t->context->comm),
        .training = training,
        .settings = &t->data_settings,
        .layout = lks_graph_input_layout(t->graph),
    };
    return lks_loader_create(dataset, t->context->device, &config, out);
}

lks_status lks_trainer_plan_shards(const lks_trainer *t, int64_t bucket_bytes,
                                   lks_shard_plan **out) {
    const lks_comm *comm = t->context->comm;
    /* The plan counts a bucket's bytes in float32, the options in what is sent. */
    const int64_t scale = (int64_t)(sizeof(float) / lks_dtype_bytes(lks_trainer_sum_type(t)));
    return lks_shard_plan_create(lks_graph_trainable_count(t->graph), scale * bucket_bytes,
                                 scale * t->config.first_bucket_bytes, (int)t->config.zero_stage,
                                 lks_comm_rank(comm), lks_comm_size(comm), out);
}

/* Rank r writes its part of every bucket to checkpoints also when it updates all of it, so the plan
 * exists for inference too. For training the exchange binds the graph, to its gradients as well. */
static lks_status build_parameters(lks_trainer *t) {
    lks_status status = lks_trainer_plan_shards(t, t->config.bucket_bytes, &t->plan);
    if (status == LKS_OK)
        status = lks_param_store_create(t->context->device, t->plan, t->graph, &t->params);
    if (status == LKS_OK && t->train_data == NULL)
        status = lks_graph_bind(t->graph, t->params.flat, NULL);
    return status;
}

/* A step's numbers, on the device and here. */
static lks_status build_step_block(lks_trainer *t) {
    const size_t count = (size_t)t->step_sum_count;
    t->step_block_bytes =
        (count + 2) * sizeof(double) + sizeof(lks_step_counters) + sizeof(lks_update_control);
    lks_status status = alloc_device(t, t->step_block_bytes, 1, (void **)&t->step_sums);
    if (status == LKS_OK)
        status = lks_device_alloc_host(t->context->device, t->step_block_bytes,
                                       (void **)&t->step_sums_host);
    if (status != LKS_OK) return status;
    t->counters = (lks_step_counters *)(t->step_sums + count);
    t->norm_parts = (double *)(t->counters + 1);
    t->control = (lks_update_control *)(t->norm_parts + 2);
    t->counters_host = (lks_step_counters *)(t->step_sums_host + count);
    t->norm_parts_host = (double *)(t->counters_host + 1);
    t->control_host = (lks_update_control *)(t->norm_parts_host + 2);
    return lks_event_create(t->context->device, &t->decided);
}

/* What rank 0 decides for a step. */
static lks_status build_rates(lks_trainer *t) {
    int groups = lks_rates_group_count(t->rates);
    t->step_sum_count = LKS_STEP_RATES + 2 * groups;
    t->group_rates = calloc((size_t)groups, sizeof(lks_group_rates));
    t->rates_state = calloc((size_t)lks_rates_state_count(t->rates) + 1, sizeof(double));
    if (t->group_rates == NULL || t->rates_state == NULL)
        return lks_fail(LKS_ENOMEM, "the rates of %d groups: out of host memory", groups);
    return LKS_OK;
}

static lks_status build_training(lks_trainer *t) {
    lks_context *context = t->context;
    const lks_optimizer_groups groups = lks_param_groups_optimizer(t->groups);
    const lks_schedule_lambda lambda = {t->config.lr_lambda, t->config.lr_lambda_data};
    lks_status status = lks_trainer_open_loader(t, t->train_data, true, &t->loader);
    if (status == LKS_OK)
        status = lks_feed_create(context->device, t->loader, (size_t)t->input_count * sizeof(float),
                                 lks_trainer_target_bytes(t), &t->feed);
    if (status == LKS_OK)
        status = lks_optimizer_create(context->device, &groups, t->plan, &t->optimizer);
    if (status == LKS_OK)
        status = lks_rates_create(&t->config.schedule, &lambda, t->optimizer, &t->rates);
    if (status == LKS_OK) status = build_rates(t);
    if (status == LKS_OK)
        status = lks_exchange_create(&(lks_exchange_parts){.comm = context->comm,
                                                           .device = context->device,
                                                           .plan = t->plan,
                                                           .optimizer = t->optimizer,
                                                           .graph = t->graph,
                                                           .params = &t->params,
                                                           .sum_type = lks_trainer_sum_type(t),
                                                           .overlap = t->config.overlap,
                                                           .failure = &t->failure},
                                     &t->exchange);
    if (status == LKS_OK && t->stopping_config.enabled && t->stopping_config.restore_best) {
        t->best_params = malloc((size_t)t->params.trained_count * sizeof(float));
        t->best_buffers =
            malloc((size_t)lks_graph_buffers_flat_count(t->graph) * sizeof(float) + 1);
        if (t->best_params == NULL || t->best_buffers == NULL)
            status =
                lks_fail(LKS_ENOMEM,
                         "early_stopping.restore_best: out of host memory for a copy of the model");
    }
    return status;
}

static lks_status build(lks_trainer *t, const lks_layer_spec *layers, const lks_shape *input) {
    lks_status status = parse_settings(t);
    if (status == LKS_OK) status = check_scalars(t);
    if (status == LKS_OK) status = build_graph(t, layers, input);
    if (status == LKS_OK && t->train_data != NULL)
        status = lks_trainer_check_dataset(t, t->train_data);
    if (status == LKS_OK && t->validation_data != NULL)
        status = lks_trainer_check_dataset(t, t->validation_data);
    if (status == LKS_OK) status = build_parameters(t);
    if (status == LKS_OK) status = lks_sync_check_create(t, &t->sync_check);
    if (status == LKS_OK)
        status = alloc_device(t, LKS_LOSS_SUM_COUNT, sizeof(double), (void **)&t->epoch_sums);
    if (status == LKS_OK) status = lks_event_create(t->context->device, &t->copied);
    t->step_sum_count = LKS_STEP_RATES;
    if (status == LKS_OK && t->train_data != NULL) status = build_training(t);
    if (status == LKS_OK) status = build_step_block(t);
    if (status == LKS_OK && t->train_data != NULL && t->config.cuda_graph)
        status = lks_step_recorder_create(t, &t->recorder);
    if (status == LKS_OK && t->validation_data != NULL)
        status = lks_trainer_open_loader(t, t->validation_data, false, &t->validation_loader);
    if (t->train_data == NULL) return status;
    if (status == LKS_OK) status = lks_sample_hash(t->train_data, &t->sample_hash);
    if (t->config.output == NULL) return status;
    if (status == LKS_OK) status = lks_saver_create(t, &t->saver);
    if (status == LKS_OK && lks_comm_rank(t->context->comm) == 0)
        status = lks_run_dir_create(t->config.output, t->config.run_file, &t->context->logger,
                                    &t->run_dir);
    return status;
}

lks_status lks_trainer_build(lks_context *context, const lks_layer_spec *layers,
                             const lks_shape *input, lks_dataset *train, lks_dataset *validation,
                             const lks_train_config *config, lks_trainer **out) {
    lks_status status = LKS_OK;
    lks_trainer *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        status = lks_fail(LKS_ENOMEM, "the trainer: out of host memory");
    } else {
        t->context = context;
        t->train_data = train;
        t->validation_data = validation;
        t->best_value = NAN;
        status = copy_config(&t->config, config);
        if (status == LKS_OK) status = build(t, layers, input);
    }
    status = lks_comm_agree(context->comm, status);
    if (status == LKS_OK) status = lks_trainer_check_same(t, layers);
    if (status == LKS_OK)
        *out = t;
    else
        lks_trainer_destroy(t);
    return status;
}

lks_status lks_trainer_create(lks_context *context, const lks_layer_spec *layers,
                              const lks_shape *input, lks_dataset *train, lks_dataset *validation,
                              const lks_train_config *config, lks_trainer **out) {
    if (context == NULL || layers == NULL || input == NULL || config == NULL || out == NULL)
        return lks_fail(
            LKS_EINVAL,
            "lks_trainer_create: context, layers, input, config and out must not be NULL");

    lks_train_config settled = *config;
    lks_bucket_trial trial;
    lks_trainer *t = NULL;
    lks_status status = lks_bucket_trial_run(context, layers, input, train, config, &trial);
    settled.bucket_bytes = trial.bucket_bytes;
    if (status == LKS_OK)
        status = lks_trainer_build(context, layers, input, train, validation, &settled, &t);
    if (status == LKS_OK) status = lks_trainer_log_startup(t, &trial);
    if (status == LKS_OK) {
        *out = t;
        t = NULL;
    }
    lks_trainer_destroy(t);
    return status;
}

void lks_trainer_destroy(lks_trainer *t) {
    if (t == NULL) return;
    lks_device *device = t->context->device;
    lks_profile_destroy(t->profile);
    if (lks_saver_settle(t) != LKS_OK)
        lks_log(&t->context->logger, LKS_LOG_WARNING, "%s", lks_last_error());
    lks_saver_destroy(t);
    lks_run_dir_destroy(t->run_dir);
    lks_feed_destroy(t->feed);
    lks_loader_destroy(t->loader);
    lks_loader_destroy(t->validation_loader);
    (void)lks_comm_wait(t->context->comm, t->sums_request); /* after a failure */
    lks_exchange_destroy(t->exchange);
    lks_rates_destroy(t->rates);
    free(t->group_rates);
    free(t->rates_state);
    lks_optimizer_destroy(t->optimizer);
    lks_shard_plan_destroy(t->plan);
    lks_sync_check_destroy(t->sync_check);
    lks_graph_destroy(t->graph);
    lks_param_groups_destroy(t->groups);
    lks_step_recorder_destroy(t->recorder);
    lks_event_destroy(t->copied);
    lks_event_destroy(t->decided);
    lks_param_store_destroy(&t->params);
    lks_device_free(device, t->step_sums);
    lks_device_free(device, t->epoch_sums);
    lks_device_free_host(device, t->step_sums_host);
    free(t->best_params);
    free(t->best_buffers);
    free(t->history);
    free(t->epoch_lost);
    lks_options_free(&lks_data_settings_options, &t->data_settings);
    lks_options_free(&lks_gradient_settings_options, &t->gradient_settings);
    lks_options_free(&lks_checkpoint_settings_options, &t->checkpoint_settings);
    lks_options_free(&lks_early_stopping_options, &t->stopping_config);
    free_config(&t->config);
    free(t);
}

lks_fit_end lks_trainer_end(const lks_trainer *t) {
    return t->end;
}

int64_t lks_trainer_epochs_done(const lks_trainer *t) {
    return t->position.epoch;
}

const lks_epoch_result *lks_trainer_history(const lks_trainer *t, int64_t *out_count) {
    *out_count = t->history_count;
    return t->history;
}
